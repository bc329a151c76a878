"""Where somebody speaks: energy rules, frame by frame, and the regions in samples that follow from them.

Two rules: `EnergyVAD`, Kaldi's, which goes by the level of the recording, and `RangeVAD`, ours, which does not. Neither
tells speech from other sounds; in a noisy room both take noise for speech or soft speech for noise. Letters: `T`
frames, `R` regions. Frame `t` looks at the samples `t * hop .. t * hop + window` and stands for its first `hop`
samples; the last frame for all that are left.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dino_speech.audio.io import SAMPLE_RATE, seconds_to_samples
from dino_speech.errors import InputError

Regions = NDArray[np.int64]
FULL_SCALE = 32_768.0  # Kaldi computes on samples as a 16-bit wav holds them
QUIETEST_DB = -80.0  # of a frame against the loud ones: digital silence must not decide where the floor is


class VAD(Protocol):
    """What finds speech: any object with these two."""

    def mask(self, wave: ArrayLike) -> NDArray[np.bool_]:
        """(time,) -> (T,) True where somebody speaks."""

    def to_dict(self) -> dict[str, Any]:
        """Its name and settings as plain data: the same settings find the same."""


@dataclass(frozen=True, kw_only=True)
class _Frames:
    """Frames, and the vote of a frame's neighbours, which both rules share."""

    proportion: float = 0.12
    context: int = 2
    window_ms: float = 25.0
    hop_ms: float = 10.0
    sample_rate: int = SAMPLE_RATE

    def __post_init__(self) -> None:
        if not 0 < self.proportion < 1:
            raise InputError(f"proportion is {self.proportion}; expected a number between 0 and 1")
        if self.context < 0:
            raise InputError(f"context is {self.context}; expected 0 frames or more")
        if not 1 <= self.hop_samples <= self.window_samples:
            raise InputError(f"hop_ms={self.hop_ms}, window_ms={self.window_ms}: expected 0 < hop_ms <= window_ms")

    @property
    def window_samples(self) -> int:
        """Samples of a frame."""
        return seconds_to_samples(self.window_ms / 1000, self.sample_rate)

    @property
    def hop_samples(self) -> int:
        """Samples from frame to frame."""
        return seconds_to_samples(self.hop_ms / 1000, self.sample_rate)

    def to_dict(self) -> dict[str, Any]:
        """Its name and settings as plain data."""
        return {"name": type(self).__name__, **asdict(self)}

    def regions(self, wave: ArrayLike) -> Regions:
        """(time,) -> (R, 2) first sample and end (exclusive) of each stretch of speech."""
        samples = np.asarray(wave)
        return mask_regions(self.mask(samples), hop_samples=self.hop_samples, num_samples=len(samples))

    def mask(self, wave: ArrayLike) -> NDArray[np.bool_]:
        """(time,) -> (T,) True where somebody speaks."""
        raise NotImplementedError

    def _vote(self, loud: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A frame is speech where at least `proportion` of the frames around it, those that exist, are loud."""
        ones = np.ones(2 * self.context + 1)
        around = slice(self.context, self.context + loud.size)
        num_loud = np.convolve(loud, ones)[around]
        num_frames = np.convolve(np.ones(loud.size), ones)[around]
        return num_loud >= num_frames * self.proportion


@dataclass(frozen=True, kw_only=True)
class EnergyVAD(_Frames):
    """Kaldi's energy rule: a frame is loud above `threshold + mean_scale * (mean log energy of the recording)`.

    The energy is the sum over a frame of squared samples **in the scale of 16-bit integers** (-32768 to 32767), the
    constant offset removed; `threshold` belongs to that scale. So the rule depends on the level: amplification by g
    moves each log energy by 2 ln g, but the threshold only by `mean_scale` times that. A recording with little contrast
    is all speech above 12 steps (-69 dBFS), and all silence below. `level_dbfs`, an RMS level that the recording is
    first brought to, takes this away.

    Of the frames from `context` before to `context` behind at least the `proportion` must be loud. With 2 and 0.12 one
    loud frame in five is enough: each makes speech of the two before and behind it.

    Example:
        >>> wave = np.zeros(16_000)
        >>> wave[4_000:8_000] = 0.1 * np.sin(np.arange(4_000))
        >>> EnergyVAD().regions(wave)
        array([[3360, 8320]])

    Source: Kaldi, `ComputeVadEnergy` (ivector/voice-activity-detection.cc), on the log energy of its features ("raw",
    before pre-emphasis and window). 5.5, 0.5, 0.12, 2: configuration of arXiv 2208.05445. Two departures: Kaldi adds
    random noise of one step (dither), here a frame has at least that noise's energy; and versions of Kaldi that look at
    the middle frame only, whatever the context, are not followed.
    """

    threshold: float = 5.5
    mean_scale: float = 0.5
    level_dbfs: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mean_scale < 0:
            raise InputError(f"mean_scale is {self.mean_scale}; expected 0 or more")

    def mask(self, wave: ArrayLike) -> NDArray[np.bool_]:
        """(time,) in [-1, 1] -> (T,) True where somebody speaks."""
        samples = _check(wave)
        energy = FULL_SCALE**2 * frame_energy(samples, window=self.window_samples, hop=self.hop_samples)
        if self.level_dbfs is not None:
            level = max(float(np.mean((samples - samples.mean()) ** 2)), 1e-20)
            energy *= 10 ** (self.level_dbfs / 10) / level
        log_energy = np.log(np.maximum(energy, self.window_samples))  # one step of 16 bits in each sample
        return self._vote(log_energy > self.threshold + self.mean_scale * log_energy.mean())


@dataclass(frozen=True, kw_only=True)
class RangeVAD(_Frames):
    """Ours: a frame is loud where it stands out from the recording's own floor. The level does not matter.

    Floor and top are the 5th and 95th percentile of the frames' energies in dB; the border lies `fraction` of the way
    from floor to top. For recordings whose noise Kaldi's rule takes for speech, such as old tapes. Where floor and top
    are nearer than `min_range_db`, no silence is seen: all is speech (also if nobody speaks). In a recording without
    pauses the softest speech is the floor: take a margin, as `data/silence.py` does.
    """

    fraction: float = 0.3  # ours
    min_range_db: float = 10.0  # ours: less is the unrest of steady noise and of a held vowel

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.fraction < 1:
            raise InputError(f"fraction is {self.fraction}; expected a number between 0 and 1")

    def mask(self, wave: ArrayLike) -> NDArray[np.bool_]:
        """(time,) -> (T,) True where somebody speaks."""
        energy = frame_energy(_check(wave), window=self.window_samples, hop=self.hop_samples)
        decibels = 10 * np.log10(np.maximum(energy, 1e-20))
        decibels = np.maximum(decibels, decibels.max() + QUIETEST_DB)
        floor, top = np.percentile(decibels, (5, 95))
        if top - floor < self.min_range_db:
            return np.ones(energy.size, dtype=bool)
        return self._vote(decibels > floor + self.fraction * (top - floor))


VADS = {"energy": EnergyVAD, "range": RangeVAD}


def build_vad(vad: "str | VAD") -> "VAD":
    """A rule by its name ("energy", "range"), or the one that is given."""
    if not isinstance(vad, str):
        return vad
    if vad not in VADS:
        raise InputError(f"vad is {vad!r}; expected one of {', '.join(VADS)}, or an object with `mask`")
    return VADS[vad]()


def frame_energy(wave: NDArray, *, window: int, hop: int) -> NDArray[np.float64]:
    """Sum of squares of each frame without its mean: (time,) -> (T,); a wave shorter than a frame is one frame."""
    if wave.size <= window:
        return np.array([np.sum((wave - wave.mean()) ** 2, dtype=np.float64)])
    num_frames = 1 + (wave.size - window) // hop
    step = math.gcd(window, hop)  # each sample is summed once, into blocks of which every frame is made
    used = ((num_frames - 1) * hop + window) // step * step
    blocks = wave[:used].astype(np.float64).reshape(-1, step)

    def per_frame(sums: NDArray) -> NDArray:
        return np.lib.stride_tricks.sliding_window_view(sums, window // step)[:: hop // step].sum(axis=1)

    squares, total = per_frame(np.square(blocks).sum(axis=1)), per_frame(blocks.sum(axis=1))
    return np.maximum(squares - total**2 / window, 0.0)


def mask_regions(mask: NDArray[np.bool_], *, hop_samples: int, num_samples: int) -> Regions:
    """Stretches of True frames as samples: (T,) -> (R, 2) first sample and end (exclusive)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    regions = edges.reshape(-1, 2).astype(np.int64) * hop_samples
    if mask.size and mask[-1]:
        regions[-1, 1] = num_samples
    return regions


def other_regions(regions: Regions, *, num_samples: int, margin_samples: int = 0) -> Regions:
    """What lies between regions, at least `margin_samples` from each of them: (R, 2) -> (R', 2)."""
    starts = np.concatenate([[0], regions[:, 1] + margin_samples])
    stops = np.concatenate([regions[:, 0] - margin_samples, [num_samples]])
    between = np.stack([starts, stops], axis=1).astype(np.int64)
    return between[between[:, 0] < between[:, 1]]


def _check(wave: ArrayLike) -> NDArray[np.float64]:
    samples = np.asarray(wave, dtype=np.float64)
    if samples.ndim != 1 or samples.size == 0:
        raise InputError(f"wave of shape {samples.shape}: expected (time,) with at least one sample")
    return samples
