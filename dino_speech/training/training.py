"""What a training says of itself, for the loop to take its steps: batches, loss, what moves after a step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dino_speech.data.loading.datasets import CropDataset
from dino_speech.data.loading.loaders import CropLoader, StepSampler, default_num_workers, make_loader
from dino_speech.data.loading.skipped import SkippedFiles
from dino_speech.data.manifest import Manifest
from dino_speech.distributed import local_world_size, rank, world_size
from dino_speech.training.history import Logbook
from dino_speech.training.processes import Processes
from dino_speech.training.settings import RunSettings


@dataclass(frozen=True)
class Stage:
    """Steps that share an optimizer and a loader; a training has one or more."""

    optimizer: Optimizer
    loader: CropLoader  # this process's micro-batches, from the step on with which the stage was begun or resumed
    first: int  # step, counted over all stages from 0
    last: int  # the first step behind the stage


@dataclass(frozen=True)
class Verdict:
    """What a training finds between two steps, the same on all processes but for `collapsed`."""

    best: bool = False  # it was never better: save, also as `best.pt`
    stage_is_over: bool = False  # before its last step
    collapsed: bool = False  # stop; one process that says so is enough


@dataclass(frozen=True)
class Outcome:
    """What a run gave."""

    history: list[dict[str, Any]]  # rows of `history.jsonl`
    skipped: dict[str, str]  # reason by file that could not be used
    step: int  # optimizer steps that are done
    stop_reason: str | None = None  # "max_minutes" or "collapse" where it was ended before its last step


class Training:
    """What differs from one training to another. Steps are counted from 0 over all stages, as they were planned."""

    manifest: Manifest
    device: torch.device
    num_steps: int  # of the optimizer, in the whole run
    batch_size: int  # utterances per optimizer step, over all processes and micro-batches
    accumulation_steps: int = 1  # micro-batches per step
    clip_norm: float | None = None  # of all gradients together; None: no limit

    def parts(self) -> dict[str, nn.Module]:
        """What is kept in a state, by its name there."""
        raise NotImplementedError

    def begin(self, step: int, skipped: SkippedFiles) -> Stage:
        """Make ready the stage in which a step lies, to go on with that step."""
        raise NotImplementedError

    def schedule(self, optimizer: Optimizer, step: int) -> None:
        """Set the values of a step, such as the learning rate."""
        raise NotImplementedError

    def hear(self, batch: Mapping[str, Tensor], step: int, micro_batch: int) -> Any:
        """What the networks are given of a micro-batch, in float32 and without gradient."""
        return batch

    def losses(self, heard: Any, step: int) -> dict[str, Tensor]:
        """0-d figures of a micro-batch by name: `loss` is minimised, all are logged. Changes nothing that is saved."""
        raise NotImplementedError

    def before_update(self, step: int) -> None:
        """Look at the gradients of a step before they are averaged and clipped."""

    def after_update(self, step: int, *, taken: bool) -> None:
        """Move what follows the weights; `taken` is false where loss scaling skipped the step and nothing may move."""

    def row(self, step: int, means: Mapping[str, Tensor], grad_norm: float) -> dict[str, Any]:
        """The history's row after `step` steps, on the main process; of the last one `grad_norm`, before clipping.

        `means` are those of the figures of `losses`, and of `grad_norm`, since the last row: 0-d, float64.
        """
        raise NotImplementedError

    def between_steps(self, step: int, log: Logbook, processes: Processes, *, last: bool) -> Verdict:
        """Judge, after `step` steps; `last` says that the stage ends here."""
        return Verdict()

    def end_stage(self) -> None:
        """What is left to do in a stage, after its last step."""

    def before_saving(self, step: int) -> None:
        """What the main process keeps beside a state, and first: killed in between, the run comes here again."""

    def state_dicts(self) -> dict[str, Any]:
        """The state by name."""
        return {name: part.state_dict() for name, part in self.parts().items()}

    def load_state_dicts(self, states: Mapping[str, Any]) -> None:
        """The reverse."""
        for name, part in self.parts().items():
            part.load_state_dict(states[name])

    def notes(self) -> dict[str, Any]:
        """Plain data beside the state."""
        return {}

    def load_notes(self, notes: Mapping[str, Any]) -> None:
        """The reverse."""


def batch_of(batch_size: int, num_utterances: int) -> int:
    """Utterances per step; of a training set that is smaller than a batch all that can be dealt out evenly."""
    if num_utterances >= batch_size:
        return batch_size
    return max(1, num_utterances - num_utterances % world_size())


def deal(num_utterances: int, batch_size: int, *, seed: int, num_steps: int, start_step: int = 0) -> StepSampler:
    """This process's part of each step's batch."""
    part: dict[str, Any] = {"rank": rank(), "world_size": world_size()}
    return StepSampler(num_utterances, batch_size, seed=seed, num_steps=num_steps, start_step=start_step, **part)


def read_batches(
    dataset: CropDataset,
    sampler: StepSampler,
    run: RunSettings,
    device: torch.device,
    skipped: SkippedFiles | None = None,
) -> CropLoader:
    """A loader with as many workers as the run says, or the cores allow."""
    num_workers = default_num_workers(local_world_size()) if run.num_workers is None else run.num_workers
    on_gpu = device.type == "cuda"
    return make_loader(dataset, sampler, num_workers=num_workers, pin_memory=on_gpu, skipped=skipped)
