"""What goes on between the steps of a fine-tuning: validation, the best weights, history, saving, stopping."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dino_speech.data.loading.loaders import CropLoader
from dino_speech.training.history import History
from dino_speech.training.progress import Progress, Stopwatch
from dino_speech.training.signals import StopSignals
from dino_speech.training.state import TrainingState, capture_rng, preserved_rng, restore_rng, save_state
from dino_speech.transfer.hyperparameters import TuningParameters
from dino_speech.transfer.stage_run import StageRun
from dino_speech.transfer.system import MARGIN_OBJECTIVES, FineTunedSystem
from dino_speech.transfer.validation import Validation

Weights = dict[str, dict[str, Tensor]]


class TuningRun:
    """Leads through the stages, and can be stopped and restored at any step.

    A step of the whole run is counted as planned: where a stage ends early, the count jumps to the next stage's first.

    Args:
        hyper: the hyper-parameters.
        system: what is trained, in place.
        steps: of each stage.
        steps_per_epoch: optimizer steps in one pass over the training set.
        folder: the run's output folder.
        validation: judges after each epoch; None: nothing does, and the last weights are kept.
        history: gets the rows.
        progress: shows them.
        signals: says whether a signal arrived.
        identity: of the run, saved with the state.

    Attributes:
        stage: number of the stage being trained, or the number of stages where all are done.
        stage_step: steps done in it.
        best: the best figures so far, with their `step` and `stage`; None without validation.
        stop_reason: "signal" or "max_minutes" where the run was ended from outside, else None.
    """

    def __init__(
        self,
        hyper: TuningParameters,
        system: FineTunedSystem,
        *,
        steps: list[int],
        steps_per_epoch: int,
        folder: Path,
        validation: Validation | None,
        history: History,
        progress: Progress,
        signals: StopSignals,
        identity: dict[str, Any],
    ) -> None:
        self.hyper, self.system, self.steps, self.steps_per_epoch = hyper, system, steps, steps_per_epoch
        self.folder, self.validation, self.history, self.progress = folder, validation, history, progress
        self.signals, self.identity = signals, identity
        self.stage = self.stage_step = self.epochs_without_gain = 0
        self.best: dict[str, Any] | None = None
        self.best_weights: Weights | None = None
        self.stop_reason: str | None = None
        self.loss_sum, self.num_losses = torch.zeros((), device=system.encoder.device), 0
        self.watch = Stopwatch()
        self._saved_at = time.perf_counter()
        self._kept: dict[str, Any] = {}  # states of the stage being resumed

    @property
    def step(self) -> int:
        """Steps of the whole run that lie behind."""
        return sum(self.steps[: self.stage]) + self.stage_step

    @property
    def num_steps(self) -> int:
        """Steps of the whole run, if no stage ends early."""
        return sum(self.steps)

    def lead(self, start: Callable[[int], tuple[StageRun, CropLoader]]) -> None:
        """Train what is left of all stages; `start(stage)` gives what a stage is trained with."""
        while self.stage < len(self.steps) and self.stop_reason is None:
            stage_run, loader = start(self.stage)
            if self._kept:
                stage_run.load_state_dicts(self._kept)
                self._kept = {}
            self._train(stage_run, loader)

    def _train(self, stage_run: StageRun, loader: CropLoader) -> None:
        with_margin = self.hyper.objective in MARGIN_OBJECTIVES
        for batch in loader:
            margin = self.hyper.margin_at(self.step, self.num_steps) if with_margin else None
            loss = stage_run.take(batch, self.stage_step, margin=margin)
            self.loss_sum += loss
            self.num_losses += 1
            self.stage_step += 1
            self.watch.count(len(batch["index"]))
            self.progress.advance()
            if self._between_steps(stage_run, loader):
                break

    def _between_steps(self, stage_run: StageRun, loader: CropLoader) -> bool:
        """Do what is due after a step; true ends the loop over the stage."""
        last = self.stage_step == self.steps[self.stage]
        if last or self.stage_step % self.hyper.log_every == 0:
            self._log(stage_run, loader)
        if self.validation is not None and (last or self.stage_step % self.steps_per_epoch == 0):
            with self.watch.paused():
                self._validate(self.validation)
            last = last or self.epochs_without_gain == self.hyper.patience
        if last:
            self._end_stage()
        over = self.hyper.max_minutes is not None and self.watch.elapsed_s > 60 * self.hyper.max_minutes
        if self.stage < len(self.steps) and (self.signals.signum or over):
            self.stop_reason = "signal" if self.signals.signum else "max_minutes"
        every = self.hyper.save_every_steps
        due = every is not None and self.stage_step % every == 0
        due = due or time.perf_counter() - self._saved_at > 60 * self.hyper.save_every_minutes
        if last or due or self.stop_reason:
            with self.watch.paused():
                self.save(None if last else stage_run)
        return last or self.stop_reason is not None

    def _log(self, stage_run: StageRun, loader: CropLoader) -> None:
        groups = stage_run.optimizer.param_groups
        row: dict[str, Any] = {"step": self.step, "stage": self.stage, "epoch": self._epoch()}
        row |= {"loss": float(self.loss_sum / self.num_losses), "grad_norm": float(stage_run.grad_norm)}
        row |= {"lr": groups[0]["lr"], "encoder_lr": max((group["lr"] for group in groups[1:]), default=0.0)}
        row |= self.watch.lap(loader.wait_s) | {"seconds": round(self.watch.elapsed_s, 2)}
        if not any(name.startswith("encoder") for name in (group["name"] for group in groups)):
            del row["encoder_lr"]
        self.loss_sum, self.num_losses = torch.zeros_like(self.loss_sum), 0
        self.history.add(row)
        self.progress.show(row)

    def _epoch(self) -> float:
        return round(self.stage_step / self.steps_per_epoch, 3)

    def _validate(self, validation: Validation) -> None:
        with preserved_rng():
            figures = validation(self.system)
        is_best = validation.better(figures, self.best)
        self.epochs_without_gain = 0 if is_best else self.epochs_without_gain + 1
        if is_best:
            self.best = {**figures, "step": self.step, "stage": self.stage}
            self.best_weights = self._weights()
        row = {"step": self.step, "stage": self.stage, "epoch": self._epoch(), "valid": figures}
        self.history.add(row)
        shown = "  ".join(f"{name} {value:.3g}" for name, value in figures.items())
        note = "  (best so far)" if is_best else ""
        self.progress.note(f"stage {self.stage + 1}/{len(self.steps)}  epoch {row['epoch']:g}  valid: {shown}{note}")

    def _end_stage(self) -> None:
        """The next stage begins with the best weights so far."""
        if self.best_weights is not None:
            self.system.encoder.load_state_dict(self.best_weights["encoder"])
            self.system.head.load_state_dict(self.best_weights["head"])
        self.stage, self.stage_step, self.epochs_without_gain = self.stage + 1, 0, 0

    def _weights(self) -> Weights:
        parts = {"encoder": self.system.encoder, "head": self.system.head}
        return {
            name: {key: value.detach().clone() for key, value in part.state_dict().items()}
            for name, part in parts.items()
        }

    def save(self, stage_run: StageRun | None) -> None:
        """Write the state: in the middle of a stage with what belongs to it, between stages (None) without."""
        modules: dict[str, Any] = self._weights() if stage_run is None else stage_run.state_dicts()
        if self.best_weights is not None:
            modules["best"] = self.best_weights
        extra = {
            "stage": self.stage,
            "stage_step": self.stage_step,
            "epochs_without_gain": self.epochs_without_gain,
            "best": self.best,
            "loss_sum": float(self.loss_sum),
            "num_losses": self.num_losses,
        }
        save_state(TrainingState(self.step, self.identity, modules, [capture_rng()], extra), self.folder / "state")
        self._saved_at = time.perf_counter()

    def restore(self, state: TrainingState) -> None:
        """Put everything back to a saved state."""
        extra, modules = state.extra, state.modules
        self.stage, self.stage_step = extra["stage"], extra["stage_step"]
        self.epochs_without_gain, self.best = extra["epochs_without_gain"], extra["best"]
        self.loss_sum.fill_(extra["loss_sum"])
        self.num_losses = extra["num_losses"]
        self.best_weights = modules.get("best")
        self.system.encoder.load_state_dict(modules["encoder"])
        self.system.head.load_state_dict(modules["head"])
        self._kept = modules if "optimizer" in modules else {}
        restore_rng(state.rng[0])
