"""The parts of recordings without speech: the very samples, resumable, honest about what is missing."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dino_speech.audio.io import load_audio
from dino_speech.audio.vad import EnergyVAD
from dino_speech.data.manifest import Manifest, read_manifest
from dino_speech.data.silence import write_nonspeech
from dino_speech.errors import InputError


@pytest.fixture
def talks(tmp_path: Path, tone: Callable[..., np.ndarray]) -> Manifest:
    """Patients pause for 1.5 s, controls for 1.0 s; one control does not pause, one pause is digital silence."""
    rng = np.random.default_rng(0)
    rows = ["ID,duration,wav,speaker,diagnosis"]
    for number in range(6):
        kind = "ad" if number < 3 else "control"
        pause = 1e-4 * rng.standard_normal(24_000 if kind == "ad" else 16_000)
        pause = {4: pause[:0], 5: 0 * pause}.get(number, pause)
        wave = np.concatenate([tone(0.8, seed=number), pause, tone(0.5, seed=9)]).astype(np.float32)
        soundfile.write(tmp_path / f"{number}.wav", wave, 16_000, subtype="FLOAT")
        rows.append(f"{kind}/{number},{len(wave) / 16_000},{number}.wav,s{number},{kind}")
    (tmp_path / "talks.csv").write_text("\n".join(rows) + "\n")
    return read_manifest(tmp_path / "talks.csv")


def test_pauses_are_written_sample_by_sample(talks: Manifest, tmp_path: Path) -> None:
    parts = write_nonspeech(talks, tmp_path / "silence")
    assert [u.id for u in parts.manifest] == ["ad/0", "ad/1", "ad/2", "control/3"]
    again = read_manifest(tmp_path / "silence" / "manifest.csv", must_exist=True)
    assert [(u.id, u.labels) for u in again] == [(u.id, u.labels) for u in parts.manifest]
    pause = load_audio(again[0].wav).numpy()
    assert 1.1 < again[0].duration < 1.5 - 2 * 0.1 + 0.01
    assert again[0].duration == pytest.approx(len(pause) / 16_000, abs=1e-6)
    whole = load_audio(talks[0].wav).numpy()
    start = int(np.flatnonzero(whole == pause[0])[0])
    assert np.array_equal(whole[start : start + len(pause)], pause)
    assert np.abs(pause).max() < 1e-3


def test_speech_is_the_rest(talks: Manifest, tmp_path: Path) -> None:
    speech = write_nonspeech(talks, tmp_path / "speech", part="speech")
    pauses = write_nonspeech(talks, tmp_path / "silence", margin_s=0.0, min_s=0.01)
    for one, other in zip(speech.recordings, pauses.recordings, strict=True):
        assert one.part_s + other.part_s == pytest.approx(one.total_s)
    assert len(speech.manifest) == 6


def test_what_is_missing_is_counted_by_class(talks: Manifest, tmp_path: Path) -> None:
    parts = write_nonspeech(talks, tmp_path / "silence")
    assert {r.id: r.problem for r in parts.missing()} == {"control/4": "short", "control/5": "digital silence"}
    assert parts.missing_by_class("diagnosis") == {"ad": (0, 3), "control": (2, 3)}
    assert parts.fraction_auc("diagnosis", "ad") == 1.0
    assert parts.fraction_auc("diagnosis", "control") == 0.0
    found = json.loads(json.dumps(parts.to_dict()))
    assert (found["num_recordings"], found["num_written"], found["num_missing"]) == (6, 4, 2)


def test_a_stopped_run_goes_on(talks: Manifest, tmp_path: Path) -> None:
    whole = write_nonspeech(talks, tmp_path / "whole")
    folder = tmp_path / "stopped"
    write_nonspeech(talks[:3], folder)
    with (folder / "parts.csv").open("a") as file:
        file.write("torn line,ad/")  # what a kill leaves
    kept = folder / "audio" / "ad%2F0.wav"
    before = kept.stat().st_mtime_ns
    (folder / "audio" / "ad%2F1.wav").unlink()
    resumed = write_nonspeech(talks, folder)
    assert kept.stat().st_mtime_ns == before
    assert resumed.recordings == whole.recordings
    assert (folder / "manifest.csv").read_text() == (tmp_path / "whole" / "manifest.csv").read_text()
    assert not list(folder.rglob("*.tmp"))


def test_other_settings_and_strange_folders_are_refused(talks: Manifest, tmp_path: Path) -> None:
    write_nonspeech(talks, tmp_path / "silence")
    with pytest.raises(InputError, match=r"other settings \(vad\)"):
        write_nonspeech(talks, tmp_path / "silence", vad=EnergyVAD(context=0))
    with pytest.raises(InputError, match="does not come from this command"):
        write_nonspeech(talks, tmp_path)
    with pytest.raises(InputError, match="expected 'nonspeech' or 'speech'"):
        write_nonspeech(talks, tmp_path / "other", part="silence")
    with pytest.raises(InputError, match="min_s=0"):
        write_nonspeech(talks, tmp_path / "other", min_s=0)


def test_bad_files_are_listed_and_strange_ids_stay_in_the_folder(talks: Manifest, tmp_path: Path) -> None:
    (tmp_path / "1.wav").write_bytes(b"nothing")
    rows = (tmp_path / "talks.csv").read_text().replace("ad/0", "../../" + "x" * 300)
    (tmp_path / "talks.csv").write_text(rows)
    parts = write_nonspeech(read_manifest(tmp_path / "talks.csv"), tmp_path / "silence")
    assert [item.name for item in parts.skipped] == ["ad/1"]
    assert parts.manifest[0].id.startswith("../../x")
    assert Path(parts.manifest[0].wav).parent == tmp_path / "silence" / "audio"


def test_recordings_without_pauses(talks: Manifest, tmp_path: Path) -> None:
    parts = write_nonspeech(talks.subset([4]), tmp_path / "silence")
    assert len(parts.manifest) == 0
    assert not (tmp_path / "silence" / "manifest.csv").exists()
