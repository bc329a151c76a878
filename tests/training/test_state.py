"""Which folders a run may write into, and which files a new run may delete."""

from pathlib import Path

import pytest
import torch

from dino_speech.errors import InputError
from dino_speech.training.state import VERSION, load_state, prepare_folder


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
        prepare_folder(folder, "{}", keep=False)
    with pytest.raises(InputError, match="is a file"):
        prepare_folder(folder / "history.jsonl", "{}", keep=False)
    assert (folder / "state" / "last.pt").exists()
    assert (folder / "history.jsonl").exists()


def test_logs_and_what_is_prepared_for_a_run_may_be_there(tmp_path: Path) -> None:
    for name in ("slurm-1.out", "run.log", ".gitkeep", "recipe.yaml", "train.csv"):
        (tmp_path / name).write_text("")
    prepare_folder(tmp_path, "{}", keep=False)
    assert len(list(tmp_path.iterdir())) == 6


def test_a_former_run_is_deleted_unless_it_goes_on(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "run", "history.jsonl", "hyperparameters.json", "notes.txt")
    prepare_folder(folder, "{}", keep=True)
    assert (folder / "state" / "last.pt").exists()
    prepare_folder(folder, "{}", keep=False)
    assert not (folder / "state").exists()
    assert not (folder / "history.jsonl").exists()
    assert (folder / "notes.txt").exists()


@pytest.mark.parametrize(
    ("extra", "sums", "num"),
    [
        ({"loss_sums": [9.0, 1.5], "num_micro_batches": 3, "best": None}, {"dino": 9.0, "koleo": 1.5}, 3),
        ({"loss_sum": 4.0, "num_losses": 2, "stage": 1, "epochs_without_gain": 0, "best": None}, {"loss": 4.0}, 2),
        ({"sums": {"loss": 4.0, "grad_norm": 1.0}, "num_summed": 2}, {"loss": 4.0, "grad_norm": 1.0}, 2),
    ],
)
def test_a_state_of_the_former_loops_is_read(extra: dict, sums: dict, num: int, tmp_path: Path) -> None:
    """Of pretraining, of fine-tuning, of what was trained on chunks: each named its sums of figures in its own way."""
    old = {"step": 5, "identity": {}, "modules": {"optimizer": {}}, "rng": [{}], "extra": extra, "version": 1}
    torch.save(old, tmp_path / "last.pt")
    state = load_state(tmp_path / "last.pt")
    assert (state.extra["sums"], state.extra["num_summed"], state.version) == (sums, num, VERSION)
    assert {name: state.extra[name] for name in extra if name in ("best", "epochs_without_gain")} == {
        name: extra[name] for name in extra if name in ("best", "epochs_without_gain")
    }
