"""A system that a text joins: on disk and back, from Python and from the command line, judged like any other."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from dino_speech import (
    AudioTextTuner,
    build_encoder,
    evaluate_finetuned,
    evaluate_robustness,
    load_audio_text,
    load_finetuned,
    measure_efficiency,
    read_manifest,
)
from dino_speech.cli.main import main
from dino_speech.data.manifest import Manifest
from dino_speech.errors import InputError
from dino_speech.transfer.audio_text.system import load_system

LOOP: dict[str, Any] = {"batch_size": 12, "chunk_s": 0.5, "num_workers": 0, "precision": "fp32", "steps": 3}
SMALL = {"channels": 8, "attention_channels": 8, "se_channels": 8}


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """12 files of 3 speakers with two dimensions and what was said; one says nothing."""
    rng = np.random.default_rng(0)
    rows = ["ID,duration,wav,speaker,sex,arousal,valence,transcript"]
    for number in range(12):
        soundfile.write(tmp_path / f"{number}.wav", (0.1 * rng.standard_normal(9_000)).astype(np.float32), 16_000)
        said = "" if number == 3 else f"word {'good' if number % 2 else 'bad'}"
        cells = (f"u{number}", 0.5625, f"{number}.wav", f"s{number // 4}", "FM"[number % 2], number % 5, number % 3)
        rows.append(",".join(map(str, (*cells, said))))
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    return read_manifest(tmp_path / "manifest.csv")


@pytest.fixture
def fit(manifest: Manifest, tmp_path: Path) -> Callable[..., AudioTextTuner]:
    """`fit(transcript=None)` leaves a system at `out/system`."""

    def make(**changes: Any) -> AudioTextTuner:
        options = {"labels": ["arousal", "valence"], "transcript": "transcript", "num_buckets": 64, "text_dim": 8}
        encoder = build_encoder("ecapa_tdnn", embedding_dim=8, seed=0, **SMALL)
        tuner = AudioTextTuner(encoder, **{**options, **LOOP, **changes})
        return tuner.fit(manifest, output_folder=tmp_path / "out")

    return make


@pytest.mark.parametrize("transcript", ["transcript", None])
def test_a_system_from_disk_says_the_same(
    transcript: str | None, fit: Callable[..., AudioTextTuner], manifest: Manifest, tmp_path: Path
) -> None:
    tuner = fit(transcript=transcript)
    system = load_audio_text(tmp_path / "out")
    expected, found = tuner.predict(manifest), system.predict(manifest)
    assert found.ids == expected.ids
    assert np.array_equal(found.values, expected.values)
    assert system.relevance() == tuner.relevance_ == {"arousal": [1.0], "valence": [1.0]}
    assert system.provenance["fine_tuning"]["transcript"] == transcript
    assert {path.name for path in (tmp_path / "out" / "system").iterdir()} == {
        *("system.json", "readout.safetensors", "encoder"),
    }
    assert isinstance(load_system(tmp_path / "out" / "system"), type(system))
    report = evaluate_finetuned(system, manifest)
    assert set(report.ccc) == {"arousal", "valence"}
    cost = measure_efficiency(system, seconds=1.0, num_rounds=1)
    assert cost.num_parameters == tuner.num_parameters_["all"]


def test_the_text_is_taken_from_where_it_is(
    fit: Callable[..., AudioTextTuner], manifest: Manifest, tmp_path: Path
) -> None:
    fit()
    system = load_audio_text(tmp_path / "out")
    whole = system.predict(manifest).values
    paths = [utterance.wav for utterance in manifest]
    given = system.predict(paths, texts=manifest.label("transcript")).values
    assert np.array_equal(given, whole)
    one = system.predict_file(paths[1], "word good").values
    assert one == pytest.approx({"arousal": whole[1, 0], "valence": whole[1, 1]}, abs=1e-5)
    other = system.predict_file(paths[1], "bad").values
    assert other["arousal"] == one["arousal"]  # the text joins for valence alone
    assert other["valence"] != one["valence"]
    cure = r"no text in a column 'transcript', which this system joins to the sound; give a manifest with this column"
    with pytest.raises(InputError, match=cure):
        system.predict_file(paths[1])
    with pytest.raises(InputError, match=cure):
        system.predict([replace(utterance, labels={"speaker": "s0"}) for utterance in manifest])
    with pytest.raises(InputError, match="expected a text for each of 12 recordings"):
        system.predict(paths, texts=["good"])


def test_noise_is_put_on_the_sound_alone(fit: Callable[..., AudioTextTuner], manifest: Manifest) -> None:
    system = fit().system_
    report = evaluate_robustness(system, manifest, conditions=["gain_-20db", "white_noise_0db"])
    assert report.metric == "ccc"
    assert [row["name"] for row in report.to_dict()["conditions"]] == ["gain_-20db", "white_noise_0db"]


@pytest.mark.slow
def test_the_command(
    fit: Callable[..., AudioTextTuner], manifest: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit()
    system, csv_file = str(tmp_path / "out"), str(tmp_path / "manifest.csv")
    assert main(["predict", csv_file, "--system", system, "--output", str(tmp_path / "said.csv"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["dimensions"] == ["arousal", "valence"]
    assert answer["rule"] == "whole recordings, joined by the text of 'transcript'"
    with (tmp_path / "said.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["ID"] for row in rows] == [utterance.id for utterance in manifest]
    wave = str(tmp_path / "1.wav")
    assert main(["predict", wave, "--system", system, "--text", "word good", "--json"]) == 0
    one = json.loads(capsys.readouterr().out.splitlines()[-1])["predictions"][0]
    assert one["valence"] == pytest.approx(float(rows[1]["valence"]), abs=1e-5)
    for words, code, message in (
        ([wave], 1, "or the text itself"),
        ([csv_file, "--text", "hello"], 2, "one text, but 12 recordings"),  # an option that does not fit
    ):
        assert main(["predict", *words, "--system", system]) == code
        assert message in capsys.readouterr().err
    words = ["evaluate", "fairness", "--encoder", f"{system}/system", "--manifest", csv_file]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["metric"] == "ccc"


def test_damaged_folders_are_named(fit: Callable[..., AudioTextTuner], tmp_path: Path) -> None:
    fit()
    folder = tmp_path / "out" / "system"
    with pytest.raises(InputError, match="this is no fine-tuned system of ours"):
        load_finetuned(folder)
    with pytest.raises(InputError, match="cannot be read"):
        load_audio_text(tmp_path)
    content = json.loads((folder / "system.json").read_text())
    (folder / "system.json").write_text(json.dumps(content | {"format_version": 9}))
    with pytest.raises(InputError, match="format version 9"):
        load_audio_text(folder)
    (folder / "system.json").write_text(json.dumps(content | {"readout": {**content["readout"], "width": 9}}))
    with pytest.raises(InputError, match="incomplete or damaged"):
        load_audio_text(folder)


def test_text_for_a_system_without_one_is_refused(
    fit: Callable[..., AudioTextTuner], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(transcript=None)
    system = load_audio_text(tmp_path / "out")
    assert system.predict_file(tmp_path / "1.wav").values.keys() == {"arousal", "valence"}
    with torch.no_grad():
        assert system.network(torch.randn(2, 8_000)).shape == (2, 2)
    assert main(["predict", str(tmp_path / "1.wav"), "--system", str(tmp_path / "out"), "--text", "x"]) == 2
    assert "no text joins the system" in capsys.readouterr().err
