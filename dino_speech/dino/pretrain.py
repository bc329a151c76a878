"""Pretraining from a manifest to an encoder on disk: the parts are put together here and nowhere else."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dino_speech.data.derived_manifests import long_enough
from dino_speech.data.loading.datasets import CropDataset
from dino_speech.data.loading.epoch_order import shard_numbers
from dino_speech.data.loading.loaders import StepSampler
from dino_speech.data.loading.mates import Mates
from dino_speech.data.manifest import Manifest, read_manifest
from dino_speech.data.seeds import derive_seed
from dino_speech.data.sole_use import alone
from dino_speech.dino.checks import check_parts
from dino_speech.dino.collapse_doctor import TrainingCollapsed
from dino_speech.dino.head import DINOHead, Network
from dino_speech.dino.hyperparameters import Hyperparameters, RunSteps, completed_identity
from dino_speech.dino.self_distillation import Export, Monitor, SelfDistillation
from dino_speech.dino.whiten import whiten
from dino_speech.distributed import join_processes, rank, world_size
from dino_speech.models.checkpoint import load_encoder
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.precision import choose_precision
from dino_speech.provenance import provenance
from dino_speech.training.loop import train
from dino_speech.training.processes import Processes
from dino_speech.training.run_identity import describe, describe_manifest
from dino_speech.training.state import seed_everything
from dino_speech.training.training import Outcome


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

    @alone()
    def fit(
        self,
        manifest: Manifest | str | PathLike[str] | Sequence[str | PathLike[str]],
        *,
        output_folder: str | PathLike[str],
        seed: int = 1986,
        monitor: Monitor | None = None,
        device: str | torch.device | None = None,
        resume: bool = True,
    ) -> "DINOPretrainer":
        """Train, and leave the teacher's encoder at `<output_folder>/encoder`.

        A run that was stopped, in whatever way, goes on from its last saved state when called again, to the same
        numbers; one that is complete is only loaded. Under torchrun each process trains its part of each batch.

        Beside the encoder the folder gets `best/encoder` (with a monitor), `snapshots/`, `history.jsonl`,
        `tensorboard/`, `hyperparameters.json`, `skipped.csv` and `state/`. Global random generators are seeded.

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
        manifest = manifest if isinstance(manifest, Manifest) else read_manifest(manifest)
        manifest = long_enough(manifest, self.crops.min_s)
        folder, chosen = Path(output_folder), join_processes(device)
        steps, precision = self.steps(len(manifest)), choose_precision(self.run.precision, chosen)
        sampler = self._sampler(manifest, steps.num_steps, seed)
        check_parts(self, steps)
        mates = self.mates.load(manifest, within=self.schedule.batch_by)
        data = {"manifest": describe_manifest(manifest), "mates": self.mates.identity(mates)}
        identity = self.identity(steps) | {"seed": seed, "precision": precision, **data}
        origin = provenance(seed=seed, manifest=manifest.paths)

        def export(encoder: SpeechEncoder, name: str, step: int) -> None:
            encoder.save(folder / name, provenance={**origin, "step": step, "pretraining": identity})

        training = self._training(manifest, mates, steps, sampler, chosen, monitor, export)
        run = replace(self.run, precision=precision)  # type: ignore[arg-type]
        found = train(
            *(training, run, folder, identity),
            completed=completed_identity,
            described={"whitening": describe(self.whitening)},
            origin=origin,
            seed=seed,
            resume=resume,
        )
        self._conclude(training, found)
        self._whiten(training, folder, seed)
        return self

    def _sampler(self, manifest: Manifest, num_steps: int, seed: int) -> StepSampler:
        column = self.schedule.batch_by
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
            groups=None if column is None else np.unique(manifest.label(column), return_inverse=True)[1],
            groups_per_batch=self.schedule.groups_per_batch,
        )

    def _training(
        self,
        manifest: Manifest,
        mates: Mates | None,
        steps: RunSteps,
        sampler: StepSampler,
        device: torch.device,
        monitor: Monitor | None,
        export: Export,
    ) -> SelfDistillation:
        """A copy of the encoder with a new head; on all processes the same weights, then other random numbers."""
        seed_everything(sampler.seed)
        network = Network(copy.deepcopy(self.encoder), DINOHead(self.encoder.embedding_dim, **vars(self.head)))
        heard: dict[str, Any] = {"transforms": self.transforms, "mates": mates, "p_mate": self.mates.probability}
        crops = CropDataset(manifest, self.crops, seed=sampler.seed, cache_gib=self.run.cache_gib, **heard)
        training = SelfDistillation(self, network, steps, sampler, crops, device=device, monitor=monitor, export=export)
        seed_everything(derive_seed(sampler.seed, "rank", sampler.rank))
        return training

    def _whiten(self, training: SelfDistillation, folder: Path, seed: int) -> None:
        """Whiten the encoders of a finished run on disk, the last and the monitor's best, and `teacher_encoder_`."""
        shrinkage = self.whitening.shrinkage
        if self.stop_reason_ is not None or shrinkage is None:
            return
        readable = [utterance for utterance in training.manifest if utterance.wav not in self.skipped_]
        finished = [(self.teacher_encoder_, "encoder", training.num_steps)]
        if self.best_ is not None:
            best = load_encoder(folder / "best" / "encoder", device=training.device)
            finished.append((best, "best/encoder", self.best_["step"]))
        processes = Processes()
        processes.wait()  # all have read what the main one will write
        for encoder, name, step in finished:
            if encoder.whitening is None:  # a run that was complete before finds its best one whitened
                whiten(encoder, readable, self.whitening.utterances, shrinkage, seed)
                processes.from_main(partial(training.export, encoder, name, step))

    def _conclude(self, training: SelfDistillation, found: Outcome) -> None:
        self.teacher_encoder_, self.best_ = training.teacher_encoder(), training.best
        self.history_, self.skipped_, self.stop_reason_ = found.history, found.skipped, found.stop_reason
        if self.stop_reason_ == "collapse":
            named = "; ".join(str(finding) for finding in training.doctor.findings)
            raise TrainingCollapsed(f"stopped at step {found.step}: {named}")
