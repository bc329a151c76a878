"""From a manifest to crops: item i of step s is the same whatever ran before, in whichever worker.

Letters: `S` samples of a crop. Batching and the order of utterances live in `loaders.py`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dino_speech.audio.crops import MultiCrop
from dino_speech.audio.io import SILENT_DBFS, audio_info, load_audio
from dino_speech.data.loading.crop_cache import WaveCache
from dino_speech.data.manifest import Manifest
from dino_speech.data.seeds import seeded_generator
from dino_speech.errors import InputError

# So many utterances in a row fail by chance only where nearly all of them are bad. # ours
MAX_ATTEMPTS = 30
# Draws of positions in one utterance until no crop is silent: a recording may hold seconds of digital silence. # ours
MAX_DRAWS = 6

Transforms = Callable[..., Tensor]


class CropDataset(Dataset[dict[str, Any]]):
    """The crops of one utterance, cut from the span that they need, which is all that is read.

    A key is (position, index): the number of the sample in the whole training run, and the utterance. All that is
    random about an item is drawn from a generator seeded by (seed, position). An utterance that cannot be read, is too
    short or silent is replaced by another, drawn from the same seed, and reported in `failures`.

    Args:
        manifest: the utterances.
        crops: how many crops of what length.
        seed: of the whole run.
        transforms: applied to each crop by itself, as `transforms(wave, generator=generator)`; None leaves it alone.
        cache_gib: memory in GiB for decoded waves (see `WaveCache`).
        cache: decoded waves of this very manifest to share with another dataset, in place of a new cache.
        silent_dbfs: a crop of a lower level counts as silent.
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
    ) -> None:
        self.manifest = manifest
        self.crops = crops
        self.seed = seed
        self.transforms = transforms
        self.silent_dbfs = silent_dbfs
        durations_s = [utterance.duration for utterance in manifest]
        self.cache = WaveCache(durations_s, cache_gib) if cache is None else cache
        self._bad: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """One utterance's crops.

        Returns:
            `long` (num_long, S), `short` (num_short, S), `index` (the utterance that was used) and `failures`
            [(index, reason)]. `long` is None where `MAX_ATTEMPTS` utterances failed.
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
            return {"long": long, "short": short, "index": index, "failures": failures}
        return {"long": None, "short": None, "index": index, "failures": failures}

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
