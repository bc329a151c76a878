"""What stress tests do to a wave, one function each: noise, levels, filters, cuts, speed, fades, rooms.

Each maps a wave (time,) at 16 kHz and a random generator to the changed wave, of any length, without touching the one
that it was given; the same generator gives the same wave. Which strengths make up a test is `conditions.py`'s business;
augmentation for training, in batches and drawn from ranges, is `augment.py`'s.

SNRs are those of the whole wave: mean power of the speech, pauses included, over that of what is added. Nothing is
clipped or normalised afterwards.
"""

import math

import torch
from torch import Tensor

from dino_speech.audio.banks import LEAD_SAMPLES, NoiseBank, RoomBank
from dino_speech.audio.decoding import SAMPLE_RATE, resample
from dino_speech.audio.effects import (
    apply_gains,
    band_gains,
    coloured_noise,
    convolve,
    filter_size,
    noise_scale,
    power,
    room_responses,
)
from dino_speech.audio.io import seconds_to_samples


def add_coloured_noise(wave: Tensor, generator: torch.Generator, *, snr_db: float, exponent: float) -> Tensor:
    """Gaussian noise of power 1/f^exponent: 0 white, 1 pink, 2 brown."""
    return _add(wave, coloured_noise(len(wave), torch.tensor([exponent]), generator)[0], snr_db)


def add_background(wave: Tensor, generator: torch.Generator, *, bank: NoiseBank, sound: str, snr_db: float) -> Tensor:
    """A window of one recording of the bank, repeated where it is shorter than the wave."""
    return _add(wave, bank.draw_one(sound, len(wave), generator), snr_db)


def add_tone(wave: Tensor, generator: torch.Generator, *, snr_db: float, low_hz: float, high_hz: float) -> Tensor:
    """A sine of a random frequency between the two limits, and of random phase."""
    place, phase = torch.rand(2, generator=generator).tolist()
    hertz = low_hz + (high_hz - low_hz) * place
    time_s = torch.arange(len(wave), dtype=torch.float64) / SAMPLE_RATE
    return _add(wave, torch.sin(2 * math.pi * (hertz * time_s + phase)).to(wave), snr_db)


def change_level(wave: Tensor, generator: torch.Generator, *, gain_db: float) -> Tensor:
    """Louder or softer; samples beyond full scale stay as they are."""
    return wave * 10 ** (gain_db / 20)


def clip(wave: Tensor, generator: torch.Generator, *, clipped_fraction: float) -> Tensor:
    """Cut off at the level that this share of the samples exceeds."""
    kept = max(1, len(wave) - round(clipped_fraction * len(wave)))
    limit = float(wave.abs().kthvalue(kept).values)
    return wave.clamp(-limit, limit)


def high_pass(wave: Tensor, generator: torch.Generator, *, cutoff_hz: float, order: float) -> Tensor:
    """Butterworth flank, -3 dB at the cut-off, zero phase."""
    return _band(wave, cutoff_hz, math.inf, order)


def low_pass(wave: Tensor, generator: torch.Generator, *, cutoff_hz: float, order: float) -> Tensor:
    """Butterworth flank, -3 dB at the cut-off, zero phase."""
    return _band(wave, 0.0, cutoff_hz, order)


def _band(wave: Tensor, low_hz: float, high_hz: float, order: float) -> Tensor:
    num_frequencies = filter_size(len(wave)) // 2 + 1
    gains = band_gains(torch.tensor([low_hz]), torch.tensor([high_hz]), num_frequencies, order=int(order))
    return apply_gains(wave[None], gains)[0]


def add_silence(wave: Tensor, generator: torch.Generator, *, before_s: float = 0.0, after_s: float = 0.0) -> Tensor:
    """Zeros before and after."""
    return torch.nn.functional.pad(wave, (seconds_to_samples(before_s), seconds_to_samples(after_s)))


def crop(wave: Tensor, generator: torch.Generator, *, begin_s: float = 0.0, end_s: float = 0.0) -> Tensor:
    """Without its first and last so many seconds; a wave may be too short for that afterwards."""
    return wave[seconds_to_samples(begin_s) : max(0, len(wave) - seconds_to_samples(end_s))]


def excerpt(wave: Tensor, generator: torch.Generator, *, kept_fraction: float) -> Tensor:
    """A stretch of this share of the wave, at a random place."""
    start, stop = _stretch(len(wave), kept_fraction, generator)
    return wave[start:stop]


def change_speed(wave: Tensor, generator: torch.Generator, *, factor: float) -> Tensor:
    """Played faster (above 1) or slower: pitch and formants move too."""
    faster = resample(wave.numpy(), round(factor * SAMPLE_RATE), SAMPLE_RATE)
    return torch.from_numpy(faster)


def change_speed_in_part(
    wave: Tensor, generator: torch.Generator, *, factor: float, fraction_low: float, fraction_high: float
) -> Tensor:
    """One random stretch, of a random share of the wave between the two limits, played at another speed."""
    fraction = fraction_low + (fraction_high - fraction_low) * float(torch.rand((), generator=generator))
    start, stop = _stretch(len(wave), fraction, generator)
    part = change_speed(wave[start:stop].contiguous(), generator, factor=factor)
    return torch.cat([wave[:start], part, wave[stop:]])


def _stretch(num_samples: int, fraction: float, generator: torch.Generator) -> tuple[int, int]:
    length = max(1, round(fraction * num_samples))
    start = int(torch.randint(num_samples - length + 1, (), generator=generator))
    return start, start + length


def drift(wave: Tensor, generator: torch.Generator, *, share_per_s: float, direction: str) -> Tensor:
    """The level grows ("in") to what it was, or falls ("out") from it, by this share of it per second, linearly."""
    lost = (share_per_s / SAMPLE_RATE * torch.arange(len(wave))).clamp_max(1)
    return wave * (1 - (lost if direction == "out" else lost.flip(0)))


def fade(wave: Tensor, generator: torch.Generator, *, in_s: float, out_s: float) -> Tensor:
    """Linear fades from and to silence, at most as long as the wave."""
    from torchaudio.transforms import Fade

    lengths = (min(seconds_to_samples(seconds), len(wave)) for seconds in (in_s, out_s))
    faded: Tensor = Fade(*lengths, fade_shape="linear")(wave)
    return faded


def put_in_room(wave: Tensor, generator: torch.Generator, *, rt60_s: float, direct_to_reverberant_db: float) -> Tensor:
    """A synthetic room, another one for each wave: direct sound, then noise that decays by 60 dB in `rt60_s`."""
    num_samples = LEAD_SAMPLES + seconds_to_samples(rt60_s)
    ratio = torch.tensor([direct_to_reverberant_db])
    responses = room_responses(torch.tensor([rt60_s]), ratio, generator, num_samples=num_samples, lead=LEAD_SAMPLES)
    return put_in_room_of(
        wave, generator, bank=RoomBank.from_responses(list(responses), [rt60_s], max_s=num_samples / SAMPLE_RATE)
    )


def put_in_room_of(wave: Tensor, generator: torch.Generator, *, bank: RoomBank) -> Tensor:
    """A room of the bank, of unit energy, direct sound where it was; what rings on after the end is cut off."""
    return convolve(wave[None], bank.draw(1, generator), lead=LEAD_SAMPLES)[0]


def _add(wave: Tensor, noise: Tensor, snr_db: float) -> Tensor:
    return wave + noise * noise_scale(power(wave), power(noise), torch.tensor(snr_db))
