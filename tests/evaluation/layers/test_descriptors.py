"""What layers are compared with: eGeMAPS, a person's own numbers, words."""

import sys
from pathlib import Path

import numpy as np
import pytest

from dino_speech.data.manifest import Manifest
from dino_speech.data.utterances import Utterance
from dino_speech.errors import InputError
from dino_speech.evaluation.layers.descriptors import GROUPS, describe, describe_text

ROWS = np.arange(16)


@pytest.mark.slow
def test_egemaps_hear_the_pitch(voices: Manifest, tmp_path: Path) -> None:
    pytest.importorskip("opensmile", reason="needs the extra dino-speech[descriptors]")
    found = describe(voices, ROWS, "egemaps", cache=tmp_path / "cache")
    assert list(found) == ["eGeMAPS", *GROUPS]
    assert sum(found[group].shape[1] for group in GROUPS) == found["eGeMAPS"].shape[1] == 88
    by_speaker = found["pitch"][:, 0].reshape(4, 4).mean(axis=1)  # semitones; the voices rise from 90 to 225 Hz
    assert (np.diff(by_speaker) > 2).all()
    (file,) = (tmp_path / "cache").iterdir()
    written = file.stat().st_mtime_ns
    again = describe(voices, ROWS, "egemaps", cache=tmp_path / "cache")
    assert file.stat().st_mtime_ns == written
    np.testing.assert_array_equal(again["formants"], found["formants"])


def test_the_extra_is_named_where_it_is_absent(voices: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(InputError, match=r"pip install 'dino-speech\[descriptors\]'"):
        describe(voices, ROWS, "egemaps")


def test_arrays_and_files(voices: Manifest, tmp_path: Path) -> None:
    numbers = np.arange(16.0)
    assert describe(voices, ROWS, numbers)["descriptors"].shape == (16, 1)
    assert list(describe(voices, ROWS, {"a": numbers, "b": np.zeros((16, 3))})) == ["a", "b"]
    with pytest.raises(InputError, match=r"'a' of shape \(3, 2\): expected \(16, Q\)"):
        describe(voices, ROWS, {"a": np.zeros((3, 2))})
    file = tmp_path / "prosody.csv"
    file.write_text("ID,f0,rate\nspk0_1,100,3.5\nelsewhere,1,2\nspk3_3,220,\n")
    found = describe(voices, ROWS, file)["prosody"]
    assert found[1].tolist() == [100.0, 3.5]
    assert found[15, 0] == 220.0
    assert np.isnan(found).sum() == 32 - 3
    for text, message in (
        ("ID,f0\nspk0_1,high\n", r"prosody.csv row 2: column 'f0': found 'high'"),
        ("name,f0\nspk0_1,1\n", "expected a first line with ID"),
        ("ID,f0\nnobody,1\n", "none of its 1 IDs is in"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            describe(voices, ROWS, file)
    with pytest.raises(InputError, match="descriptors are 'egemaps' or a CSV file"):
        describe(voices, ROWS, tmp_path / "absent.csv")


def test_words_that_are_shared_lie_together() -> None:
    texts = [
        "the dog barks",
        "a dog barks loud",
        "dog and dog",
        "rain falls",
        "rain falls here",
        "rain rain",
        "",
        "dog rain",
    ] * 3
    manifest = Manifest([Utterance(str(i), f"{i}.wav", 1.0, labels={"text": text}) for i, text in enumerate(texts)])
    found = describe_text(manifest, "text")["text"]
    assert np.isnan(found[6]).all()
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    assert unit[0] @ unit[1] > unit[0] @ unit[3]
    with pytest.raises(InputError, match="no column 'words'"):
        describe_text(manifest, "words")
    with pytest.raises(InputError, match="no word occurs in two transcripts"):
        describe_text(manifest.subset([0, 3]), "text")
