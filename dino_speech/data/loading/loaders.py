"""Which utterances make up which step, and the workers that cut their crops.

A loader has no state but the number of the next step: the order of an epoch is a permutation seeded by (seed, epoch),
and an item's randomness is seeded by its position (see `datasets.py`). So a run that is resumed at step s sees what it
would have seen, with any number of workers.
"""

import contextlib
import logging
import os
import shutil
import signal
import time
from collections.abc import Generator, Iterator
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler, default_collate

from dino_speech.data.loading.datasets import CropDataset
from dino_speech.data.loading.epoch_order import grouped_order, mixed_order, shard_order
from dino_speech.data.loading.skipped import SkippedFiles
from dino_speech.data.seeds import seeded_generator
from dino_speech.distributed import local_world_size
from dino_speech.errors import InputError

logger = logging.getLogger(__name__)
SHARED_MEMORY = Path("/dev/shm")
PREFETCH = 3  # batches that a worker is ahead
Key = tuple[int, int]


@dataclass(eq=False)
class StepSampler(Sampler[list[Key]]):
    """Micro-batches of (position, index), step after step, through as many epochs as that takes.

    An epoch is `num_items // batch_size` steps over a new permutation; what is left over differs from epoch to epoch,
    and no utterance stands twice in one batch. A step's batch (`batch_size` over all ranks and micro-batches together)
    is dealt out in turn to them, so that together they see the very batch that one process would see. `shards`
    (num_items,) makes an order in which each process reads its own shards (see `shard_order`), `groups` (num_items,)
    one in which a batch is of `groups_per_batch` groups (see `grouped_order`); None: all utterances are mixed.

    Example:
        >>> sampler = StepSampler(10, 4, seed=0, num_steps=2)
        >>> [[position for position, _ in batch] for batch in sampler]
        [[0, 1, 2, 3], [4, 5, 6, 7]]
    """

    num_items: int
    batch_size: int
    _: KW_ONLY
    seed: int
    num_steps: int
    start_step: int = 0
    accumulation_steps: int = 1
    rank: int = 0
    world_size: int = 1
    shards: NDArray[np.int64] | None = None
    shards_at_once: int = 1
    groups: NDArray[np.int64] | None = None
    groups_per_batch: int = 1

    def __post_init__(self) -> None:
        if self.num_items < self.batch_size:
            problem = f"the manifest has {self.num_items} utterances, fewer than batch_size = {self.batch_size}"
            raise InputError(f"{problem}: lower batch_size to {self.num_items} or less, or add utterances")
        parts = self.accumulation_steps * self.world_size
        if self.batch_size % parts:
            raise InputError(
                f"batch_size = {self.batch_size} utterances per step cannot be dealt out evenly to {self.world_size} "
                f"process(es) x accumulation_steps = {self.accumulation_steps}: take a multiple of {parts}"
            )
        if self.shards is not None and self.groups is not None:
            raise InputError("batch_by and shards_at_once are both set; an epoch has one order: leave one of them out")
        if self.groups is not None and self.batch_size % self.groups_per_batch:
            problem = f"batch_size = {self.batch_size} does not fall into {self.groups_per_batch} equal groups"
            raise InputError(f"{problem}: take a divisor of it as groups_per_batch")
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the utterances."""
        return self.num_items // self.batch_size

    def step_batch(self, step: int) -> list[Key]:
        """(position, index) of all utterances of a step, over all ranks and micro-batches."""
        epoch, step_of_epoch = divmod(step, self.steps_per_epoch)
        if self._order[0] != epoch:
            self._order = epoch, self._draw_order(epoch)
        first = step_of_epoch * self.batch_size
        indices = self._order[1][first : first + self.batch_size].tolist()
        return list(enumerate(indices, start=step * self.batch_size))

    def _draw_order(self, epoch: int) -> NDArray[np.int64]:
        draw: dict[str, int] = {"seed": self.seed, "epoch": epoch}
        if self.groups is not None:
            return grouped_order(self.groups, **draw, chunk=self.batch_size // self.groups_per_batch)
        if self.shards is None:
            return mixed_order(self.num_items, **draw)
        return np.array(
            shard_order(self.shards, **draw, shards_at_once=self.shards_at_once, world_size=self.world_size)
        )

    def __iter__(self) -> Iterator[list[Key]]:
        parts = self.accumulation_steps * self.world_size
        for step in range(self.start_step, self.num_steps):
            batch = self.step_batch(step)
            for micro_batch in range(self.accumulation_steps):
                yield batch[micro_batch * self.world_size + self.rank :: parts]

    def __len__(self) -> int:
        return max(0, self.num_steps - self.start_step) * self.accumulation_steps


class CropLoader(DataLoader[dict[str, Any]]):
    """A DataLoader of crops that knows for how many seconds it was waited for, and lists the files it had to skip."""

    wait_s: float
    skipped: SkippedFiles

    def __iter__(self) -> Generator[dict[str, Any], None, None]:  # type: ignore[override]
        self.wait_s = 0.0
        batches: Any = super().__iter__()
        try:
            while True:
                start = time.perf_counter()
                try:
                    batch = next(batches)
                except StopIteration:
                    return
                except (ConnectionError, EOFError) as error:  # the batch lay in the memory of a worker that is gone
                    raise RuntimeError(f"DataLoader worker was lost before its batch was read ({error}).") from error
                finally:
                    self.wait_s += time.perf_counter() - start
                self.skipped.add(batch["index"].tolist(), batch.pop("failures"))
                if batch["long"] is None:
                    self.skipped.stop("Many utterances in a row")
                yield batch
        finally:
            # Not left to the garbage collector: a traceback may hold them, and Python would wait at its end for
            # workers that no SIGTERM ends (see `_start_worker`).
            if self.num_workers:
                batches._shutdown_workers()


@contextlib.contextmanager
def lost_workers_named() -> Iterator[None]:
    """A reading process that was killed, which torch may notice at any place within, becomes one clear line."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        problem = f"a reading process ended: {str(error).splitlines()[0]} Most often memory ran out: lower num_workers,"
        cure = "batch_size or cache_gib; the same call goes on from the last saved state"
        raise InputError(f"{problem} {cure}") from error


def make_loader(
    dataset: CropDataset,
    sampler: StepSampler,
    *,
    num_workers: int = 1,
    pin_memory: bool = False,
    skipped: SkippedFiles | None = None,
) -> CropLoader:
    """A loader of batches `long` (B, num_long, S), `short` (B, num_short, S), `index` (B,).

    One reading process is enough where the corpus fits into the cache; 0 reads in the training process. `skipped`: a
    list to continue.
    """
    num_workers = _fit_shared_memory(dataset, sampler, num_workers)
    loader = CropLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate_crops,
        worker_init_fn=_start_worker if num_workers else None,
        pin_memory=pin_memory,
        # Its own generator: a loader that draws the seeds of its workers from the global one changes the run.
        generator=seeded_generator(sampler.seed, "workers"),
        prefetch_factor=PREFETCH if num_workers else None,
    )
    loader.skipped = SkippedFiles(dataset.manifest.files) if skipped is None else skipped
    loader.wait_s = 0.0
    return loader


def collate_crops(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack the items of a batch; the failures of all items become one list."""
    failures = [failure for item in items for failure in item["failures"]]
    index = torch.tensor([item["index"] for item in items])
    if any(item["long"] is None for item in items):
        return {"long": None, "short": None, "index": index, "failures": failures}
    # default_collate stacks straight into the memory that a worker shares with the training process.
    return {
        "long": default_collate([item["long"] for item in items]),
        "short": default_collate([item["short"] for item in items]),
        "index": index,
        "failures": failures,
    }


def default_num_workers(num_processes: int = 1) -> int:
    """Reading processes for each of the training processes of a machine: the cores that these leave, from 1 to 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores // num_processes - 1))


def _start_worker(worker_id: int) -> None:
    # One thread each: the cores belong to the training. Ctrl-C and a scheduler's SIGTERM or SIGUSR1 may reach the
    # workers too, and they must outlive the step that the training process finishes; they end with the loader.
    torch.set_num_threads(1)
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):  # Windows has no SIGUSR1
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _fit_shared_memory(dataset: CropDataset, sampler: StepSampler, num_workers: int) -> int:
    """`num_workers`, or fewer where /dev/shm (64 MB in many containers) cannot hold all processes' batches."""
    if not num_workers or not SHARED_MEMORY.is_dir():
        return num_workers
    crops = dataset.crops
    samples = crops.num_long * crops.long_samples + crops.num_short * crops.short_samples
    batch_bytes = 4 * samples * sampler.batch_size // (sampler.accumulation_steps * sampler.world_size)
    free = shutil.disk_usage(SHARED_MEMORY).free // local_world_size()  # this process's share of it
    # Each worker's prefetched batches, one being made, and one in use by the training.
    fitting = max(0, (free - batch_bytes) // ((PREFETCH + 1) * batch_bytes))
    if fitting < num_workers:
        logger.warning(
            "%s has %d MB free for each process, enough for the batches of %d worker(s) and not %d; reading with %d. "
            "For more, give the container more shared memory (docker run --shm-size=2g)",
            *(SHARED_MEMORY, free // 2**20, fitting, num_workers, fitting),
        )
    return min(num_workers, fitting)
