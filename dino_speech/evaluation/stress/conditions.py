"""Named conditions for stress tests: what speech may meet between the mouth and the model, each with stated parameters.

One table (`TABLE`) holds all that need no recordings. What each does to a wave is in `perturbations.py`.

Source: the small changes (tone, gain, first-order filters, silence, cuts, clipping, white noise at 35 dB): audeering's
ser-tests; sped-up stretch, drift of 2 % per second, backgrounds at 20, 10 and 0 dB: Wagner et al., arXiv 2203.07378,
after Jaiswal and Provost. The strong version of each is ours.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dino_speech.audio.banks import NoiseBank, RoomBank
from dino_speech.audio.decoding import StrPath
from dino_speech.errors import InputError
from dino_speech.evaluation.stress import perturbations as change

SNRS_DB = (20.0, 10.0, 0.0)
Parameters = Mapping[str, float | str]


def _noises(exponent: float, *snrs_db: float) -> dict[str, Parameters]:
    return {f"{snr:g}db": {"snr_db": snr, "exponent": exponent} for snr in snrs_db}


TONE_HZ = {"low_hz": 5000.0, "high_hz": 7000.0}
# kind, what is done, {rest of the name: parameters}, from the mildest to the strongest
TABLE: tuple[tuple[str, Callable[..., Tensor], dict[str, Parameters]], ...] = (
    ("white_noise", change.add_coloured_noise, _noises(0.0, 35.0, *SNRS_DB)),
    ("pink_noise", change.add_coloured_noise, _noises(1.0, *SNRS_DB)),
    ("brown_noise", change.add_coloured_noise, _noises(2.0, *SNRS_DB)),
    ("tone", change.add_tone, {f"{snr:g}db": {"snr_db": snr, **TONE_HZ} for snr in (40.0, 20.0)}),
    ("gain", change.change_level, {f"{db:+g}db": {"gain_db": db} for db in (2.0, -2.0, 10.0, -20.0)}),
    ("clipping", change.clip, {f"{100 * share:g}%": {"clipped_fraction": share} for share in (0.003, 0.03, 0.1)}),
    ("high_pass", change.high_pass, {f"{hz:g}hz": {"cutoff_hz": hz, "order": n} for hz, n in ((150.0, 1), (400.0, 4))}),
    ("low_pass", change.low_pass, {f"{hz:g}hz": {"cutoff_hz": hz, "order": n} for hz, n in ((6500.0, 1), (3400.0, 4))}),
    (
        "silence",
        change.add_silence,
        {f"{side}_{s:g}s": {f"{side}_s": s} for side, s in (("before", 0.0625), ("after", 0.0625), ("before", 0.5))},
    ),
    ("crop", change.crop, {f"{side}_0.0625s": {f"{side}_s": 0.0625} for side in ("begin", "end")}),
    ("excerpt", change.excerpt, {"50%": {"kept_fraction": 0.5}}),
    ("speed", change.change_speed, {f"{factor:g}": {"factor": factor} for factor in (0.9, 1.1)}),
    (
        "speed_in_part",
        change.change_speed_in_part,
        {"1.25": {"factor": 1.25, "fraction_low": 0.1, "fraction_high": 0.2}},
    ),
    ("drift", change.drift, {f"{way}_2%_per_s": {"share_per_s": 0.02, "direction": way} for way in ("in", "out")}),
    ("fade", change.fade, {"0.5s": {"in_s": 0.5, "out_s": 0.5}}),
    (
        "room",
        change.put_in_room,
        {
            f"{rt60:g}s": {"rt60_s": rt60, "direct_to_reverberant_db": ratio_db}
            for rt60, ratio_db in ((0.3, 6.0), (0.6, 0.0), (1.2, -3.0))
        },
    ),
)


@dataclass(frozen=True)
class Condition:
    """One way in which speech is changed.

    Attributes:
        name: unique, for example "white_noise_10db".
        kind: the family, by which conditions are chosen, for example "white_noise".
        parameters: what `change` is called with beside wave and generator.
        change: (wave (time,), generator, **parameters) -> wave of any length.
    """

    name: str
    kind: str
    parameters: Parameters = field(default_factory=dict)
    change: Callable[..., Tensor] = field(default=lambda wave, generator: wave, repr=False)

    def __call__(self, wave: Tensor, generator: torch.Generator) -> Tensor:
        """Change a wave (time,) at 16 kHz; what is random follows from the generator alone."""
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
        found.append(Condition("room_recorded", "room", {}, functools.partial(change.put_in_room_of, bank=rooms)))
    return found


def choose_conditions(conditions: Iterable[Condition], names: Sequence[str]) -> list[Condition]:
    """Those of these names or kinds, in their own order.

    Raises:
        InputError: a name that is neither.
    """
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
    apply = functools.partial(change.add_background, bank=bank)
    return [
        Condition(f"background_{sound}_{snr:g}db", f"background_{sound}", {"sound": sound, "snr_db": snr}, apply)
        for sound in bank.of_kind
        for snr in SNRS_DB
    ]
