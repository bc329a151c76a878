"""What a stage begins with: frozen parts, an optimizer, and a loader of chunks of the stage's own length."""

import torch
from torch import Tensor

from dino_speech.audio.crops import RandomChunk
from dino_speech.audio.io import SAMPLE_RATE
from dino_speech.data.loading.datasets import CropDataset
from dino_speech.data.loading.loaders import CropLoader, StepSampler, default_num_workers, make_loader
from dino_speech.data.loading.skipped import SkippedFiles
from dino_speech.data.manifest import Manifest
from dino_speech.data.seeds import derive_seed
from dino_speech.transfer.hyperparameters import TuningParameters
from dino_speech.transfer.losses import balanced_weights
from dino_speech.transfer.run import TuningRun
from dino_speech.transfer.stage_run import StageRun
from dino_speech.transfer.targets import Classes


class StageStarter:
    """Gives what a stage is trained with, called with its number.

    Args:
        tuner: the hyper-parameters.
        run: says where each stage begins.
        train: the labelled utterances.
        seed: of the whole run.
        device: to train on.
        precision: "bf16", "fp16" or "fp32".

    Attributes:
        skipped: files that could not be used, in all stages.
    """

    def __init__(
        self,
        tuner: TuningParameters,
        run: TuningRun,
        train: Manifest,
        *,
        seed: int,
        device: torch.device,
        precision: str,
    ) -> None:
        self.tuner, self.run, self.train = tuner, run, train
        self.seed, self.device, self.precision = seed, device, precision
        self.targets = run.system.targets.of_rows(train)
        self.skipped = SkippedFiles([utterance.wav for utterance in train], run.folder / "skipped.csv")
        self.dataset: CropDataset | None = None

    def __call__(self, number: int) -> tuple[StageRun, CropLoader]:
        """Freeze what stage `number` freezes; its steps, and its chunks from the step that the run stands at."""
        stage, seed = self.tuner.stages[number], derive_seed(self.seed, "stage", number)
        stage_run = StageRun(
            self.tuner,
            stage,
            self.run.system.encoder,
            self.run.system.head,
            num_steps=self.run.steps[number],
            targets=self.targets,
            class_weights=self._class_weights(),
            seed=seed,
            device=self.device,
            precision=self.precision,
        )
        self.dataset = CropDataset(
            self.train,
            RandomChunk(stage.chunk_s, min_s=self.tuner.encoder.min_samples / SAMPLE_RATE),
            seed=seed,
            cache_gib=self.tuner.cache_gib,
            silent_dbfs=self.tuner.silent_dbfs,
            cache=None if self.dataset is None else self.dataset.cache,
        )
        sampler = StepSampler(
            len(self.train),
            self.tuner.batch_of(len(self.train)),
            seed=seed,
            num_steps=self.run.steps[number],
            start_step=self.run.stage_step,
        )
        workers = default_num_workers() if self.tuner.num_workers is None else self.tuner.num_workers
        return stage_run, make_loader(
            self.dataset,
            sampler,
            num_workers=workers,
            pin_memory=self.device.type == "cuda",
            skipped=self.skipped,
        )

    def _class_weights(self) -> Tensor | None:
        if self.tuner.class_weights is None or not isinstance(self.run.system.targets, Classes):
            return None
        return balanced_weights(self.targets.tolist(), len(self.run.system.targets.names))
