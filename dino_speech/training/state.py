"""The whole state of a training run, in one file that is either complete or absent, and loads nothing but data.

SpeechBrain's Checkpointer writes its metadata first and then one file after the other into the final folder, so that a
process killed in between leaves a checkpoint that looks whole; and it keeps no random generators. So this is our own.
"""

import contextlib
import logging
import random
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dino_speech.data.atomic import clear_unfinished, write_atomically, write_text_atomically, writing
from dino_speech.data.outputs import check_output
from dino_speech.data.utterances import list_some
from dino_speech.distributed import world_size
from dino_speech.errors import InputError
from dino_speech.received_files import refuse_links_out, require_honest_zip

logger = logging.getLogger(__name__)

MAX_VALUES = 1_000_000  # ours: some hundreds are usual
LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"
VERSION = 2  # 1: each kind of training had its own sums of figures
RUN_FILE = "hyperparameters.json"
# What recipes, folds, rounds of pseudo-labels and the quickstart put into a folder before its run begins.
BEFORE_A_RUN = {"recipe.yaml", "rows.sha256", "pseudo_labels.csv", "embeddings"}
BEFORE_A_RUN |= {"synthetic", "train.csv", "test.csv", "trials.txt"}
LOGS = (".log", ".out", ".err")


@dataclass
class TrainingState:
    """All that the next step depends on."""

    step: int  # of the optimizer, done; also the position in the data, because the loader has no other state
    identity: dict[str, Any]  # what must not differ for the run to be the same one (nested plain data)
    modules: dict[str, Any]  # a state dict by name: student, teacher, center, optimizer, scaler
    rng: list[dict[str, Any]]  # the random generators of each rank, as `capture_rng` gives them
    extra: dict[str, Any] = field(default_factory=dict)  # plain numbers that logging continues from
    version: int = VERSION


class DamagedState(InputError):  # noqa: N818  (the log names it)
    """A state that was cut off, or does not match its checksums."""


def save_state(state: TrainingState, folder: Path, *, best: bool = False) -> Path:
    """Write `<folder>/last.pt`, with `best` also as `<folder>/best.pt`; the last before becomes `previous.pt`.

    A process killed at any moment leaves the former files or the new ones, never a part.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    last = folder / LAST
    # Not dataclasses.asdict, which would copy every tensor.
    content = {name: getattr(state, name) for name in state.__dataclass_fields__}
    if best:  # first: killed in between, the run goes on from the last state, and comes here again
        write_atomically(folder / BEST, lambda file: torch.save(content, file))
    write_atomically(last, lambda file: torch.save(content, file), former=folder / PREVIOUS)
    return last


def load_state(path: Path) -> TrainingState:
    """Read a state file, whole by its checksums; only tensors and plain data can be in it, nothing that runs.

    InputError: it is damaged, or was made to take memory or time: torch.save does not compress, and what is compared
    value by value is short.
    """
    try:
        require_honest_zip(path, compressed=False)
        # torch writes a CRC-32 of each record, and does not look at it on reading.
        with zipfile.ZipFile(path) as records:
            if damaged := records.testzip():
                raise zipfile.BadZipFile(f"{damaged} does not match its checksum")
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = TrainingState(**content)
        if _num_values([state.identity, state.extra]) > MAX_VALUES:
            raise ValueError(f"it says more than {MAX_VALUES:,} things of its run")
        if state.version == 1:
            state.extra, state.version = _of_version_1(state.extra), VERSION
        if state.version > VERSION:
            raise InputError(f"{path}: written by a later version of dino_speech (format {state.version}); update it")
    except InputError:
        raise
    except Exception as error:
        raise DamagedState(
            f"{path}: not a training state that can be resumed ({error}); take {BEST} beside it by renaming it to "
            f"{LAST}, or start anew with resume=False"
        ) from error
    return state


def _num_values(plain: Any) -> int:
    """How many values plain data holds, each counted as often as it stands somewhere; counted up to a bound."""
    waiting, num = [plain], 0
    while waiting and num <= MAX_VALUES:
        value = waiting.pop()
        num += 1
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return num


def _newest_sound(folder: Path) -> tuple[Path, TrainingState] | None:
    """The last state, or, where that is damaged, the one before; None where there is none."""
    last, previous = folder / LAST, folder / PREVIOUS
    if not last.exists():  # killed while the last was moved aside for the next
        return (previous, load_state(previous)) if previous.exists() else None
    try:
        return last, load_state(last)
    except DamagedState as error:
        if not previous.exists():
            raise
        try:
            state = load_state(previous)
        except InputError:
            raise error from None
        logger.warning("%s; going on from %s, step %d, instead", str(error).partition(";")[0], previous, state.step)
        return previous, state


def _of_version_1(extra: dict[str, Any]) -> dict[str, Any]:
    """What logging goes on from, as pretraining and fine-tuning once named it."""
    found = dict(extra)
    if "loss_sums" in found:
        found["sums"] = dict(zip(("dino", "koleo"), found.pop("loss_sums"), strict=True))
    if "loss_sum" in found:
        found["sums"] = {"loss": found.pop("loss_sum")}
    for name in ("num_micro_batches", "num_losses"):
        if name in found:
            found["num_summed"] = found.pop(name)
    return found


def capture_rng() -> dict[str, Any]:
    """The state of the global random generators (torch CPU and CUDA, numpy, python) as tensors and plain numbers."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    version, internal, gauss_next = random.getstate()
    numbers = torch.from_numpy(np.asarray(keys).astype(np.int64))
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() and torch.cuda.is_initialized() else None,
        "numpy": [name, numbers, int(position), int(has_gauss), float(gauss)],
        "python": [version, list(internal), gauss_next],
    }


def restore_rng(state: dict[str, Any]) -> None:
    """Put the global random generators back to what `capture_rng` found."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))


@contextlib.contextmanager
def preserved_rng() -> Any:
    """Leave the global random generators as they were, whatever runs inside (monitoring must not change the run)."""
    state = capture_rng()
    try:
        yield
    finally:
        restore_rng(state)


def seed_everything(seed: int) -> None:
    """Seed the global generators of torch (CPU and CUDA), numpy and python."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)


def differences(saved: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """The keys in which two identities differ, as `key: saved -> current`, nested ones with dots.

    Example:
        >>> differences({"lr": 0.1, "stages": [{"lr": 1.0}]}, {"lr": 0.1, "stages": [{"lr": 2.0}]})
        ['stages.0.lr: 1.0 -> 2.0']
    """
    old, new = _flatten(saved), _flatten(current)
    absent = "(absent)"
    pairs = {key: (old.get(key, absent), new.get(key, absent)) for key in (*new, *old)}
    return [f"{key}: {before} -> {now}" for key, (before, now) in pairs.items() if before != now]


def _flatten(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        plain = list(value) if isinstance(value, tuple) else value
        if isinstance(plain, list) and any(isinstance(item, dict) for item in plain):
            plain = {str(number): item for number, item in enumerate(plain)}
        if isinstance(plain, dict) and plain:
            flat |= _flatten(plain, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = plain
    return flat


def refuse_other_things(folder: Path) -> None:
    """Refuse an output folder that cannot be written, or is no run's and holds more than logs and hidden files."""
    check_output(folder)
    if not folder.exists() or (folder / RUN_FILE).exists():
        return
    found = sorted(path.name for path in folder.iterdir() if path.name not in BEFORE_A_RUN)
    others = [name for name in found if not name.startswith(".") and not name.endswith(LOGS)]
    if others:
        raise InputError(
            f"{folder}: holds other things than a run ({list_some(others)}), among which a run's files would be lost; "
            "give an output folder that is empty or does not exist yet"
        )


def prepare_folder(folder: Path, description: str, *, keep: bool) -> None:
    """Make a run's output folder, with its description; what a former run left is deleted unless it goes on."""
    if not keep:
        refuse_other_things(folder)
    refuse_links_out(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("state", "best"):
        clear_unfinished(folder / part)
    if not keep and (folder / RUN_FILE).exists():
        for name in ("state", "best", "snapshots", "tensorboard"):
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in ("history.jsonl", "skipped.csv"):
            (folder / name).unlink(missing_ok=True)
    write_text_atomically(folder / RUN_FILE, description)


def state_to_resume(
    folder: Path, identity: dict[str, Any], completed: Callable[[dict[str, Any]], dict[str, Any]] = dict
) -> TrainingState | None:
    """The newest sound state of this very run in a folder, None where there is none; that of another run is refused.

    `completed` turns a saved identity, perhaps of an older version, into what this version would have saved.
    """
    newest = _newest_sound(folder)
    if newest is None:
        return None
    path, state = newest
    found = differences(completed(state.identity), identity)
    if found:
        raise InputError(
            f"{path} is of another run: {'; '.join(found)} (saved -> now). Set back what differs, or choose another "
            "output_folder, or start anew with resume=False (which deletes the former run)"
        )
    if len(state.rng) != world_size():
        logger.warning(
            "the run was saved by %d process(es) and goes on with %d: not to the very same numbers",
            *(len(state.rng), world_size()),
        )
    return state
