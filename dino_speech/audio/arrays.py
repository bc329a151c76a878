"""Waves that are in memory already, as any library holds them, made into what encoders hear."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dino_speech.audio.decoding import resample
from dino_speech.errors import InputError

Waves = ArrayLike | Tensor | Sequence[ArrayLike] | Sequence[Tensor]
FULL_SCALE = {np.dtype(np.int16): 2.0**15, np.dtype(np.int32): 2.0**31}


def waves_of(waves: Waves, sample_rate: float, lengths: Any = None, *, new_rate: int) -> tuple[list[Tensor], bool]:
    """Mono waves (time,) float32 at `new_rate` Hz, and whether a single one was given.

    Args:
        waves: one wave (time,); or several, (batch, time) or a list of (time,) ones. NumPy or torch; floats in [-1, 1],
            int16 or int32. Channels are not told from a batch: average them first.
        sample_rate: of the waves, in Hz.
        lengths: (batch,) true lengths of padded waves, in samples (integers) or relative to the longest (floats up to
            1, as in SpeechBrain); None: all are whole.
        new_rate: in Hz.

    Raises:
        InputError: another shape or type, no samples, NaN or Inf, or lengths or a rate that do not fit; it says which.
    """
    if not (math.isfinite(sample_rate) and sample_rate == int(sample_rate) and sample_rate > 0):
        raise InputError(f"sample_rate = {sample_rate}: expected a positive whole number of Hz, such as 16000")
    rows = [_array(wave) for wave in waves] if isinstance(waves, (list, tuple)) else _array(waves)
    single = isinstance(rows, np.ndarray) and rows.ndim == 1
    if isinstance(rows, list) and rows and all(row.ndim == 0 for row in rows):
        rows, single = [np.stack(rows)], True
    elif single:
        rows = [rows]  # type: ignore[list-item]
    elif isinstance(rows, np.ndarray) and rows.ndim != 2:
        raise InputError(f"waves of shape {rows.shape}: expected (time,), (batch, time) or a list of (time,) ones")
    sizes = _sizes(lengths, [len(row) for row in rows])
    heard = [_wave(number, row, size) for number, (row, size) in enumerate(zip(rows, sizes, strict=True), start=1)]
    if sample_rate != new_rate:
        heard = [resample(wave, int(sample_rate), new_rate) for wave in heard]
    return [torch.from_numpy(np.ascontiguousarray(wave)) for wave in heard], single


def _array(wave: Any) -> NDArray[Any]:
    return wave.detach().cpu().numpy() if isinstance(wave, Tensor) else np.asarray(wave)


def _sizes(lengths: Any, longest: list[int]) -> list[int]:
    """In samples."""
    if lengths is None:
        return longest
    given = _array(lengths)
    if given.shape != (len(longest),):
        raise InputError(f"lengths of shape {given.shape} for {len(longest)} wave(s); expected one for each")
    if given.dtype.kind == "f":
        if not ((given > 0) & (given <= 1)).all():
            raise InputError(f"lengths = {given.tolist()}: expected samples as integers, or shares above 0 and up to 1")
        given = np.round(given * max(longest))
    elif given.dtype.kind not in "iu":
        raise InputError(f"lengths of type {given.dtype}; expected integers (samples) or floats (shares)")
    if not ((given > 0) & (given <= longest)).all():
        raise InputError(f"lengths = {given.tolist()} of waves with {longest} samples: expected 1 to so many each")
    return [int(size) for size in given]


def _wave(number: int, wave: NDArray[Any], size: int) -> NDArray[np.float32]:
    if wave.ndim != 1 or not size:
        raise InputError(f"wave {number} has the shape {wave.shape}; expected (time,), with a sample at least")
    if wave.dtype.kind != "f" and wave.dtype not in FULL_SCALE:
        raise InputError(f"wave {number} is of type {wave.dtype}; expected floats in [-1, 1], int16 or int32")
    heard = wave[:size].astype(np.float32) / np.float32(FULL_SCALE.get(wave.dtype, 1.0))
    if not np.isfinite(heard).all():
        raise InputError(f"wave {number} holds NaN or Inf samples; cut them out, or leave it out")
    return heard
