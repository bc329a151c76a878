"""The one loop in which everything here is trained, on one process or as one of several.

A `Training` says what a batch is, what is minimised and what moves after a step. The loop does the rest: micro-batches,
autocast and loss scaling, one norm to clip all gradients by, the stop before a step that is not finite, the history,
saving and going on, signals, the other processes. It is written out, and not SpeechBrain's `Brain`: of that nothing was
left but a call of `backward`, because it clips the first parameter group only, tolerates losses that are not finite,
copies the loss to the CPU in each step, knows no stages with optimizers of their own, and saves neither atomically nor
with the random generators. The gradients of several processes are averaged here and not by DistributedDataParallel,
which wraps one `forward`, and needs each parameter to have a gradient on every process.

Randomness: a step's utterances, chunks and masks follow from the seed and the step, whatever the number of processes.
What a network draws as it runs (dropout), and what is drawn for a batch of waves (augmentation), follows from the
process's number besides. Without these, and without BatchNorm, two processes give what one gives.
"""

import contextlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from dino_speech.data.loading.loaders import lost_workers_named
from dino_speech.data.loading.skipped import SkippedFiles
from dino_speech.data.seeds import derive_seed
from dino_speech.distributed import is_main_process, rank, world_size
from dino_speech.errors import InputError
from dino_speech.roll_call import naming_the_lost
from dino_speech.training.history import Logbook
from dino_speech.training.operating_system import Interrupted, StopSignals, freed_memory_kept
from dino_speech.training.optimizer import clip_gradients, parameters_of
from dino_speech.training.processes import Processes
from dino_speech.training.settings import RunSettings
from dino_speech.training.state import (
    TrainingState,
    capture_rng,
    prepare_folder,
    restore_rng,
    save_state,
    seed_everything,
    state_to_resume,
)
from dino_speech.training.training import Outcome, Stage, Training, Verdict

logger = logging.getLogger(__name__)


class NonFiniteLoss(InputError):  # noqa: N818  (the log names it)
    """The loss or its gradient is NaN or infinite; raised before the optimizer's step: the weights are still sound."""


def train(
    training: Training,
    run: RunSettings,
    folder: Path,
    identity: dict[str, Any],
    *,
    origin: dict[str, Any],
    described: Mapping[str, Any] | None = None,
    completed: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    seed: int,
    resume: bool = True,
) -> Outcome:
    """Train in place, and keep the state of the run in `folder`; a run that was stopped goes on to the same numbers.

    Args:
        training: as it begins, on its device; its weights follow from `identity`.
        run: how it is carried out; its `precision` is not "auto" any more.
        folder: gets `state/`, `history.jsonl`, `tensorboard/`, `hyperparameters.json`, `skipped.csv`.
        identity: plain data on all that the result depends on; what of it differs from a saved state is refused.
        origin: where the result comes from, as `provenance` gives it.
        described: more for `hyperparameters.json`, which may differ when a run goes on.
        completed: see `state_to_resume`.
        seed: of the run.
        resume: False starts anew, and deletes the former run in `folder`.

    Raises:
        InputError: a state of another run, or other things, in `folder`; most files are unusable.
        ProcessLost: one of several processes does not answer any more.
        NonFiniteLoss: the loss or the gradient was NaN or infinite.
        Interrupted: SIGINT, SIGTERM or SIGUSR1 arrived; the state is saved.
    """
    state = state_to_resume(folder / "state", identity, completed) if resume else None
    processes = Processes()
    processes.wait()  # all have looked before anything changes
    if is_main_process():
        record = {**identity, "run": asdict(run), **(described or {}), "provenance": origin}
        text = json.dumps(record, indent=2) + "\n"
        prepare_folder(folder, text, keep=state is not None)
    processes.wait()
    if rank():  # the main process draws what one process would draw
        seed_everything(derive_seed(seed, "rank", rank()))
    steady = freed_memory_kept(on=training.device.type == "cpu")
    with StopSignals() as signals, steady, naming_the_lost(), lost_workers_named():
        loop = Loop(training, run, processes, signals, folder, identity, state)
        try:
            loop.lead()
        finally:
            loop.log.close()
    return loop.conclude()


class Loop:
    """Leads a training through its steps, and can be stopped and restored after each.

    `step` counts optimizer steps that are done; where a stage ends early, it is the first step of the next one.
    """

    def __init__(
        self,
        training: Training,
        run: RunSettings,
        processes: Processes,
        signals: StopSignals,
        folder: Path,
        identity: dict[str, Any],
        state: TrainingState | None,
    ) -> None:
        self.training, self.run, self.processes, self.signals = training, run, processes, signals
        self.folder, self.identity = folder, identity
        self.step = 0 if state is None else state.step
        main = is_main_process()
        self.skipped = SkippedFiles(training.manifest.files, folder / "skipped.csv" if main else None)
        self.log = Logbook(run, folder, self.step, training.num_steps)
        self.scaler = torch.amp.GradScaler(training.device.type, enabled=False)
        self.grad_norm = 0.0
        self.stop_reason: str | None = None
        self._saved_at = time.perf_counter()
        self._kept: dict[str, Any] = {}  # of the stage that is resumed
        processes.begin_alike(training.parts().values())
        if state is not None:
            self._restore(state)

    def lead(self) -> None:
        """Take the steps that are left."""
        while self.step < self.training.num_steps and self.stop_reason is None:
            stage = self.training.begin(self.step, self.skipped)
            self.scaler = torch.amp.GradScaler(self.training.device.type, enabled=self.run.precision == "fp16")
            if self._kept:
                stage.optimizer.load_state_dict(self._kept["optimizer"])
                self.scaler.load_state_dict(self._kept["scaler"])
                self._kept = {}
            over = False
            with contextlib.closing(iter(stage.loader)) as batches:  # its workers end here, whatever happens
                while not over and self.stop_reason is None:
                    self._take_step(stage.optimizer, batches)
                    over = self._between_steps(stage)

    def _take_step(self, optimizer: Optimizer, batches: Iterator[Mapping[str, Tensor]]) -> None:
        """Forward and backward over the micro-batches; finite? clip; optimizer; what follows the weights."""
        training, step, num_parts = self.training, self.step, self.training.accumulation_steps
        training.schedule(optimizer, step)
        loss = torch.zeros((), device=training.device)
        for micro_batch in range(num_parts):
            with torch.no_grad():
                heard = training.hear(next(batches), step, micro_batch)
            with self.autocast():
                figures = training.losses(heard, step)
            self.scaler.scale(figures["loss"] / num_parts).backward()
            loss += figures["loss"].detach()
            self.log.add(figures)
        training.before_update(step)
        self.processes.average(parameters_of(optimizer), training.parts().values(), loss)
        self.scaler.unscale_(optimizer)
        norm = clip_gradients(optimizer, training.clip_norm)
        taken = self._is_finite(loss, norm, optimizer)
        if taken:
            self.scaler.step(optimizer)
            self.log.add({"grad_norm": norm * num_parts}, times=0)  # it counts for all micro-batches
        self.scaler.update()
        optimizer.zero_grad(set_to_none=True)
        training.after_update(step, taken=taken)
        self.step += 1

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The precision in which networks run."""
        dtype = torch.float16 if self.run.precision == "fp16" else torch.bfloat16
        return torch.autocast(self.training.device.type, dtype, enabled=self.run.precision != "fp32")

    def _is_finite(self, loss: Tensor, norm: Tensor, optimizer: Optimizer) -> bool:
        """Whether the optimizer may move; where loss scaling was too bold (float16), it may not, and the run goes on.

        Raises:
            NonFiniteLoss: something else is wrong.
        """
        # The one place where a GPU is waited for; all processes have the same loss and norm, and so one answer.
        lost, self.grad_norm = torch.stack([loss, norm]).tolist()
        if math.isfinite(lost) and math.isfinite(self.grad_norm):
            return True
        if math.isfinite(lost) and self.scaler.is_enabled() and self.scaler.get_scale() > 1:
            return False
        raise NonFiniteLoss(
            f"the {'gradient' if math.isfinite(lost) else 'loss'} is not finite at step {self.step + 1} (lr "
            f"{optimizer.param_groups[0]['lr']:.2g}); the weights were not touched, and the last saved state is sound. "
            "Likely cause: too large a learning rate, float16 overflow, or NaN in the features. Try: lower lr, longer "
            "warm-up, lower clip_norm, or precision bf16 or fp32"
        )

    def _between_steps(self, stage: Stage) -> bool:
        """Do what is due after a step; true where the stage is over."""
        training, done, last = self.training, self.step - stage.first, self.step == stage.last
        self.log.watch.count(training.batch_size)
        self.log.progress.advance()
        if last or done % self.run.log_every == 0:
            means = self.log.means()
            if is_main_process():
                row = training.row(self.step, means, self.grad_norm)
                self.log.write({"step": self.step, **row}, stage.loader)
        with self.log.watch.paused():
            verdict = training.between_steps(self.step, self.log, self.processes, last=last)
        over = last or verdict.stage_is_over
        if over:
            training.end_stage()
            self.step = stage.last
        save, self.stop_reason = self._decide(done, verdict)
        if save or over or self.stop_reason:
            between_stages = over and self.step < training.num_steps
            with self.log.watch.paused():
                self._save(None if between_stages else stage.optimizer, best=verdict.best)
        return over

    def _decide(self, done: int, verdict: Verdict) -> tuple[bool, str | None]:
        """Whether to save, and why to stop: the same answer on all processes."""
        run = self.run
        due = verdict.best or (run.save_every_steps is not None and done % run.save_every_steps == 0)
        due = due or time.perf_counter() - self._saved_at > 60 * run.save_every_minutes
        late = run.max_minutes is not None and self.log.watch.elapsed_s > 60 * run.max_minutes
        flags = [due, self.signals.signum or 0, verdict.collapsed, late]
        save, signum, collapsed, time_is_up = self.processes.largest(flags)
        self.signals.signum = signum or None
        reasons = {"signal": signum, "collapse": collapsed, "max_minutes": time_is_up}
        reason = next((name for name, holds in reasons.items() if holds), None)
        return bool(save), None if self.step == self.training.num_steps else reason

    def _save(self, optimizer: Optimizer | None, *, best: bool) -> None:
        """Write the state; with what belongs to a stage where one is under way, or was the last."""
        generators = self.processes.gather(capture_rng())
        with self.processes.uneven():  # none begins an exchange on its GPU while the main one is writing
            if is_main_process():
                modules = self.training.state_dicts()
                if optimizer is not None:
                    modules |= {"optimizer": optimizer.state_dict(), "scaler": self.scaler.state_dict()}
                extra = self.log.notes() | self.training.notes()
                state = TrainingState(self.step, self.identity, modules, generators, extra)
                self.training.before_saving(self.step)
                save_state(state, self.folder / "state", best=best)
        self._saved_at = time.perf_counter()

    def _restore(self, state: TrainingState) -> None:
        self.training.load_state_dicts(state.modules)
        self.training.load_notes(state.extra)
        self.log.load_notes(state.extra, self.training.device)
        self._kept = state.modules if "optimizer" in state.modules else {}
        if len(state.rng) == world_size():
            restore_rng(state.rng[rank()])

    def conclude(self) -> Outcome:
        """What the run gave, or that it was interrupted."""
        for found in self.processes.gather(self.skipped.reasons):
            self.skipped.merge(found)
        if self.skipped.reasons:
            logger.warning("%d file(s) were skipped: see %s", len(self.skipped), self.folder / "skipped.csv")
        if self.stop_reason == "signal":
            raise Interrupted(self.signals.signum or 0, self.step)
        if self.stop_reason == "max_minutes":
            logger.warning(
                "stopped after step %d of %d: max_minutes = %g are over; fit again goes on from there",
                *(self.step, self.training.num_steps, self.run.max_minutes),
            )
        rows = self.processes.from_main(lambda: self.log.history.rows)
        return Outcome(rows, dict(self.skipped.reasons), self.step, self.stop_reason)
