"""Which folders a run may write into, which files a new run may delete, and damaged states."""

import re
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch

from dino_speech.errors import InputError
from dino_speech.training.state import VERSION, TrainingState, load_state, prepare_folder, save_state, state_to_resume


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


def write_states(folder: Path, *steps: int) -> None:
    for step in steps:
        save_state(TrainingState(step, {"lr": 0.1}, {"student": {"w": torch.arange(40.0) + step}}, [{}]), folder)


def test_no_flipped_bit_of_a_state_changes_what_is_read(tmp_path: Path) -> None:
    write_states(tmp_path, 3)
    path, wanted = tmp_path / "last.pt", repr(load_state(tmp_path / "last.pt"))
    whole, rng, noticed = path.read_bytes(), np.random.default_rng(0), 0
    for position in rng.choice(len(whole), 150, replace=False):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            assert repr(load_state(path)) == wanted
        except InputError:
            noticed += 1
    assert noticed > 50  # the other bits are dates and padding of the archive, which nothing is read from


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_the_state_before_a_damaged_one_is_used(damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_states(tmp_path, 3, 5, 7)
    last = tmp_path / "last.pt"
    data = last.read_bytes()
    weights = data.index(torch.tensor([7.0]).numpy().tobytes())
    flipped = data[: weights + 2] + bytes([data[weights + 2] ^ 1]) + data[weights + 3 :]
    if damage == "gone":  # killed between two moves
        last.unlink()
    else:
        last.write_bytes(data[:-100] if damage == "cut" else flipped)
    state = state_to_resume(tmp_path, {"lr": 0.1})
    assert state is not None
    assert (state.step, state.modules["student"]["w"][0]) == (5, 5.0)
    if damage != "gone":
        assert re.search(rf"{last}: not a .* state .*; going on from {tmp_path}/previous.pt, step 5", caplog.text)
    (tmp_path / "previous.pt").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"previous\.pt" if damage == "gone" else r"last\.pt"):
        state_to_resume(tmp_path, {"lr": 0.1})


def test_no_state_is_none_and_the_only_one_damaged_is_refused(tmp_path: Path) -> None:
    assert state_to_resume(tmp_path, {}) is None
    write_states(tmp_path, 3)
    (tmp_path / "last.pt").write_bytes((tmp_path / "last.pt").read_bytes()[:-30])
    with pytest.raises(InputError, match=r"last\.pt: not a training state .* start anew with resume=False"):
        state_to_resume(tmp_path, {"lr": 0.1})


def test_the_best_state_is_there_before_the_last_one_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in between, a run goes on from the state before, and writes the best one again."""
    write_states(tmp_path, 3)
    true_save, files = torch.save, []

    def fail_at_the_last(content: dict, file: BinaryIO) -> None:
        files.append(file.name)
        if len(files) == 2:
            raise OSError(28, "No space left on device")
        true_save(content, file)

    monkeypatch.setattr(torch, "save", fail_at_the_last)
    with pytest.raises(InputError, match=r"last.pt: cannot be written \(No space left on device\)"):
        save_state(TrainingState(4, {}, {}, [{}]), tmp_path, best=True)
    assert (load_state(tmp_path / "best.pt").step, load_state(tmp_path / "last.pt").step) == (4, 3)
