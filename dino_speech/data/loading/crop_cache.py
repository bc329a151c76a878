"""Decoded waves kept in memory that all loader workers share, so that a small corpus is decoded once.

16 kHz int16 takes 0.107 GiB per hour of speech. The memory is an anonymous map made before the workers are forked:
it is not limited by /dev/shm, takes real memory only where something was written, and whichever worker decodes a
file fills it for all. Where workers are started afresh (Windows, macOS) each has its own.
"""

import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from dino_speech.audio.io import seconds_to_samples

# A long recording would be decoded whole for the sake of one crop, while the training waits.
MAX_CACHED_S = 120.0  # ours
# A header and a manifest may differ a little about the length of a file.
SLACK_S = 0.1  # ours
FULL_SCALE = 32_767.0


class WaveCache:
    """A place in shared memory for each utterance, as far as the budget reaches.

    Which utterances have a place follows from the durations and the budget alone, never from what ran before: an
    utterance with a place is always heard with the 16 bits of the cache, any other always as decoded.

    Args:
        durations_s: duration of each utterance in seconds.
        gib: budget in GiB for all workers together; 0 keeps nothing.
    """

    def __init__(self, durations_s: Sequence[float], gib: float) -> None:
        sizes = np.array(
            [seconds_to_samples(s + SLACK_S) if s <= MAX_CACHED_S else 0 for s in durations_s], dtype=np.int64
        )
        fits = np.cumsum(sizes) * 2 <= gib * 2**30
        self._sizes = np.where(fits, sizes, 0)
        self._offsets = np.cumsum(self._sizes) - self._sizes
        self._allocate()

    def _allocate(self) -> None:
        num_samples = int(self._sizes.sum())
        self._samples = np.frombuffer(mmap.mmap(-1, max(1, num_samples) * 2), dtype=np.int16)
        # 0: not decoded yet; otherwise the number of samples, written after the samples themselves.
        self._lengths = np.frombuffer(mmap.mmap(-1, max(1, len(self._sizes)) * 8), dtype=np.int64)

    def has_place(self, index: int) -> bool:
        """Whether utterance `index` belongs into the cache."""
        return bool(self._sizes[index])

    def num_samples(self, index: int) -> int:
        """Length of a wave that was put before, 0 where there is none yet."""
        return int(self._lengths[index])

    def span(self, index: int, start: int, stop: int) -> torch.Tensor:
        """Samples start..stop of a wave that was put before, (stop - start,) float32."""
        offset = int(self._offsets[index])
        return torch.from_numpy(self._samples[offset + start : offset + stop] / np.float32(FULL_SCALE))

    def put(self, index: int, wave: torch.Tensor) -> bool:
        """Keep a wave (time,) float32; False where it is longer than its place, or beyond full scale."""
        if not 0 < len(wave) <= self._sizes[index] or float(wave.abs().max()) > 1.0:
            return False
        offset = int(self._offsets[index])
        self._samples[offset : offset + len(wave)] = np.round(wave.numpy() * FULL_SCALE)
        self._lengths[index] = len(wave)
        return True

    def __getstate__(self) -> dict[str, Any]:
        # Shared memory does not travel to a process that was started afresh.
        return {"_sizes": self._sizes, "_offsets": self._offsets}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._allocate()
