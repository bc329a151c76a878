"""Fine-tuning as a training: stages one after the other, validation after each epoch, the best weights kept.

Each stage has an optimizer and a loader of its own. A step of the whole run is counted as planned: where a stage ends
early, the count jumps to the next stage's first. Letters: `B` utterances, `S` samples, `T` frames, `D` embedding.
"""

from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from dino_speech.audio.io import SAMPLE_RATE
from dino_speech.audio.random_chunk import RandomChunk
from dino_speech.data.loading.datasets import CropDataset
from dino_speech.data.loading.skipped import SkippedFiles
from dino_speech.data.manifest import Manifest
from dino_speech.data.seeds import derive_seed, seeded_generator
from dino_speech.distributed import rank
from dino_speech.training.history import Logbook
from dino_speech.training.optimizer import optimizer_of
from dino_speech.training.processes import Processes, whole_batch
from dino_speech.training.schedules import warmup_cosine
from dino_speech.training.state import preserved_rng
from dino_speech.training.training import Stage, Training, Verdict, deal, read_batches
from dino_speech.transfer.heads import MARGIN_OBJECTIVES, MarginHead, balanced_weights, ccc_loss
from dino_speech.transfer.hyperparameters import TuningParameters
from dino_speech.transfer.parameter_groups import parameter_groups
from dino_speech.transfer.stages import freeze_for
from dino_speech.transfer.system import FineTunedSystem
from dino_speech.transfer.targets import Classes
from dino_speech.transfer.validation import Validation

Weights = dict[str, dict[str, Tensor]]


class StagedTraining(Training):
    """Trains a system, in place, through the stages of its hyper-parameters; without validation the last weights stay.

    `best` are the best figures so far, with their `step` and `stage`; None without validation.
    """

    def __init__(
        self,
        tuner: TuningParameters,
        system: FineTunedSystem,
        train: Manifest,
        validation: Validation | None,
        *,
        seed: int,
    ) -> None:
        self.tuner, self.system, self.manifest, self.validation, self.seed = tuner, system, train, validation, seed
        self.device = system.encoder.device
        self.batch_size, self.clip_norm = tuner.batch_of(len(train)), tuner.clip_norm
        self.steps_per_epoch = len(train) // self.batch_size
        self.ends = list(accumulate(stage.num_steps(self.steps_per_epoch) for stage in tuner.stages))
        self.num_steps = self.ends[-1]
        targets = system.targets.of_rows(train)
        self.targets, self.class_weights = targets.to(self.device), None
        if tuner.class_weights is not None and isinstance(system.targets, Classes):
            self.class_weights = balanced_weights(targets.tolist(), len(system.targets.names)).to(self.device)
        self.best: dict[str, Any] | None = None
        self.best_weights: Weights | None = None
        self.epochs_without_gain = 0
        self.dataset: CropDataset | None = None

    def parts(self) -> dict[str, nn.Module]:
        """Encoder and head."""
        return {"encoder": self.system.encoder, "head": self.system.head}

    def begin(self, step: int, skipped: SkippedFiles) -> Stage:
        """Freeze what a stage freezes, with an optimizer for the rest, and chunks of the stage's own length."""
        tuner, self.number = self.tuner, bisect_right(self.ends, step)
        self.first, last = self.ends[self.number] - self._length(self.number), self.ends[self.number]
        self.stage, self.stage_seed = tuner.stages[self.number], derive_seed(self.seed, "stage", self.number)
        # Not from 0: the first step would be lost.
        self.warmup_steps = min(round(self.stage.warmup_fraction * (last - self.first)), last - self.first - 1)
        freeze_for(self.system.encoder, self.stage)
        self.system.head.train()
        groups = parameter_groups(self.system.head, self.system.encoder, self.stage)
        options: dict[str, Any] = {"betas": tuner.betas, "momentum": tuner.momentum}
        self.optimizer = optimizer_of(tuner.optimizer, groups, lr=self.stage.lr, **options)
        self.dataset = CropDataset(
            self.manifest,
            RandomChunk(self.stage.chunk_s, min_s=tuner.encoder.min_samples / SAMPLE_RATE),
            seed=self.stage_seed,
            cache_gib=tuner.run.cache_gib,
            silent_dbfs=tuner.silent_dbfs,
            cache=None if self.dataset is None else self.dataset.cache,
        )
        steps = {"num_steps": last - self.first, "start_step": step - self.first}
        sampler = deal(len(self.manifest), self.batch_size, seed=self.stage_seed, **steps)
        loader = read_batches(self.dataset, sampler, tuner.run, self.device, skipped)
        return Stage(self.optimizer, loader, self.first, last)

    def _length(self, number: int) -> int:
        return self.ends[number] - (self.ends[number - 1] if number else 0)

    def schedule(self, optimizer: Optimizer, step: int) -> None:
        """The learning rates of the stage, and the margin of the whole run."""
        start, length = 1 / max(1, self.warmup_steps), self._length(self.number)
        factor = warmup_cosine(step - self.first, length, 1.0, 0.0, warmup_steps=self.warmup_steps, start=start)
        for group in optimizer.param_groups:
            group["lr"] = factor * group["peak_lr"]
        if self.tuner.objective in MARGIN_OBJECTIVES and isinstance(self.system.head, MarginHead):
            self.system.head.margin = self.tuner.margin_at(step, self.num_steps)

    def hear(self, batch: Mapping[str, Tensor], step: int, micro_batch: int) -> tuple[Tensor, Tensor]:
        """Augmented chunks (B, S) -> frames (B, T, bands); and the targets."""
        # The first process draws what one process would draw for the whole batch.
        draw = seeded_generator(self.stage_seed, "augment", step - self.first, *([rank()] if rank() else []))
        waves = batch["long"].squeeze(1).to(self.device, non_blocking=True)
        if self.stage.augment is not None:
            waves = self.stage.augment(waves, generator=draw, groups=batch["index"])
        frames, _ = self.system.encoder.extract_features(waves, None)
        if self.stage.spec_augment is not None:
            frames = self.stage.spec_augment(frames, generator=draw)
        return frames, self.targets[batch["index"].to(self.device)]

    def losses(self, heard: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        """The loss of the objective, in float32."""
        frames, targets = heard
        embedding = self.system.encoder.embed_frames(frames, None)
        with torch.autocast(self.device.type, enabled=False):
            # The head is small: each process has it judge all of the batch, as its BatchNorm and the losses want it.
            return {"loss": self._loss(whole_batch(embedding), whole_batch(targets))}

    def _loss(self, embedding: Tensor, targets: Tensor) -> Tensor:
        """(B, D) and (B,) or (B, L) -> 0-d."""
        tuner, head = self.tuner, self.system.head
        if tuner.objective == "ccc":
            return ccc_loss(head(embedding), targets)
        return F.cross_entropy(
            head(embedding, targets), targets, weight=self.class_weights, label_smoothing=tuner.label_smoothing
        )

    def row(self, step: int, means: Mapping[str, Tensor], grad_norm: float) -> dict[str, Any]:
        """Loss and learning rates."""
        rates = {group["name"]: group["lr"] for group in self.optimizer.param_groups}
        row = {"stage": self.number, "epoch": self._epoch(step), "loss": float(means["loss"].float())}
        row |= {"grad_norm": grad_norm, "lr": rates.pop("head")}
        return row | ({"encoder_lr": max(rates.values())} if rates else {})

    def _epoch(self, step: int) -> float:
        return round((step - self.first) / self.steps_per_epoch, 3)

    def between_steps(self, step: int, log: Logbook, processes: Processes, *, last: bool) -> Verdict:
        """Validate after each epoch; the stage is over where that has not helped for long."""
        if self.validation is None or not (last or (step - self.first) % self.steps_per_epoch == 0):
            return Verdict()
        validation = self.validation
        with preserved_rng():
            figures = processes.from_main(lambda: validation(self.system))
        is_best = validation.better(figures, self.best)
        self.epochs_without_gain = 0 if is_best else self.epochs_without_gain + 1
        if is_best:
            self.best = {**figures, "step": step, "stage": self.number}
            self.best_weights = {name: _copied(part) for name, part in self.parts().items()}
        row = {"step": step, "stage": self.number, "epoch": self._epoch(step), "valid": figures}
        log.history.add(row)
        shown = "  ".join(f"{name} {value:.3g}" for name, value in figures.items())
        where = f"stage {self.number + 1}/{len(self.ends)}  epoch {row['epoch']:g}"
        log.progress.note(f"{where}  valid: {shown}{'  (best so far)' if is_best else ''}")
        return Verdict(stage_is_over=self.epochs_without_gain == self.tuner.patience)

    def end_stage(self) -> None:
        """The next stage begins with the best weights so far."""
        for name, weights in (self.best_weights or {}).items():
            self.parts()[name].load_state_dict(weights)
        self.epochs_without_gain = 0

    def state_dicts(self) -> dict[str, Any]:
        """Encoder and head, and the best of them."""
        return super().state_dicts() | ({} if self.best_weights is None else {"best": self.best_weights})

    def load_state_dicts(self, states: Mapping[str, Any]) -> None:
        """The reverse."""
        super().load_state_dicts(states)
        self.best_weights = states.get("best")

    def notes(self) -> dict[str, Any]:
        """What validation has found so far."""
        return {"epochs_without_gain": self.epochs_without_gain, "best": self.best}

    def load_notes(self, notes: Mapping[str, Any]) -> None:
        """The reverse."""
        self.epochs_without_gain, self.best = notes["epochs_without_gain"], notes["best"]


def _copied(part: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in part.state_dict().items()}
