"""What the quickstart takes of a person's files: found, checked, split without a shared speaker, stated."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dino_speech.data.manifest import read_manifest
from dino_speech.data.trials import read_trials
from dino_speech.errors import InputError
from dino_speech.quickstart import data as quickstart_data
from dino_speech.quickstart.data import choose_label, own_data, synthetic_data


@pytest.fixture
def many_voices(write_wav: Callable[..., Path], tone: Callable[..., np.ndarray], tmp_path: Path) -> Path:
    """10 speakers x 4 files of noisy tones in folders named after them, with a manifest that has labels."""
    rows = ["ID,duration,wav,speaker,emotion,city"]
    for speaker in range(10):
        for take in range(4):
            name = f"many/s{speaker}/{take}.wav"
            write_wav(name, tone(0.6, hz=100 + 20 * speaker, seed=10 * speaker + take))
            emotion = ("calm", "joy")[take % 2]
            rows.append(f"s{speaker}_{take},0.6,s{speaker}/{take}.wav,s{speaker},{emotion},city{speaker}")
    (tmp_path / "many" / "manifest.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "many"


def test_manifest_is_split_by_speaker_with_trials_and_a_label(many_voices: Path, tmp_path: Path) -> None:
    data = own_data(many_voices / "manifest.csv", tmp_path / "out", seed=1)
    train, test = set(data.train.label("speaker")), set(data.test.label("speaker"))
    assert (len(train), len(test)) == (7, 3)
    assert train.isdisjoint(test)
    assert data.label == "emotion"
    assert not data.synthetic
    assert data.trials_path is not None
    trials = read_trials(data.trials_path)
    speaker_of = {utterance.id: utterance.labels["speaker"] for utterance in data.test}
    for label, enroll, other in zip(trials.labels, trials.enroll, trials.test, strict=True):
        assert (speaker_of[enroll] == speaker_of[other]) == bool(label)
    assert [u.id for u in read_manifest(data.test_path)] == [u.id for u in data.test]
    assert [u.wav for u in read_manifest(data.train_path)] == [u.wav for u in data.train]
    assert any("rough" in note for note in data.notes), "few unseen speakers are called so"


def test_same_seed_same_split(many_voices: Path, tmp_path: Path) -> None:
    splits = [own_data(many_voices / "manifest.csv", tmp_path / "out", seed=seed).test for seed in (1, 1, 2)]
    ids = [[utterance.id for utterance in split] for split in splits]
    assert ids[0] == ids[1] != ids[2]


def test_folder_names_are_speakers_only_when_asked_for(many_voices: Path, tmp_path: Path) -> None:
    named = own_data(many_voices, tmp_path / "named", seed=1, speaker_from_parent=True)
    assert len(set(named.test.label("speaker"))) == 3
    assert named.trials_path is not None
    assert named.label is None
    unnamed = own_data(many_voices, tmp_path / "unnamed", seed=1)
    assert unnamed.trials_path is None
    assert unnamed.label is None
    assert len(unnamed.train) + len(unnamed.test) == 40
    assert any("--speaker-from-parent" in note for note in unnamed.notes)


def test_bad_files_are_listed_and_left_out(many_voices: Path, write_wav: Callable[..., Path], tmp_path: Path) -> None:
    (many_voices / "s1" / "corrupt.wav").write_bytes(b"RIFF not audio")
    (many_voices / "s1" / "empty.wav").write_bytes(b"")
    write_wav("many/s2/silent.wav", np.zeros(16_000, dtype=np.float32))
    write_wav("many/s2/short.wav", 0.1 * np.ones(2_000, dtype=np.float32))
    broken = 0.1 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    broken[500] = np.nan
    import soundfile

    soundfile.write(many_voices / "s3" / "nan.wav", broken, 16_000, subtype="FLOAT")
    data = own_data(many_voices, tmp_path / "out", seed=1, speaker_from_parent=True)
    assert {Path(item.name).name for item in data.skipped} == {
        "corrupt.wav", "empty.wav", "silent.wav", "short.wav", "nan.wav",
    }  # fmt: skip
    assert all(item.reason for item in data.skipped)
    used = {Path(utterance.wav).name for utterance in [*data.train, *data.test]}
    assert used == {"0.wav", "1.wav", "2.wav", "3.wav"}


def test_too_few_files_stop_with_the_number_and_the_reasons(many_voices: Path, tmp_path: Path) -> None:
    for speaker in range(2, 10):
        shutil.rmtree(many_voices / f"s{speaker}")
    (many_voices / "s0" / "3.wav").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"7 usable files.*at least 10(.|\n)*3\.wav"):
        own_data(many_voices, tmp_path / "out", seed=1)


def test_two_speakers_leave_nothing_to_learn_from_and_are_not_split(many_voices: Path, tmp_path: Path) -> None:
    for speaker in range(3, 10):
        shutil.rmtree(many_voices / f"s{speaker}")
    data = own_data(many_voices, tmp_path / "out", seed=1, speaker_from_parent=True)
    assert data.trials_path is None
    assert len(data.train) >= quickstart_data.MIN_TRAIN_FILES


def test_more_files_than_fit_are_chosen_by_whole_speakers(
    many_voices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quickstart_data, "MAX_FILES", 22)
    data = own_data(many_voices / "manifest.csv", tmp_path / "out", seed=1)
    speakers = [*data.train.label("speaker"), *data.test.label("speaker")]
    assert len(speakers) == 20
    assert {speakers.count(speaker) for speaker in speakers} == {4}
    assert any("20 of 40" in note for note in data.notes)


def test_a_label_must_not_give_the_speaker_away(many_voices: Path) -> None:
    manifest = read_manifest(many_voices / "manifest.csv")
    assert choose_label(manifest) == "emotion"
    rows = [line.split(",") for line in (many_voices / "manifest.csv").read_text().splitlines()]
    (many_voices / "cities.csv").write_text("".join(",".join(row[:4] + row[5:]) + "\n" for row in rows))
    assert choose_label(read_manifest(many_voices / "cities.csv")) is None, "each city has one speaker only"


def test_speaker_from_parent_with_a_manifest_is_refused(many_voices: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="column `speaker`"):
        own_data(many_voices / "manifest.csv", tmp_path / "out", seed=1, speaker_from_parent=True)


def test_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        own_data(tmp_path / "nowhere", tmp_path / "out", seed=1)


def test_synthetic_data_says_that_it_is_synthetic(tmp_path: Path) -> None:
    sizes = {"num_train": 4, "num_train_speakers": 2, "num_test_speakers": 2, "num_test_files": 2}
    data = synthetic_data(tmp_path / "corpus", seed=1, **sizes)
    assert data.synthetic
    assert data.label == "emotion"
    assert "not speech" in data.notes[0]
    assert len(data.train) == len(data.test) == 4
