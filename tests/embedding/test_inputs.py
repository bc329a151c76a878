"""What is embedded together: folders with equal names inside are told apart by their paths."""

import logging
from pathlib import Path

import pytest
import soundfile

from dino_speech.cli.main import main
from dino_speech.embedding.inputs import Inputs, collect
from dino_speech.embedding.parts_on_disk import read_embeddings
from dino_speech.errors import InputError


@pytest.fixture
def folders(tmp_path: Path, tone) -> list[Path]:
    """Three folders: two with the same name, two with equal names inside."""
    found = [tmp_path / name for name in ("a/wav", "b/wav", "c/other")]
    for number, folder in enumerate(found):
        (folder / "deep").mkdir(parents=True)
        name = "deep/0.wav" if number < 2 else "1.wav"
        soundfile.write(folder / name, tone(0.5, hz=200 + 100 * number), 16_000)
    return found


def ids(*given: Path) -> list[str]:
    inputs = Inputs(given)
    inputs.survey()
    return [utterance.id for utterance in inputs]


def test_the_shortest_ends_of_paths_that_differ(folders, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert ids(folders[0], folders[2]) == ["deep/0.wav", "1.wav"]  # as ever
        assert caplog.messages == []
        assert ids(*folders) == ["a/wav/deep/0.wav", "b/wav/deep/0.wav", "c/other/1.wav"]
    assert caplog.messages == ["the folders hold equal names: IDs begin with a/wav/, b/wav/, c/other/"]
    (tmp_path / "b" / "wav").rename(tmp_path / "b" / "speech")
    assert ids(tmp_path / "a" / "wav", tmp_path / "b" / "speech" / "") == ["wav/deep/0.wav", "speech/deep/0.wav"]
    assert collect([tmp_path / "a" / "wav", tmp_path / "b" / "speech"])[0].id == "wav/deep/0.wav"


def test_a_folder_given_twice(folders) -> None:
    with pytest.raises(InputError, match="wav: given twice; give each folder once"):
        Inputs([folders[0], folders[0].parent / "." / "wav"])


@pytest.mark.parametrize("output", ["out.npz", "out.csv", "out/"])
def test_both_are_embedded(folders, tmp_path: Path, output: str) -> None:
    words = ["embed", *map(str, folders[:2]), "--encoder", "fbank_stats", "--output", f"{tmp_path}/{output}"]
    assert main(words) == 0
    found = read_embeddings(tmp_path / output)
    assert found.ids == ["a/wav/deep/0.wav", "b/wav/deep/0.wav"]
    assert abs(found.embeddings[0] - found.embeddings[1]).max() > 0.1
