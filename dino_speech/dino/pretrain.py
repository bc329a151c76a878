"""Pretraining from a manifest to an encoder on disk: the parts are put together here and nowhere else."""

import copy
import json
import logging
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dino_speech.compatibility import require_torchaudio
from dino_speech.data.loading.datasets import CropDataset
from dino_speech.data.loading.epoch_order import shard_numbers
from dino_speech.data.loading.loaders import CropLoader, StepSampler, default_num_workers, make_loader
from dino_speech.data.loading.skipped import SkippedFiles
from dino_speech.data.manifest import Manifest, read_manifest
from dino_speech.data.seeds import derive_seed
from dino_speech.dino.collapse_doctor import TrainingCollapsed
from dino_speech.dino.head import DINOHead
from dino_speech.dino.hyperparameters import Hyperparameters, RunSteps, completed_identity
from dino_speech.dino.network import Network
from dino_speech.dino.whiten import whiten
from dino_speech.distributed import barrier, is_main_process, join_processes, local_world_size, rank, world_size
from dino_speech.errors import InputError
from dino_speech.models.checkpoint import load_encoder
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.precision import choose_precision
from dino_speech.provenance import provenance
from dino_speech.training.history import History
from dino_speech.training.malloc_policy import freed_memory_kept
from dino_speech.training.progress import Progress
from dino_speech.training.run_identity import describe, describe_manifest
from dino_speech.training.signals import Interrupted, StopSignals
from dino_speech.training.state import prepare_folder, seed_everything, state_to_resume, write_text_atomically

if TYPE_CHECKING:  # they import speechbrain
    from dino_speech.dino.brain import DINOBrain
    from dino_speech.dino.supervisor import Monitor, Supervisor

logger = logging.getLogger(__name__)


class DINOPretrainer(Hyperparameters):
    """Learns an utterance encoder from unlabelled speech by self-distillation with no labels.

    The hyper-parameters, their ranges, defaults and sources are those of `Hyperparameters`. After `fit`:

    Attributes:
        teacher_encoder_: the teacher's encoder, which is the one to use.
        history_: the rows of `history.jsonl`.
        best_: the monitor's best figures with their `step`; None without a monitor.
        skipped_: reason by file, of the files that could not be used.
        stop_reason_: "max_minutes" where the run was ended before its last step, else None.

    Example:
        >>> from dino_speech import DINOPretrainer, MultiCrop, build_encoder
        >>> encoder = build_encoder("ecapa_tdnn", embedding_dim=192)
        >>> trainer = DINOPretrainer(encoder, MultiCrop(num_long=2, long_s=4.0, num_short=4, short_s=2.0))
        >>> # trainer.fit(read_manifest("train.csv"), output_folder="results/dino", seed=1986)

    Source: arXiv 2104.14294; for utterances of speech arXiv 2208.05445.
    """

    def fit(
        self,
        manifest: Manifest | str | PathLike[str] | Sequence[str | PathLike[str]],
        *,
        output_folder: str | PathLike[str],
        seed: int = 1986,
        monitor: "Monitor | None" = None,
        device: str | torch.device | None = None,
        resume: bool = True,
    ) -> "DINOPretrainer":
        """Train, and leave the teacher's encoder at `<output_folder>/encoder`.

        A run that was stopped, in whatever way, goes on from its last saved state when called again, to the same
        numbers; one that is complete is only loaded. Under torchrun each process trains its part of each batch.

        Beside the encoder the folder gets `best/encoder` (with a monitor), `history.jsonl`, `tensorboard/`,
        `hyperparameters.json`, `skipped.csv` (if files were skipped) and `state/`. Global random generators are seeded.

        Args:
            manifest: the utterances, or the manifest's file or files; labels are not used.
            output_folder: made with its parents.
            seed: of everything random.
            monitor: judges the teacher every `run.monitor_every`.
            device: "cpu", "cuda", "cuda:N"; None: a GPU where there is one.
            resume: False starts anew, and deletes the former run in `output_folder`.

        Raises:
            InputError: fewer utterances than a batch; a value that does not fit the data or the device; a state of
                another run in `output_folder`; most files are unusable.
            NonFiniteLoss: the loss was NaN or infinite.
            TrainingCollapsed: the teacher collapsed, and `run.stop_on_collapse` is set.
            Interrupted: SIGINT or SIGTERM arrived; the state is saved.
        """
        require_torchaudio()
        if not isinstance(manifest, Manifest):
            manifest = read_manifest(manifest)
        folder, chosen = Path(output_folder), join_processes(device)
        precision = choose_precision(self.run.precision, chosen)
        steps = self.steps(len(manifest))
        sampler = self._sampler(manifest, steps.num_steps, seed)
        self._check(steps)
        identity = self.identity(steps) | {"seed": seed, "precision": precision}
        identity |= {"manifest": describe_manifest(manifest)}
        state = state_to_resume(folder / "state" / "last.pt", identity, completed_identity) if resume else None
        origin = provenance(seed=seed, manifest=manifest.paths)
        barrier()  # all have looked before anything changes
        self._begin(folder, identity, origin, keep=state is not None)
        sampler.start_step = state.step if state else 0
        brain = self._build_brain(steps, sampler, chosen, precision)
        with StopSignals() as signals, freed_memory_kept(on=chosen.type == "cpu"):
            supervisor = self._supervise(brain, steps, sampler, manifest, folder, signals, monitor, identity, origin)
            if state is not None:
                supervisor.restore(state, brain)
            try:
                if brain.optimizer_step < steps.num_steps:
                    brain.fit(range(1), supervisor.loader)
            finally:
                supervisor.close()
        self._conclude(brain, supervisor)
        self._whiten(manifest, supervisor, steps.num_steps, seed)
        return self

    def _sampler(self, manifest: Manifest, num_steps: int, seed: int) -> StepSampler:
        return StepSampler(
            len(manifest),
            self.schedule.batch_size,
            seed=seed,
            num_steps=num_steps,
            accumulation_steps=self.schedule.accumulation_steps,
            rank=rank(),
            world_size=world_size(),
            shards=None if self.run.shards_at_once is None else shard_numbers(manifest),
            shards_at_once=self.run.shards_at_once or 1,
        )

    def _check(self, steps: RunSteps) -> None:
        """What only shows when the parts are put together; before anything runs."""
        self.at(0, steps)  # refuses a warm-up longer than the run
        if not any(parameter.requires_grad for parameter in self.encoder.parameters()):
            raise InputError(
                f"the encoder {self.encoder.config.name!r} has nothing to train; take for example ecapa_tdnn"
            )
        if self.encoder.config.whitening and self.whitening.shrinkage is not None:
            raise InputError(
                "the encoder whitens its embeddings already, and goes on to; set whitening.shrinkage to null"
            )
        shortest = self.crops.short_samples if self.crops.num_short else self.crops.long_samples
        if shortest < self.encoder.min_samples:
            raise InputError(
                f"crops of {shortest} samples are shorter than the {self.encoder.min_samples} that the encoder needs; "
                "lengthen short_s"
            )
        batch_size, accumulation_steps = self.schedule.batch_size, self.schedule.accumulation_steps
        micro_batch = batch_size // (accumulation_steps * world_size())
        if micro_batch < 2:
            raise InputError(
                f"batch_size = {batch_size} leaves {micro_batch} utterance for each of {world_size()} process(es) "
                f"x accumulation_steps = {accumulation_steps}; expected at least 2: raise batch_size"
            )

    def _begin(self, folder: Path, identity: dict[str, Any], origin: dict[str, Any], *, keep: bool) -> None:
        """Make the output folder, with what the run is."""
        if not is_main_process():
            return
        prepare_folder(folder, keep=keep)
        record = {**identity, "run": describe(self.run), "whitening": describe(self.whitening), "provenance": origin}
        write_text_atomically(folder / "hyperparameters.json", json.dumps(record, indent=2) + "\n")

    def _build_brain(self, steps: RunSteps, sampler: StepSampler, device: torch.device, precision: str) -> "DINOBrain":
        """A copy of the encoder with a new head; on all processes the same weights, then other random numbers."""
        from dino_speech.dino.brain import DINOBrain

        seed_everything(sampler.seed)
        head = DINOHead(self.encoder.embedding_dim, **vars(self.head))
        brain = DINOBrain(
            self,
            Network(copy.deepcopy(self.encoder), head),
            steps,
            seed=sampler.seed,
            device=device,
            precision=precision,
        )
        seed_everything(derive_seed(sampler.seed, "rank", sampler.rank))
        return brain

    def _supervise(
        self,
        brain: "DINOBrain",
        steps: RunSteps,
        sampler: StepSampler,
        manifest: Manifest,
        folder: Path,
        signals: StopSignals,
        monitor: "Monitor | None",
        identity: dict[str, Any],
        origin: dict[str, Any],
    ) -> "Supervisor":
        """The loader, and all that goes on beside the training steps."""
        from dino_speech.dino.supervisor import Supervisor

        main = is_main_process()

        def export(encoder: SpeechEncoder, target: Path, step: int) -> None:
            encoder.save(target, provenance={**origin, "step": step, "pretraining": identity})

        brain.after_step = supervisor = Supervisor(
            self,
            steps,
            folder,
            loader=self._make_loader(manifest, sampler, folder, pin_memory=brain.device_type == "cuda"),
            history=History(folder, start_step=sampler.start_step, enabled=main),
            progress=Progress(sampler.num_steps, start_step=sampler.start_step, enabled=main),
            signals=signals,
            identity=identity,
            monitor=monitor,
            export=export,
        )
        return supervisor

    def _make_loader(self, manifest: Manifest, sampler: StepSampler, folder: Path, *, pin_memory: bool) -> CropLoader:
        workers = default_num_workers(local_world_size()) if self.run.num_workers is None else self.run.num_workers
        listed = folder / "skipped.csv" if is_main_process() else None
        return make_loader(
            CropDataset(
                manifest, self.crops, seed=sampler.seed, transforms=self.transforms, cache_gib=self.run.cache_gib
            ),
            sampler,
            num_workers=workers,
            pin_memory=pin_memory,
            skipped=SkippedFiles([utterance.wav for utterance in manifest], listed),
        )

    def _whiten(self, manifest: Manifest, supervisor: "Supervisor", num_steps: int, seed: int) -> None:
        """Whiten the encoders of a finished run on disk, the last and the monitor's best, and `teacher_encoder_`."""
        if self.stop_reason_ is None and self.whitening.shrinkage is not None and is_main_process():
            self._whiten_all(manifest, supervisor, num_steps, seed, self.whitening.shrinkage)
        barrier()

    def _whiten_all(
        self, manifest: Manifest, supervisor: "Supervisor", num_steps: int, seed: int, shrinkage: float
    ) -> None:
        readable = [utterance for utterance in manifest if utterance.wav not in self.skipped_]
        finished = [(self.teacher_encoder_, supervisor.folder / "encoder", num_steps)]
        if self.best_ is not None:
            best = supervisor.folder / "best" / "encoder"
            finished.append((load_encoder(best), best, self.best_["step"]))
        for encoder, folder, step in finished:
            if encoder.whitening is None:  # a run that was complete before finds its best one whitened
                whiten(encoder, readable, self.whitening.utterances, shrinkage, seed)
                supervisor.export(encoder, folder, step)

    def _conclude(self, brain: "DINOBrain", supervisor: "Supervisor") -> None:
        supervisor.gather_skipped()
        self.teacher_encoder_ = supervisor.teacher_encoder(brain)
        self.history_ = supervisor.history.rows
        self.best_ = supervisor.best
        self.skipped_ = dict(supervisor.loader.skipped.reasons)
        self.stop_reason_ = supervisor.stop_reason
        step = brain.optimizer_step
        if self.skipped_:
            logger.warning("%d file(s) were skipped: see %s", len(self.skipped_), supervisor.folder / "skipped.csv")
        if self.stop_reason_ == "signal":
            raise Interrupted(supervisor.signals.signum or 0, step)
        if self.stop_reason_ == "collapse":
            found = "; ".join(str(finding) for finding in supervisor.doctor.findings)
            raise TrainingCollapsed(f"stopped at step {step}: {found}")
        if self.stop_reason_ == "max_minutes":
            logger.warning(
                "stopped after step %d of %d: max_minutes = %g are over; fit again goes on from there",
                *(step, supervisor.steps.num_steps, self.run.max_minutes),
            )
