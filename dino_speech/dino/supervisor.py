"""What happens beside the training step: figures, the collapse doctor, the monitor, saving, and stopping early."""

import copy
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

import torch
import torch.distributed as dist

from dino_speech.data.loading.loaders import CropLoader
from dino_speech.dino.brain import DINOBrain, Outputs
from dino_speech.dino.collapse_doctor import CollapseDoctor
from dino_speech.dino.hyperparameters import Hyperparameters, RunSteps
from dino_speech.dino.network import Network
from dino_speech.distributed import is_main_process, mean_across_ranks, rank, world_size
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.recompute import recompute_activations
from dino_speech.training.history import History
from dino_speech.training.progress import Progress, Stopwatch
from dino_speech.training.signals import StopSignals
from dino_speech.training.state import TrainingState, capture_rng, preserved_rng, restore_rng, save_state

logger = logging.getLogger(__name__)

MAX_DATA_WAIT = 0.05  # ours: of the time
# Figures of the doctor that say nothing over time.
NOT_LOGGED = ("loss", "ln_k", "num_rows", "max_rank", "num_shared")


class Monitor(Protocol):
    """Judges an encoder during training, for example by the EER on a list of trials."""

    def __call__(self, encoder: SpeechEncoder) -> dict[str, float]:
        """Figures of the encoder."""
        ...

    def better(self, new: dict[str, float], old: dict[str, float] | None) -> bool:
        """Whether the new figures beat the old ones."""
        ...


class Supervisor:
    """Called after each optimizer step.

    Args:
        hyper: the hyper-parameters.
        steps: the lengths of the run.
        folder: the run's output folder.
        loader: the loader of the run.
        history: gets the rows.
        progress: shows them.
        signals: says whether a signal arrived.
        identity: of the run, saved with the state.
        monitor: judges the teacher every `run.monitor_every`; None: nothing does.
        export: writes an encoder to a folder, given the step.

    Attributes:
        doctor: the collapse doctor.
        best: the monitor's best figures so far, and their `step`.
        stop_reason: why the run was ended early ("signal", "max_minutes", "collapse"), else None.
    """

    def __init__(
        self,
        hyper: Hyperparameters,
        steps: RunSteps,
        folder: Path,
        *,
        loader: CropLoader,
        history: History,
        progress: Progress,
        signals: StopSignals,
        identity: dict[str, Any],
        monitor: Monitor | None,
        export: Callable[[SpeechEncoder, Path, int], None],
    ) -> None:
        self.hyper, self.steps, self.folder = hyper, steps, folder
        self.loader, self.history, self.progress, self.signals = loader, history, progress, signals
        self.identity, self.monitor, self.export = identity, monitor, export
        self.doctor = CollapseDoctor(every=hyper.run.log_every, grace_steps=steps.warmup)
        self._monitor_every = max(1, steps.count(hyper.run.monitor_every))
        self.best: dict[str, Any] | None = None
        self.stop_reason: str | None = None
        self.watch = Stopwatch()
        self._saved_at = time.perf_counter()
        self._advised = False
        # Decisions and random generators travel beside the training's own traffic: a GPU need not wait for them.
        self._group = dist.new_group(backend="gloo") if world_size() > 1 else None

    def __call__(self, brain: DINOBrain, outputs: Outputs) -> bool:
        """Do what is due after a step; true ends the run."""
        step, last = brain.optimizer_step, brain.optimizer_step == self.steps.num_steps
        self.watch.count(self.hyper.schedule.batch_size)
        self.progress.advance()
        if last or step % self.hyper.run.log_every == 0:
            self._log(brain, outputs)
        is_best = False
        if self.monitor is not None and (last or step % self._monitor_every == 0):
            with self.watch.paused():
                is_best = is_main_process() and self._judge(self.monitor, brain)
        save, self.stop_reason = self._decide(step, is_best)
        if save or last or self.stop_reason:
            with self.watch.paused():
                self.save(brain, best=is_best)
        return self.stop_reason is not None

    def _log(self, brain: DINOBrain, outputs: Outputs) -> None:
        step = brain.optimizer_step
        losses = mean_across_ranks(brain.loss_sums / max(1, brain.num_micro_batches))
        brain.loss_sums, brain.num_micro_batches = torch.zeros_like(brain.loss_sums), 0
        if not is_main_process():
            return
        findings = self.doctor.examine(
            step,
            loss=brain.loss_parts[0],
            targets=outputs.targets,
            embeddings=outputs.teacher_embedding,
            center=brain.center.value if self.hyper.objective.centering == "mean" else None,
            teacher=brain.teacher,
            student=brain.network,
        )
        values = self.hyper.at(step - 1, self.steps)
        row: dict[str, Any] = {"step": step, "epoch": round(step / self.steps.steps_per_epoch, 3)}
        row |= {"loss": losses[0].item(), "koleo": losses[1].item(), "grad_norm": brain.grad_norm.item()}
        row |= {name: value for name, value in self.doctor.figures.items() if name not in NOT_LOGGED}
        row |= vars(values) | self.watch.lap(self.loader.wait_s)
        row["seconds"] = round(self.watch.elapsed_s, 2)
        if findings:
            row["findings"] = [finding.name for finding in findings]
        self.history.add(row)
        self.progress.show(row)
        self._advise(row)

    def _advise(self, row: dict[str, Any]) -> None:
        """Say once that the training waits for its data; not for the first row, in which the workers begin."""
        if len(self.history.rows) > 1 and row["data_wait_fraction"] > MAX_DATA_WAIT and not self._advised:
            self._advised = True
            logger.warning(
                "training waits for data %.0f %% of the time: raise num_workers (now %d) where cores are free, raise "
                "cache_gib (now %g) until the corpus fits, or write the corpus to a local disk as shards "
                "(dino-speech shard MANIFEST --output DIR, then train_manifest: DIR/manifest.csv)",
                *(100 * row["data_wait_fraction"], self.loader.num_workers, self.hyper.run.cache_gib),
            )

    def _judge(self, monitor: Monitor, brain: DINOBrain) -> bool:
        """Let the monitor judge the teacher; true if it is the best so far, which is then written to `best/encoder`."""
        step, encoder = brain.optimizer_step, self.teacher_encoder(brain)
        with preserved_rng():
            figures = monitor(encoder)
        is_best = monitor.better(figures, self.best)
        if is_best:
            self.best = {**figures, "step": step}
            self.export(encoder, self.folder / "best" / "encoder", step)
        self.history.add({"step": step, "monitor": figures})
        shown = "  ".join(f"{name} {value:.3g}" for name, value in figures.items())
        self.progress.note(
            f"step {step}/{self.steps.num_steps}  monitor: {shown}{'  (best so far)' if is_best else ''}"
        )
        return is_best

    def _decide(self, step: int, is_best: bool) -> tuple[bool, str | None]:
        """Whether to save, and why to stop: the same answer on all processes."""
        hyper = self.hyper.run
        due = hyper.save_every_steps is not None and step % hyper.save_every_steps == 0
        due = due or is_best or time.perf_counter() - self._saved_at > 60 * hyper.save_every_minutes
        over = hyper.max_minutes is not None and self.watch.elapsed_s > 60 * hyper.max_minutes
        collapsed = hyper.stop_on_collapse and bool(self.doctor.findings)
        flags = torch.tensor([due, self.signals.signum or 0, over, collapsed], dtype=torch.int64)
        if self._group is not None:
            dist.all_reduce(flags, op=dist.ReduceOp.MAX, group=self._group)
        save, signum, over_any, collapsed_any = flags.tolist()
        self.signals.signum = signum or None
        reasons = {"signal": signum, "collapse": collapsed_any, "max_minutes": over_any}
        reason = next((name for name, holds in reasons.items() if holds), None)
        return bool(save), None if step == self.steps.num_steps else reason

    def save(self, brain: DINOBrain, *, best: bool = False) -> None:
        """Write the state and the teacher's encoder."""
        states: list[Any] = [None] * world_size()
        if self._group is not None:
            dist.all_gather_object(states, capture_rng(), group=self._group)
        else:
            states = [capture_rng()]
        if is_main_process():
            extra = {
                "loss_sums": brain.loss_sums.tolist(),
                "num_micro_batches": brain.num_micro_batches,
                "best": self.best,
            }
            state = TrainingState(brain.optimizer_step, self.identity, brain.state_dicts(), states, extra)
            save_state(state, self.folder / "state", best=best)
            self.export(self.teacher_encoder(brain), self.folder / "encoder", brain.optimizer_step)
        self._saved_at = time.perf_counter()

    def restore(self, state: TrainingState, brain: DINOBrain) -> None:
        """Put everything back to a saved state."""
        brain.load_state_dicts(state.modules)
        brain.optimizer_step = state.step
        brain.loss_sums = torch.tensor(state.extra["loss_sums"], device=brain.device)
        brain.num_micro_batches = state.extra["num_micro_batches"]
        self.best = state.extra["best"]
        if len(state.rng) == world_size():
            restore_rng(state.rng[rank()])

    def close(self) -> None:
        """Write out what is still held."""
        self.progress.close()
        self.history.close()

    def gather_skipped(self) -> None:
        """Let the main process list what the others had to skip."""
        if self._group is not None:
            reasons: list[Any] = [None] * world_size()
            dist.all_gather_object(reasons, self.loader.skipped.reasons, group=self._group)
            self.loader.skipped.merge({file: why for found in reasons for file, why in found.items()})

    def teacher_encoder(self, brain: DINOBrain) -> SpeechEncoder:
        """A copy of the teacher's encoder for embedding."""
        teacher = cast(Network, brain.teacher.module)
        encoder = copy.deepcopy(teacher.encoder).eval()
        recompute_activations(encoder, False)
        return encoder
