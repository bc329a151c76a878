"""Waveform transforms of the audiomentations library, per crop, in the workers that read the files.

For what `augment.py` does not have: compression, clipping, pitch and speed, MP3 and others. Noise and rooms are there,
where a batch costs a third of the processor time (`tests/benchmarks/bench_augment.py`).
"""

import difflib
import inspect
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dino_speech.audio.decoding import SAMPLE_RATE
from dino_speech.errors import InputError


class WaveformTransforms:
    """A chain of audiomentations transforms, each given as plain data, so that a recipe can hold it.

    The same generator gives the same output: audiomentations draws from the global generators of `random` and NumPy,
    which are seeded for each crop and put back afterwards as they were.

    Args:
        transforms: dicts with the `name` of a transform and its arguments, such as its probability `p`.

    Raises:
        InputError: an unknown name or argument, or a value that the transform refuses.

    Example:
        >>> transforms = WaveformTransforms([{"name": "SevenBandParametricEQ", "p": 0.5}, {"name": "Clip", "p": 1.0}])
        >>> transforms(torch.randn(2, 16_000), generator=torch.Generator().manual_seed(0)).shape
        torch.Size([2, 16000])
    """

    def __init__(self, transforms: Sequence[dict[str, Any]]) -> None:
        self.specs = [dict(spec) for spec in transforms]
        self._names = [str(spec.get("name")) for spec in self.specs]
        self._chain = [_build(spec, number) for number, spec in enumerate(self.specs, start=1)]

    def __call__(self, waves: Tensor, *, generator: torch.Generator) -> Tensor:
        """Transform each crop by itself: (time,) or (N, time) on the CPU, 16 kHz -> the same shape, float32, new.

        Raises:
            InputError: a transform changed the length of a crop.
        """
        crops = waves.reshape(-1, waves.shape[-1]).to(torch.float32)
        seeds = torch.randint(2**31 - 1, (len(crops),), generator=generator).tolist()
        transformed = [self._transform(crop.numpy(), seed) for crop, seed in zip(crops, seeds, strict=True)]
        return torch.from_numpy(np.stack(transformed)).reshape(waves.shape)

    def _transform(self, crop: np.ndarray, seed: int) -> np.ndarray:
        wave = crop.copy()
        with _seeded(seed):
            for name, transform in zip(self._names, self._chain, strict=True):
                wave = transform(samples=wave, sample_rate=SAMPLE_RATE)
                if wave.shape != crop.shape:
                    raise InputError(
                        f"transform {name}: made {crop.shape[-1]} samples into {wave.shape[-1]}; a crop has to keep its"
                        " length (some transforms have leave_length_unchanged: true for that)"
                    )
        return np.asarray(wave, dtype=np.float32)


def transform_names() -> list[str]:
    """The transforms of the installed audiomentations that plain data can describe."""
    import audiomentations
    from audiomentations.core.transforms_interface import BaseWaveformTransform

    classes = {name: value for name, value in vars(audiomentations).items() if inspect.isclass(value)}
    return sorted(n for n, c in classes.items() if issubclass(c, BaseWaveformTransform) and n != "Lambda")


def _build(spec: dict[str, Any], number: int) -> Callable[..., np.ndarray]:
    import audiomentations

    arguments = {key: value for key, value in spec.items() if key != "name"}
    name, known = str(spec.get("name")), transform_names()
    if name not in known:
        problem = f"transform {number}: {name!r} is not a transform"
        raise InputError(f"{problem} of audiomentations {audiomentations.__version__}{_did_you_mean(name, known)}")
    transform = getattr(audiomentations, name)
    parameters = [p for p in inspect.signature(transform).parameters if p != "self"]
    for argument in arguments:
        if argument not in parameters:
            problem = f"transform {number}, {name}: no argument {argument!r}{_did_you_mean(argument, parameters)}"
            raise InputError(f"{problem}; it has {', '.join(parameters)}")
    try:
        return transform(**arguments)
    except Exception as error:  # audiomentations refuses values by assertions, ValueErrors and its own exceptions
        problem = f"transform {number}, {name}: {str(error) or 'a value is out of its range'} ({arguments})"
        raise InputError(problem) from error


def _did_you_mean(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else f"; known are {', '.join(known)}"


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of `random` and NumPy for a while."""
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 (what audiomentations draws from)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002
