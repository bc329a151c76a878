"""What continued pretraining, masked prediction and distillation share: chunks in, an objective, one learning rate.

What is minimised is the caller's `Objective`; the steps are taken by `training/loop.py`. Letters: `B` utterances, `S`
samples of a chunk.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dino_speech.audio.crops import RandomChunk
from dino_speech.audio.io import SAMPLE_RATE
from dino_speech.data.loading.datasets import CropDataset
from dino_speech.data.loading.skipped import SkippedFiles
from dino_speech.data.manifest import Manifest
from dino_speech.frame_level.parameters import StepParameters
from dino_speech.provenance import provenance
from dino_speech.training.loop import train
from dino_speech.training.optimizer import optimizer_of, split_by_decay
from dino_speech.training.training import Outcome, Stage, Training, batch_of, deal, read_batches


class Objective(nn.Module):
    """What the steps minimise; its parameters that need a gradient are trained."""

    def losses(self, waves: Tensor, index: Tensor, step: int) -> dict[str, Tensor]:
        """Chunks (B, S) of the utterances `index` (B,) -> 0-d figures by name; `loss` is minimised, all are logged.

        Of several processes each has its part of the batch: see `training.processes` for what is no plain mean.
        """
        raise NotImplementedError


class ChunkTraining(Training):
    """Trains an objective on random chunks.

    Args:
        objective: on its device.
        hyper: hyper-parameters of the steps.
        manifest: the utterances.
        min_samples: shorter utterances are skipped and listed.
        seed: of the order and the chunks.
        device: to train on.
    """

    def __init__(
        self,
        objective: Objective,
        hyper: StepParameters,
        manifest: Manifest,
        *,
        min_samples: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.objective, self.hyper, self.manifest, self.seed, self.device = objective, hyper, manifest, seed, device
        self.num_steps, self.clip_norm = hyper.num_steps(len(manifest)), hyper.clip_norm
        self.batch_size = batch_of(hyper.batch_size, len(manifest))
        self.dataset = chunks_of(manifest, hyper, min_samples=min_samples, seed=seed)
        groups = split_by_decay(objective.parameters(), weight_decay=hyper.weight_decay)
        self.optimizer = optimizer_of(hyper.optimizer, [group for group in groups if group["params"]], lr=hyper.lr)

    def parts(self) -> dict[str, nn.Module]:
        """What is kept in a state."""
        return {"objective": self.objective}

    def begin(self, step: int, skipped: SkippedFiles) -> Stage:
        """The one stage."""
        self.objective.train()
        sampler = deal(len(self.manifest), self.batch_size, seed=self.seed, num_steps=self.num_steps, start_step=step)
        loader = read_batches(self.dataset, sampler, self.hyper.run, self.device, skipped)
        return Stage(self.optimizer, loader, 0, self.num_steps)

    def schedule(self, optimizer: Optimizer, step: int) -> None:
        """The learning rate."""
        factor = self.hyper.lr_factor(step, self.num_steps)
        for group in optimizer.param_groups:
            group["lr"] = factor * self.hyper.lr

    def hear(self, batch: Mapping[str, Tensor], step: int, micro_batch: int) -> tuple[Tensor, Tensor]:
        """Chunks (B, S) and utterances (B,)."""
        return batch["long"].squeeze(1).to(self.device, non_blocking=True), batch["index"].to(self.device)

    def losses(self, heard: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        """Those of the objective."""
        return self.objective.losses(*heard, step)

    def row(self, step: int, means: Mapping[str, Tensor], grad_norm: float) -> dict[str, Any]:
        """Means of all figures."""
        figures = {name: round(float(mean), 6) for name, mean in means.items()}
        return {**figures, "lr": self.optimizer.param_groups[0]["lr"]}


def chunks_of(manifest: Manifest, hyper: StepParameters, *, min_samples: int, seed: int) -> CropDataset:
    """Random chunks `long` (1, S) of utterances that are no shorter than `min_samples`."""
    chunks = RandomChunk(hyper.chunk_s, min_s=min_samples / SAMPLE_RATE)
    return CropDataset(manifest, chunks, seed=seed, cache_gib=hyper.run.cache_gib)


def minimise(
    objective: Objective,
    hyper: StepParameters,
    manifest: Manifest,
    *,
    min_samples: int,
    folder: Path,
    identity: dict[str, Any],
    seed: int,
    device: torch.device,
    resume: bool,
) -> Outcome:
    """Train an objective in place, as `training.loop.train` does; `identity` holds the precision."""
    run = replace(hyper.run, precision=identity["precision"])
    training = ChunkTraining(objective, hyper, manifest, min_samples=min_samples, seed=seed, device=device)
    origin = provenance(seed=seed, manifest=list(manifest.paths))
    return train(training, run, folder=folder, identity=identity, origin=origin, seed=seed, resume=resume)
