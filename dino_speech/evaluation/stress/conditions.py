"""Named conditions for stress tests: what speech may meet between the mouth and the model, each with stated parameters.

One table (`TABLE`) holds all that need no recordings. Before it stands what they do to a wave, one function each: from
a wave (time,) at 16 kHz, which is not touched, and a random generator to the changed wave, of any length. SNRs are of
mean powers over the whole wave, pauses included; nothing is clipped or normalised afterwards.

Source: the small changes (tone, gain, first-order filters, silence, cuts, clipping, white noise at 35 dB): audeering's
ser-tests; sped-up stretch, drift of 2 % per second, backgrounds at 20, 10 and 0 dB: Wagner et al., arXiv 2203.07378,
after Jaiswal and Provost. The strong version of each is ours.
"""

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dino_speech.audio.banks import LEAD_SAMPLES, NoiseBank, RoomBank
from dino_speech.audio.decoding import SAMPLE_RATE, StrPath, resample
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
from dino_speech.errors import InputError


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


SNRS_DB = (20.0, 10.0, 0.0)
Parameters = Mapping[str, float | str]


def _noises(exponent: float, *snrs_db: float) -> dict[str, Parameters]:
    return {f"{snr:g}db": {"snr_db": snr, "exponent": exponent} for snr in snrs_db}


TONE_HZ = {"low_hz": 5000.0, "high_hz": 7000.0}
# kind, what is done, {rest of the name: parameters}, from the mildest to the strongest
TABLE: tuple[tuple[str, Callable[..., Tensor], dict[str, Parameters]], ...] = (
    ("white_noise", add_coloured_noise, _noises(0.0, 35.0, *SNRS_DB)),
    ("pink_noise", add_coloured_noise, _noises(1.0, *SNRS_DB)),
    ("brown_noise", add_coloured_noise, _noises(2.0, *SNRS_DB)),
    ("tone", add_tone, {f"{snr:g}db": {"snr_db": snr, **TONE_HZ} for snr in (40.0, 20.0)}),
    ("gain", change_level, {f"{db:+g}db": {"gain_db": db} for db in (2.0, -2.0, 10.0, -20.0)}),
    ("clipping", clip, {f"{100 * share:g}%": {"clipped_fraction": share} for share in (0.003, 0.03, 0.1)}),
    ("high_pass", high_pass, {f"{hz:g}hz": {"cutoff_hz": hz, "order": n} for hz, n in ((150.0, 1), (400.0, 4))}),
    ("low_pass", low_pass, {f"{hz:g}hz": {"cutoff_hz": hz, "order": n} for hz, n in ((6500.0, 1), (3400.0, 4))}),
    (
        "silence",
        add_silence,
        {f"{side}_{s:g}s": {f"{side}_s": s} for side, s in (("before", 0.0625), ("after", 0.0625), ("before", 0.5))},
    ),
    ("crop", crop, {f"{side}_0.0625s": {f"{side}_s": 0.0625} for side in ("begin", "end")}),
    ("excerpt", excerpt, {"50%": {"kept_fraction": 0.5}}),
    ("speed", change_speed, {f"{factor:g}": {"factor": factor} for factor in (0.9, 1.1)}),
    (
        "speed_in_part",
        change_speed_in_part,
        {"1.25": {"factor": 1.25, "fraction_low": 0.1, "fraction_high": 0.2}},
    ),
    ("drift", drift, {f"{way}_2%_per_s": {"share_per_s": 0.02, "direction": way} for way in ("in", "out")}),
    ("fade", fade, {"0.5s": {"in_s": 0.5, "out_s": 0.5}}),
    (
        "room",
        put_in_room,
        {
            f"{rt60:g}s": {"rt60_s": rt60, "direct_to_reverberant_db": ratio_db}
            for rt60, ratio_db in ((0.3, 6.0), (0.6, 0.0), (1.2, -3.0))
        },
    ),
)


@dataclass(frozen=True)
class Condition:
    """One way in which speech is changed."""

    name: str  # unique, for example "white_noise_10db"
    kind: str  # by which conditions are chosen, for example "white_noise"
    parameters: Parameters = field(default_factory=dict)
    change: Callable[..., Tensor] = field(default=lambda wave, generator: wave, repr=False)

    def __call__(self, wave: Tensor, generator: torch.Generator) -> Tensor:
        """Change a wave (time,) at 16 kHz to one of any length; what is random follows from the generator alone."""
        return self.change(wave, generator, **self.parameters)


def standard_conditions(
    *, noise: StrPath | NoiseBank | None = None, rir: StrPath | RoomBank | None = None
) -> list[Condition]:
    """All conditions.

    Args:
        noise: folder or manifest of recorded noise, music and speech (see `sounds.list_sounds`), or a bank: adds
            `background_noise`, `background_music` and `background_speech` where there is such a kind.
        rir: folder or manifest of room responses, or a bank: `room_recorded` takes the place of the synthetic rooms.

    Example:
        >>> [condition.name for condition in standard_conditions() if condition.kind == "gain"]
        ['gain_+2db', 'gain_-2db', 'gain_+10db', 'gain_-20db']
    """
    found = [
        Condition(f"{kind}_{rest}", kind, parameters, apply)
        for kind, apply, rows in TABLE
        for rest, parameters in rows.items()
        if kind != "room" or rir is None
    ]
    if noise is not None:
        found += _backgrounds(noise if isinstance(noise, NoiseBank) else NoiseBank.from_source(noise))
    if rir is not None:
        rooms = rir if isinstance(rir, RoomBank) else RoomBank.from_source(rir)
        found.append(Condition("room_recorded", "room", {}, functools.partial(put_in_room_of, bank=rooms)))
    return found


def choose_conditions(conditions: Iterable[Condition], names: Sequence[str]) -> list[Condition]:
    """Those of these names or kinds, in their own order; a name that is neither is refused."""
    known = list(conditions)
    for name in names:
        if not any(name in (condition.name, condition.kind) for condition in known):
            kinds = dict.fromkeys(condition.kind for condition in known)
            raise InputError(
                f"no condition or kind is called {name!r}; kinds are {', '.join(kinds)}; names are"
                f" {', '.join(condition.name for condition in known)}"
            )
    return [condition for condition in known if condition.name in names or condition.kind in names]


def _backgrounds(bank: NoiseBank) -> list[Condition]:
    apply = functools.partial(add_background, bank=bank)
    return [
        Condition(f"background_{sound}_{snr:g}db", f"background_{sound}", {"sound": sound, "snr_db": snr}, apply)
        for sound in bank.of_kind
        for snr in SNRS_DB
    ]
