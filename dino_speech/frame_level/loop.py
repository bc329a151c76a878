"""The loop that continued pretraining, masked prediction and distillation share: chunks in, a loss, an optimizer.

What is minimised is the caller's `Objective`. One process trains, on one device; a run that was stopped goes on to the
same numbers. Letters: `B` utterances, `S` samples of a chunk.
"""

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dino_speech.audio.crops import RandomChunk
from dino_speech.audio.io import SAMPLE_RATE
from dino_speech.data.loading.datasets import CropDataset
from dino_speech.data.loading.loaders import CropLoader, StepSampler, default_num_workers, make_loader
from dino_speech.data.loading.skipped import SkippedFiles
from dino_speech.data.manifest import Manifest
from dino_speech.distributed import join_processes
from dino_speech.errors import InputError
from dino_speech.frame_level.parameters import StepParameters
from dino_speech.provenance import provenance
from dino_speech.training.finite_guard import FiniteGuard, NonFiniteLoss
from dino_speech.training.history import History
from dino_speech.training.optimizer import clip_gradients, optimizer_of, split_by_decay
from dino_speech.training.progress import Progress, Stopwatch
from dino_speech.training.signals import Interrupted, StopSignals
from dino_speech.training.state import (
    TrainingState,
    capture_rng,
    prepare_folder,
    restore_rng,
    save_state,
    state_to_resume,
    write_text_atomically,
)


class Objective(nn.Module):
    """What the steps minimise; its parameters that need a gradient are trained."""

    def losses(self, waves: Tensor, index: Tensor, step: int) -> dict[str, Tensor]:
        """Chunks (B, S) of the utterances `index` (B,) -> 0-d figures by name; `loss` is minimised, all are logged."""
        raise NotImplementedError


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Args:
        history: the rows of `history.jsonl`.
        skipped: reason by file, of the files that could not be used.
        stop_reason: "max_minutes" where it was ended before its last step, else None.
    """

    history: list[dict[str, Any]]
    skipped: dict[str, str] = field(default_factory=dict)
    stop_reason: str | None = None


def one_process(device: str | torch.device | None) -> torch.device:
    """The device to train on.

    Raises:
        InputError: the program was started by torchrun with several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("this training runs in one process on one device; start it without torchrun")
    return join_processes(device)


def chunk_loader(
    manifest: Manifest,
    hyper: StepParameters,
    *,
    min_samples: int,
    seed: int,
    num_steps: int,
    start_step: int = 0,
    device: torch.device,
    skipped: SkippedFiles | None = None,
) -> CropLoader:
    """Batches `long` (B, 1, S), `index` (B,) of random chunks, from a step on."""
    chunks = RandomChunk(hyper.chunk_s, min_s=min_samples / SAMPLE_RATE)
    sampler = StepSampler(
        len(manifest),
        min(hyper.batch_size, len(manifest)),
        seed=seed,
        num_steps=num_steps,
        start_step=start_step,
    )
    return make_loader(
        CropDataset(manifest, chunks, seed=seed, cache_gib=hyper.cache_gib),
        sampler,
        num_workers=default_num_workers() if hyper.num_workers is None else hyper.num_workers,
        pin_memory=device.type == "cuda",
        skipped=skipped,
    )


def train(
    objective: Objective,
    hyper: StepParameters,
    manifest: Manifest,
    *,
    min_samples: int,
    folder: Path,
    identity: dict[str, Any],
    seed: int,
    device: torch.device,
    resume: bool = True,
) -> Outcome:
    """Train an objective in place, and keep the state of the run in `folder`; a run that was stopped goes on.

    Args:
        objective: on `device`, as the run begins; its weights follow from `identity`.
        hyper: hyper-parameters of the loop; its `precision` is not "auto" any more.
        manifest: the utterances.
        min_samples: shorter utterances are skipped and listed.
        folder: gets `state/`, `history.jsonl`, `hyperparameters.json`, `skipped.csv`.
        identity: plain data on all that the result depends on.
        seed: of the order and the chunks.
        device: to train on.
        resume: False starts anew.

    Raises:
        InputError: a state of another run is in `folder`; most files are unusable.
        NonFiniteLoss: the loss was NaN or infinite.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
    """
    state = state_to_resume(folder / "state" / "last.pt", identity) if resume else None
    prepare_folder(folder, keep=state is not None)
    origin = provenance(seed=seed, manifest=list(manifest.paths))
    text = json.dumps({**identity, "provenance": origin}, indent=2) + "\n"
    write_text_atomically(folder / "hyperparameters.json", text)
    with StopSignals() as signals:
        run = _Run(objective, hyper, manifest, folder, identity, seed, device)
        if state is not None:
            run.restore(state)
        try:
            stop_reason = run.lead(signals, min_samples)
        finally:
            run.history.close()
    if stop_reason == "signal":
        raise Interrupted(signals.signum or 0, run.step)
    return Outcome(run.history.rows, dict(run.skipped.reasons), stop_reason)


class _Run:
    """The loop itself, and what goes on between its steps."""

    def __init__(
        self,
        objective: Objective,
        hyper: StepParameters,
        manifest: Manifest,
        folder: Path,
        identity: dict[str, Any],
        seed: int,
        device: torch.device,
    ) -> None:
        self.objective, self.hyper, self.manifest, self.folder = objective, hyper, manifest, folder
        self.identity, self.seed, self.device = identity, seed, device
        self.num_steps, self.step = hyper.num_steps(len(manifest)), 0
        groups = split_by_decay(objective.parameters(), weight_decay=hyper.weight_decay)
        self.optimizer = optimizer_of(hyper.optimizer, [group for group in groups if group["params"]], lr=hyper.lr)
        self.scaler = torch.amp.GradScaler(device.type, enabled=hyper.precision == "fp16")
        self.guard = FiniteGuard(device)
        self.sums: dict[str, Tensor] = {}
        self.num_summed = 0
        self.skipped = SkippedFiles([utterance.wav for utterance in manifest], folder / "skipped.csv")
        self.watch, self._saved_at = Stopwatch(), time.perf_counter()

    def restore(self, state: TrainingState) -> None:
        """Put everything back to a saved state."""
        self.step = state.step
        self.objective.load_state_dict(state.modules["objective"])
        self.optimizer.load_state_dict(state.modules["optimizer"])
        self.scaler.load_state_dict(state.modules["scaler"])
        self.sums = {name: torch.tensor(value, device=self.device) for name, value in state.extra["sums"].items()}
        self.num_summed = state.extra["num_summed"]
        restore_rng(state.rng[0])

    def lead(self, signals: StopSignals, min_samples: int) -> str | None:
        """Take the steps that are left; why it ended early, else None."""
        self.history = History(self.folder, start_step=self.step)
        progress = Progress(self.num_steps, start_step=self.step)
        loader = chunk_loader(
            self.manifest,
            self.hyper,
            min_samples=min_samples,
            seed=self.seed,
            num_steps=self.num_steps,
            start_step=self.step,
            device=self.device,
            skipped=self.skipped,
        )
        self.objective.train()
        try:
            for batch in loader if self.step < self.num_steps else ():
                self._take(batch)
                progress.advance()
                last = self.step == self.num_steps
                if last or self.step % self.hyper.log_every == 0:
                    progress.show(self._log(loader))
                over = self.hyper.max_minutes is not None and self.watch.elapsed_s > 60 * self.hyper.max_minutes
                stop = None if last else "signal" if signals.signum else "max_minutes" if over else None
                if last or stop or self._save_is_due():
                    with self.watch.paused():
                        self._save()
                if stop:
                    return stop
        finally:
            progress.close()
        return None

    def _take(self, batch: dict[str, Tensor]) -> None:
        """One optimizer step."""
        factor = self.hyper.lr_factor(self.step, self.num_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = factor * self.hyper.lr
        waves = batch["long"].squeeze(1).to(self.device, non_blocking=True)
        dtype = torch.float16 if self.hyper.precision == "fp16" else torch.bfloat16
        with torch.autocast(self.device.type, dtype, enabled=self.hyper.precision != "fp32"):
            figures = self.objective.losses(waves, batch["index"].to(self.device), self.step)
        self.guard.watch(figures["loss"])
        self.scaler.scale(figures["loss"]).backward()
        if not self.guard.all_finite():
            raise NonFiniteLoss(
                f"the loss is not finite at step {self.step + 1} (lr {self.hyper.lr:.2g}); the weights were not "
                "touched, and the last saved state is sound. Try: lower lr, more warmup_steps, lower clip_norm, or "
                "precision bf16 or fp32"
            )
        self.scaler.unscale_(self.optimizer)
        norm = clip_gradients(self.optimizer, self.hyper.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.num_summed += 1
        for name, value in {**figures, "grad_norm": norm}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.detach().float()
        self.watch.count(len(waves))

    def _log(self, loader: CropLoader) -> dict[str, Any]:
        row: dict[str, Any] = {"step": self.step}
        row |= {name: round(float(total) / self.num_summed, 6) for name, total in self.sums.items()}
        row |= {"lr": self.optimizer.param_groups[0]["lr"], **self.watch.lap(loader.wait_s)}
        row["seconds"] = round(self.watch.elapsed_s, 2)
        self.sums, self.num_summed = {}, 0
        self.history.add(row)
        return row

    def _save_is_due(self) -> bool:
        every = self.hyper.save_every_steps
        by_steps = every is not None and self.step % every == 0
        return by_steps or time.perf_counter() - self._saved_at > 60 * self.hyper.save_every_minutes

    def _save(self) -> None:
        parts: dict[str, Any] = {"objective": self.objective, "optimizer": self.optimizer, "scaler": self.scaler}
        modules = {name: part.state_dict() for name, part in parts.items()}
        extra = {"sums": {name: float(value) for name, value in self.sums.items()}, "num_summed": self.num_summed}
        save_state(TrainingState(self.step, self.identity, modules, [capture_rng()], extra), self.folder / "state")
        self._saved_at = time.perf_counter()
