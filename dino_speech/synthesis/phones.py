"""The sounds that a synthetic voice can make: where they resonate, how they are voiced, how long they last.

Formants are an adult man's; `voices` scales them to a speaker's vocal tract.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phone:
    """One sound: three formants in Hz, gains of voice, breath and hiss (0 to 1), length in ms at normal rate.

    `hiss` is noise made at a constriction, a band `hiss_width_hz` wide around `hiss_hz`.
    """

    formants_hz: tuple[float, float, float]
    duration_ms: float
    voicing: float = 0.0
    aspiration: float = 0.0
    hiss: float = 0.0
    hiss_hz: float = 0.0
    hiss_width_hz: float = 1000.0
    is_vowel: bool = False


# Source: Peterson & Barney 1952 (doi 10.1121/1.1906875), Table II, means of 33 men, ten American English vowels.
_VOWEL_FORMANTS_HZ = (
    *((270, 2290, 3010), (390, 1990, 2550), (530, 1840, 2480), (660, 1720, 2410), (730, 1090, 2440)),
    *((570, 840, 2410), (440, 1020, 2240), (300, 870, 2240), (640, 1190, 2390), (490, 1350, 1690)),
)
VOWELS = tuple(Phone(hz, duration_ms=115.0, voicing=1.0, is_vowel=True) for hz in _VOWEL_FORMANTS_HZ)

_LABIAL, _ALVEOLAR, _PALATAL, _VELAR = (350, 900, 2200), (350, 1750, 2600), (320, 2000, 2700), (350, 1500, 2100)


def _stop(place: tuple[float, float, float], burst_hz: float, *, voiced: bool) -> tuple[Phone, ...]:
    """A closure, then a burst; without voice also a breath before the vowel."""
    closure = Phone(place, duration_ms=45.0, voicing=0.12 if voiced else 0.0)
    burst = Phone(place, duration_ms=12.0, hiss=0.6, hiss_hz=burst_hz, hiss_width_hz=1500.0)
    breath = Phone(place, duration_ms=30.0, aspiration=1.0)
    return (closure, burst) if voiced else (closure, burst, breath)


# ours: round numbers in the ranges of phonetics textbooks; a stop is several phones
CONSONANTS: tuple[tuple[Phone, ...], ...] = (
    (Phone((260, 1100, 2200), duration_ms=65.0, voicing=0.35),),  # m
    (Phone((260, 1500, 2500), duration_ms=60.0, voicing=0.35),),  # n
    (Phone((360, 1100, 2700), duration_ms=60.0, voicing=0.55),),  # l
    (Phone((330, 1200, 1600), duration_ms=55.0, voicing=0.5),),  # r
    (Phone((290, 2200, 2900), duration_ms=50.0, voicing=0.5),),  # y
    (Phone((300, 700, 2200), duration_ms=55.0, voicing=0.5),),  # w
    (Phone(_ALVEOLAR, duration_ms=95.0, hiss=0.7, hiss_hz=5800.0, hiss_width_hz=1600.0),),  # s
    (Phone(_PALATAL, duration_ms=95.0, hiss=0.7, hiss_hz=3200.0, hiss_width_hz=1200.0),),  # sh
    (Phone(_LABIAL, duration_ms=85.0, hiss=0.22, hiss_hz=5000.0, hiss_width_hz=5000.0),),  # f
    (Phone(_ALVEOLAR, duration_ms=70.0, voicing=0.25, hiss=0.35, hiss_hz=5600.0, hiss_width_hz=1800.0),),  # z
    (Phone((500, 1500, 2500), duration_ms=55.0, aspiration=1.0),),  # h
    *(_stop(place, hz, voiced=False) for place, hz in ((_LABIAL, 1200.0), (_ALVEOLAR, 4200.0), (_VELAR, 2000.0))),
    *(_stop(place, hz, voiced=True) for place, hz in ((_LABIAL, 1000.0), (_ALVEOLAR, 3800.0), (_VELAR, 1800.0))),
)

BREAKS = (Phone((500, 1500, 2500), duration_ms=70.0), Phone((500, 1500, 2500), duration_ms=220.0))
