"""What augmentation does to waves, as functions without randomness of their own: noise at an SNR, rooms, filters.

Everything is batched, on the waves' device, in float32. Letters: `N` waves in a batch, `R` frequencies.
"""

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from dino_speech.audio.decoding import SAMPLE_RATE

# Twice this is left free behind a wave when it is filtered, so that what rings before its start and after its end does
# not come round to the other side.
FILTER_RINGING_SAMPLES = 800
# What a CPU transforms at once: more rows want fresh memory for each spectrum, fewer repeat the preparation. # ours
CPU_BLOCK_ROWS = 16


@functools.lru_cache(maxsize=64)
def fast_fft_size(num_samples: int) -> int:
    """The smallest size of at least `num_samples` that an FFT is fast at (factors 2, 3 and 5 only)."""
    import scipy.fft

    return int(scipy.fft.next_fast_len(num_samples, real=True))


def power(waves: Tensor) -> Tensor:
    """Mean square over time: (N, time) -> (N,)."""
    return torch.linalg.vector_norm(waves, dim=-1).square() / waves.shape[-1]


def noise_scale(wave_power: Tensor, noise_power: Tensor, snr_db: Tensor) -> Tensor:
    """Factor on a noise that gives exactly this signal-to-noise ratio; 0 where wave or noise is silent. All (N,)."""
    scale = (wave_power / noise_power.clamp_min(1e-14) * 10 ** (-snr_db / 10)).sqrt()
    return scale * (noise_power > 1e-14)


def convolve(waves: Tensor, responses: Tensor, *, lead: int = 0) -> Tensor:
    """Convolve each wave (N, time) with its own response (N, length), and cut off what follows the wave's end.

    `lead` samples of a response precede its direct sound; the result is moved back by as many: speech stays where it
    was.
    """
    num_samples = waves.shape[-1]
    size = fast_fft_size(num_samples + responses.shape[-1] - 1)

    def convolved(some: Tensor, their: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(some, size).mul_(torch.fft.rfft(their, size))
        return torch.fft.irfft(spectrum, size)[..., lead : lead + num_samples]

    return _in_blocks(convolved, waves, responses)


def filter_size(num_samples: int) -> int:
    """Size of the FFT with which `apply_gains` filters waves of this length; it has `size // 2 + 1` frequencies."""
    return fast_fft_size(num_samples + 2 * FILTER_RINGING_SAMPLES)


def apply_gains(waves: Tensor, gains: Tensor) -> Tensor:
    """Filter each wave (N, time) by its own gain at each frequency, without moving anything in time (zero phase).

    `gains`: (N, R) amplitude factors at the R = filter_size(time) // 2 + 1 frequencies from 0 to half the rate.
    """
    num_samples = waves.shape[-1]
    size = filter_size(num_samples)

    def filtered(some: Tensor, their: Tensor) -> Tensor:
        return torch.fft.irfft(torch.fft.rfft(some, size).mul_(their), size)[..., :num_samples]

    return _in_blocks(filtered, waves, gains)


def _in_blocks(function: Callable[[Tensor, Tensor], Tensor], waves: Tensor, others: Tensor) -> Tensor:
    """`function` of (N, time) and (N, ...); on a CPU so many rows at a time that their spectra stay where they are."""
    if waves.device.type != "cpu" or waves.ndim != 2 or len(waves) < 2 * CPU_BLOCK_ROWS:
        return function(waves, others)
    number = len(waves) // CPU_BLOCK_ROWS  # the rest is spread over the blocks: a few rows alone are slow
    result = torch.empty_like(waves)
    pairs = zip(waves.tensor_split(number), others.tensor_split(number), strict=True)
    for target, pair in zip(result.tensor_split(number), pairs, strict=True):
        target.copy_(function(*pair))
    return result


@functools.lru_cache(maxsize=16)
def smooth_bands(num_bands: int, num_frequencies: int) -> Tensor:
    """How `num_bands` levels, equally spaced on the mel axis, are joined smoothly: (num_bands, R), sums of one."""
    hertz = torch.linspace(0, SAMPLE_RATE / 2, num_frequencies)
    mel = torch.log1p(hertz / 700)
    position = mel / mel[-1] * (num_bands - 1)  # 0 at the lowest band's centre
    distance = (position - torch.arange(num_bands)[:, None]).abs().clamp_max(1)
    return (1 + torch.cos(torch.pi * distance)) / 2


def equaliser_gains(levels_db: Tensor, num_frequencies: int) -> Tensor:
    """Amplitude factors of a smooth equaliser: levels in dB (N, bands) -> (N, R)."""
    curves_db = levels_db @ smooth_bands(levels_db.shape[1], num_frequencies).to(levels_db.device)
    return curves_db.mul_(math.log(10) / 20).exp_()


def band_gains(low_hz: Tensor, high_hz: Tensor, num_frequencies: int, *, order: int = 4) -> Tensor:
    """Amplitude factors of a band-pass with Butterworth flanks (-3 dB at `low_hz` and `high_hz`): (N,) -> (N, R)."""
    hertz = torch.linspace(0, SAMPLE_RATE / 2, num_frequencies, device=low_hz.device)
    above = (low_hz[:, None] / hertz.clamp_min(1e-3)) ** (2 * order)
    below = (hertz / high_hz[:, None]) ** (2 * order)
    return ((1 + above) * (1 + below)).rsqrt()


def coloured_noise(num_samples: int, exponents: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian noise whose power falls as 1/f^exponent (0 white, 1 pink, 2 brown): (N,) -> (N, num_samples)."""
    white = torch.randn(len(exponents), num_samples, generator=generator)
    spectrum = torch.fft.rfft(white)
    frequency = torch.arange(spectrum.shape[1]).clamp_min(1)
    coloured = torch.fft.irfft(spectrum * frequency ** (-exponents[:, None] / 2), num_samples)
    coloured -= coloured.mean(dim=1, keepdim=True)
    return coloured / power(coloured).sqrt()[:, None]


def room_responses(
    rt60_s: Tensor, direct_to_reverberant_db: Tensor, generator: torch.Generator, *, num_samples: int, lead: int
) -> Tensor:
    """Synthetic rooms: a direct sound (1), a gap of 1 to 10 ms, then Gaussian noise that decays by 60 dB in `rt60_s`.

    Times (N,) in seconds and energy ratios (N,) of the direct sound over all the rest in dB -> (N, num_samples), of
    which `lead` precede the direct sound.
    """
    num_rooms = len(rt60_s)
    gap_s = 0.001 + 0.009 * torch.rand(num_rooms, 1, generator=generator)
    time_s = (torch.arange(num_samples) - lead) / SAMPLE_RATE
    tail = torch.randn(num_rooms, num_samples, generator=generator) * 10 ** (-3 * time_s / rt60_s[:, None])
    tail *= time_s >= gap_s
    energy = tail.square().sum(dim=1, keepdim=True)
    tail *= (10 ** (-direct_to_reverberant_db[:, None] / 10) / energy).sqrt()
    tail[:, lead] += 1
    return tail


def reverberation_time(response: Tensor) -> float:
    """RT60 of an impulse response in seconds: three times the time that its energy takes to fall from -5 to -25 dB.

    Source: M. R. Schroeder, "New method of measuring reverberation time", JASA 37 (1965); T20 of ISO 3382-2.
    """
    remaining = response.double().square().flip(0).cumsum(0).flip(0)
    decay_db = 10 * torch.log10(remaining / remaining[0] + 1e-30)
    fallen = [int((decay_db > -level).sum()) for level in (5, 25)]
    return 3 * (fallen[1] - fallen[0]) / SAMPLE_RATE
