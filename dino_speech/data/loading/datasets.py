"""From a manifest to crops of `S` samples: item i of step s is the same whatever ran before, in whichever worker.

Decoded waves are kept in memory that all loader workers share, so that a small corpus is decoded once: 16 kHz int16
takes 0.107 GiB per hour of speech. The memory is an anonymous map made before the workers are forked: it is not limited
by /dev/shm, takes real memory only where something was written, and whichever worker decodes a file fills it for all.
Where workers are started afresh (Windows, macOS) each has its own.
"""

import mmap
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dino_speech.audio.crops import MultiCrop
from dino_speech.audio.io import SILENT_DBFS, audio_info, load_audio, seconds_to_samples
from dino_speech.data.loading.mates import Mates
from dino_speech.data.manifest import Manifest
from dino_speech.data.seeds import seeded_generator
from dino_speech.errors import InputError

# So many utterances in a row fail by chance only where nearly all of them are bad. # ours
MAX_ATTEMPTS = 30
# Draws of positions in one utterance until no crop is silent: a recording may hold seconds of digital silence. # ours
MAX_DRAWS = 6

Transforms = Callable[..., Tensor]
# A long recording would be decoded whole for the sake of one crop, while the training waits.
MAX_CACHED_S = 120.0  # ours
# A header and a manifest may differ a little about the length of a file.
SLACK_S = 0.1  # ours
FULL_SCALE = 32_767.0


class WaveCache:
    """A place in shared memory for each utterance (duration in seconds), within a budget in GiB for all workers.

    Which utterances have a place follows from the durations and the budget alone, never from what ran before: an
    utterance with a place is always heard with the 16 bits of the cache, any other always as decoded.
    """

    def __init__(self, durations_s: Iterable[float], gib: float) -> None:
        sizes: list[int] = []
        num_bytes = 0
        for seconds in durations_s:  # the first ones that fit, so that the rest of a long manifest takes nothing
            size = seconds_to_samples(seconds + SLACK_S) if seconds <= MAX_CACHED_S else 0
            num_bytes += 2 * size
            if num_bytes > gib * 2**30:
                break
            sizes.append(size)
        self._sizes = np.array(sizes, dtype=np.int64)
        self._offsets = np.cumsum(self._sizes) - self._sizes
        self._allocate()

    def _allocate(self) -> None:
        num_samples = int(self._sizes.sum())
        self._samples = np.frombuffer(mmap.mmap(-1, max(1, num_samples) * 2), dtype=np.int16)
        # 0: not decoded yet; otherwise the number of samples, written after the samples themselves.
        self._lengths = np.frombuffer(mmap.mmap(-1, max(1, len(self._sizes)) * 8), dtype=np.int64)

    def has_place(self, index: int) -> bool:
        """Whether utterance `index` belongs into the cache."""
        return index < len(self._sizes) and bool(self._sizes[index])

    def num_samples(self, index: int) -> int:
        """Length of a wave that was put before, 0 where there is none yet."""
        return int(self._lengths[index]) if index < len(self._sizes) else 0

    def span(self, index: int, start: int, stop: int) -> torch.Tensor:
        """Samples start..stop of a wave that was put before, (stop - start,) float32."""
        offset = int(self._offsets[index])
        return torch.from_numpy(self._samples[offset + start : offset + stop] / np.float32(FULL_SCALE))

    def put(self, index: int, wave: torch.Tensor) -> bool:
        """Keep a wave (time,) float32; False where it is longer than its place, or beyond full scale."""
        if not self.has_place(index) or not 0 < len(wave) <= self._sizes[index] or float(wave.abs().max()) > 1.0:
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


class CropDataset(Dataset[dict[str, Any]]):
    """The crops of one utterance, cut from the span that they need, which is all that is read.

    A key is (position, index): the number of the sample in the whole training run, and the utterance. All that is
    random about an item is drawn from a generator seeded by (seed, position). An utterance that cannot be read, is too
    short or silent is replaced by another, drawn from the same seed, and reported in `failures`.

    `transforms(wave, generator=generator)` is applied to each crop by itself; `cache` are decoded waves of this very
    manifest to share with another dataset; a crop of a lower level than `silent_dbfs` counts as silent. With
    probability `p_mate` the second half of the long views and the second half of the short ones are those of one of the
    utterance's `mates`, cut as its own would be.
    """

    def __init__(
        self,
        manifest: Manifest,
        crops: MultiCrop,
        *,
        seed: int,
        transforms: Transforms | None = None,
        cache_gib: float = 0.0,
        cache: WaveCache | None = None,
        silent_dbfs: float = SILENT_DBFS,
        mates: Mates | None = None,
        p_mate: float = 0.0,
    ) -> None:
        self.mates, self.p_mate = mates, p_mate
        self.manifest, self.crops, self.seed = manifest, crops, seed
        self.transforms, self.silent_dbfs = transforms, silent_dbfs
        durations_s = (utterance.duration for utterance in manifest)
        self.cache = WaveCache(durations_s, cache_gib) if cache is None else cache
        self._bad: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """`long` (num_long, S), `short` (num_short, S), the `index` that was used, and `failures` [(index, reason)].

        `long` is None where `MAX_ATTEMPTS` utterances failed.
        """
        position, index = key
        failures: list[tuple[int, str]] = []
        for attempt in range(MAX_ATTEMPTS):
            # A generator for each attempt: what is drawn must not depend on how far a failed attempt got.
            generator = seeded_generator(self.seed, "crops", position, attempt)
            if attempt:
                index = int(torch.randint(len(self), (), generator=generator))
            try:
                long, short = self._cut(index, generator)
            except InputError as error:
                failures.append((index, str(error)))
                continue
            long, short = self._with_mate(position, index, (long, short), failures)
            return {"long": long, "short": short, "index": index, "failures": failures}
        return {"long": None, "short": None, "index": index, "failures": failures}

    def _with_mate(
        self, position: int, index: int, views: tuple[Tensor, Tensor], failures: list[tuple[int, str]]
    ) -> tuple[Tensor, Tensor]:
        """The views, perhaps half of them a mate's; a mate that cannot be used is noted, and the views stay."""
        if self.mates is None:
            return views
        generator = seeded_generator(self.seed, "mates", position)
        wanted = float(torch.rand((), generator=generator)) < self.p_mate
        mate = self.mates.draw(index, generator) if wanted else None
        if mate is None:
            return views
        try:
            others = self._cut(mate, generator)
        except InputError as error:
            failures.append((mate, str(error)))
            return views
        # Of one long and one short view, or of two long ones, it is the second that is the mate's.
        kept = (len(views[0]) + 1) // 2, len(views[1]) // 2
        long, short = (torch.cat([a[:n], b[n:]]) for a, b, n in zip(views, others, kept, strict=True))
        return long, short

    def _cut(self, index: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        if index in self._bad:
            raise InputError(self._bad[index])
        try:
            num_samples = self._num_samples(index)
        except InputError as error:
            # Only what fails at any position may be remembered: a worker that began later must find the same.
            self._bad[index] = str(error)
            raise
        drawn = None
        for _ in range(MAX_DRAWS):
            plan = self.crops.plan(num_samples, generator)
            views = self.crops.cut(self._read(index, plan.start, plan.stop), plan)
            silent = torch.cat([_is_silent(view, self.silent_dbfs) for view in views])
            drawn = drawn if silent.all() else views
            if not silent.any():
                break
        if drawn is None:
            raise InputError(f"silent (below {self.silent_dbfs:.0f} dBFS) wherever crops were drawn")
        long, short = drawn
        if self.transforms is not None:
            long, short = (self._transform(views, generator) for views in (long, short))
        return long, short

    def _transform(self, views: Tensor, generator: torch.Generator) -> Tensor:
        assert self.transforms is not None
        done = [self.transforms(view, generator=generator) for view in views]
        return torch.stack(done) if done else views

    def _num_samples(self, index: int) -> int:
        """Length of an utterance at 16 kHz, from its header or from the cache, which is filled here."""
        utterance = self.manifest[index]
        num_samples = self.cache.num_samples(index)
        if not num_samples and self.cache.has_place(index):
            wave = load_audio(utterance.wav, start=utterance.start or 0, stop=utterance.stop)
            num_samples = len(wave)
            self.cache.put(index, wave)
        elif not num_samples:
            end = audio_info(utterance.wav).num_samples_at()
            num_samples = min(end, utterance.stop or end) - (utterance.start or 0)
        return num_samples

    def _read(self, index: int, start: int, stop: int) -> Tensor:
        if self.cache.num_samples(index):
            return self.cache.span(index, start, stop)
        utterance = self.manifest[index]
        first = utterance.start or 0
        return load_audio(utterance.wav, start=first + start, stop=first + stop)


def _is_silent(crops: Tensor, silent_dbfs: float) -> Tensor:
    """(V, S) -> (V,) bool; a constant offset is no sound."""
    variance = torch.linalg.vector_norm(crops, dim=1).square() / crops.shape[1] - crops.mean(1).square()
    return variance < 10 ** (silent_dbfs / 10)
