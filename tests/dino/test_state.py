"""Which files a new run may delete."""

from pathlib import Path

from dino_speech.dino.state import prepare_folder


def folder_with(path: Path, *names: str) -> Path:
    (path / "state").mkdir(parents=True)
    (path / "state" / "last.pt").write_text("of a run, or of a person")
    for name in names:
        (path / name).write_text("")
    return path


def test_a_folder_that_no_run_has_written_keeps_everything(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "mine", "history.jsonl")
    prepare_folder(folder, keep=False)
    assert (folder / "state" / "last.pt").exists()
    assert (folder / "history.jsonl").exists()


def test_a_former_run_is_deleted_unless_it_goes_on(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "run", "history.jsonl", "hyperparameters.json", "notes.txt")
    prepare_folder(folder, keep=True)
    assert (folder / "state" / "last.pt").exists()
    prepare_folder(folder, keep=False)
    assert not (folder / "state").exists()
    assert not (folder / "history.jsonl").exists()
    assert (folder / "notes.txt").exists()
