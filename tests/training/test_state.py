"""Which folders a run may write into, and which files a new run may delete."""

from pathlib import Path

import pytest

from dino_speech.errors import InputError
from dino_speech.training.state import prepare_folder


def folder_with(path: Path, *names: str) -> Path:
    (path / "state").mkdir(parents=True)
    (path / "state" / "last.pt").write_text("of a run, or of a person")
    for name in names:
        (path / name).write_text("")
    return path


def test_a_folder_that_holds_other_things_is_refused_and_keeps_everything(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "mine", "history.jsonl")
    with pytest.raises(
        InputError, match=r"mine: holds other things than a run \(history.jsonl, state\).*does not exist"
    ):
        prepare_folder(folder, keep=False)
    with pytest.raises(InputError, match="is a file"):
        prepare_folder(folder / "history.jsonl", keep=False)
    assert (folder / "state" / "last.pt").exists()
    assert (folder / "history.jsonl").exists()


def test_logs_and_what_is_prepared_for_a_run_may_be_there(tmp_path: Path) -> None:
    for name in ("slurm-1.out", "run.log", ".gitkeep", "recipe.yaml", "train.csv"):
        (tmp_path / name).write_text("")
    prepare_folder(tmp_path, keep=False)
    assert len(list(tmp_path.iterdir())) == 5


def test_a_former_run_is_deleted_unless_it_goes_on(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "run", "history.jsonl", "hyperparameters.json", "notes.txt")
    prepare_folder(folder, keep=True)
    assert (folder / "state" / "last.pt").exists()
    prepare_folder(folder, keep=False)
    assert not (folder / "state").exists()
    assert not (folder / "history.jsonl").exists()
    assert (folder / "notes.txt").exists()
