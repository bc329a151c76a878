"""The batches of a training: which utterances each process is dealt, and the workers that read them."""

import torch

from dino_speech.data.loading.datasets import CropDataset
from dino_speech.data.loading.loaders import CropLoader, StepSampler, default_num_workers, make_loader
from dino_speech.data.loading.skipped import SkippedFiles
from dino_speech.distributed import local_world_size, rank, world_size
from dino_speech.training.settings import RunSettings


def batch_of(batch_size: int, num_utterances: int) -> int:
    """Utterances per step; of a training set that is smaller than a batch all that can be dealt out evenly."""
    if num_utterances >= batch_size:
        return batch_size
    return max(1, num_utterances - num_utterances % world_size())


def deal(num_utterances: int, batch_size: int, *, seed: int, num_steps: int, start_step: int = 0) -> StepSampler:
    """This process's part of each step's batch."""
    return StepSampler(
        num_utterances,
        batch_size,
        seed=seed,
        num_steps=num_steps,
        start_step=start_step,
        rank=rank(),
        world_size=world_size(),
    )


def read_batches(
    dataset: CropDataset,
    sampler: StepSampler,
    run: RunSettings,
    device: torch.device,
    skipped: SkippedFiles | None = None,
) -> CropLoader:
    """A loader with as many workers as the run says, or the cores allow."""
    return make_loader(
        dataset,
        sampler,
        num_workers=default_num_workers(local_world_size()) if run.num_workers is None else run.num_workers,
        pin_memory=device.type == "cuda",
        skipped=skipped,
    )
