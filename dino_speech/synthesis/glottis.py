"""The glottal source of a synthetic voice: Liljencrants-Fant pulses, period by period, and breath noise.

Here: one period of the pulse as a wavetable, and a pulse train that follows a pitch contour with jitter and
shimmer. Not here: the vocal tract, speakers and emotions (`voices`), the corpus (`synthesis`).
"""

import functools
import math

import numpy as np

from dino_speech.audio.io import SAMPLE_RATE

_TABLE_SIZE = 1024  # phase resolution of the wavetable; linear interpolation adds error far below 16 bits of speech
_SPEED_QUOTIENT = 2.2  # rise time / fall time of the glottal flow, about 2 to 2.5 in modal speech [ours]


@functools.lru_cache(maxsize=512)
def pulse_table(open_quotient: float, return_fraction: float) -> np.ndarray:
    """One period of the derivative of the glottal flow (so that radiation at the lips is already in it).

    A sinusoid under a growing exponential while the glottis opens and closes, then an exponential return to zero.
    The growth rate is the one that makes the pulse's area zero: the flow ends where it began.

    Args:
        open_quotient: share of the period in which the glottis is open, 0.3 to 0.9.
        return_fraction: time constant of the return phase over the period, 0.003 (pressed, bright) to 0.1 (soft).

    Returns:
        (1024,) float64 of unit root mean square.

    Source:
        Fant, Liljencrants & Lin, "A four-parameter model of glottal flow", STL-QPSR 4/1985; its return phase is
        used here in the usual explicit form with the closed phase as long as the rest of the period.
    """
    from scipy.optimize import brentq

    phase = (np.arange(_TABLE_SIZE) + 0.5) / _TABLE_SIZE
    closing = open_quotient
    peak_flow = closing * _SPEED_QUOTIENT / (1 + _SPEED_QUOTIENT)
    rate = _return_rate(return_fraction, 1.0 - closing)
    decay = np.exp(-rate * (phase - closing))
    returning = -(decay - math.exp(-rate * (1.0 - closing))) / (rate * return_fraction)

    def pulse(growth: float) -> np.ndarray:
        at_closing = math.sin(math.pi * closing / peak_flow)  # negative: the flow falls at closing
        opening = -np.exp(growth * (phase - closing)) * np.sin(math.pi * phase / peak_flow) / at_closing
        return np.where(phase < closing, opening, returning)

    table = pulse(brentq(lambda growth: float(pulse(growth).sum()), -60.0, 200.0, xtol=1e-3))
    table -= table.mean()
    return table / np.sqrt(np.mean(table**2))


def _return_rate(return_fraction: float, closed: float) -> float:
    """Solve rate * return_fraction = 1 - exp(-rate * closed), which makes the return phase end at zero."""
    rate = 1.0 / return_fraction
    for _ in range(50):
        rate = (1.0 - math.exp(-rate * closed)) / return_fraction
    return rate


def pulse_train(
    pitch_hz: np.ndarray,
    *,
    open_quotient: float,
    return_fraction: float,
    jitter: float,
    shimmer: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Glottal pulses along a pitch contour.

    Args:
        pitch_hz: (time,) pitch at every sample, at 16 kHz.
        open_quotient: see `pulse_table`.
        return_fraction: see `pulse_table`.
        jitter: relative deviation of a period's length, 0.002 (healthy) to 0.03 (rough).
        shimmer: relative deviation of a period's amplitude, 0.02 to 0.15.
        rng: where the randomness comes from.

    Returns:
        The pulses (time,), and how open the glottis is (time,) in [0, 1]: breath noise flows through the opening.
    """
    cycle = np.cumsum(pitch_hz) / SAMPLE_RATE
    num_cycles = int(cycle[-1]) + 3
    pitch_hz = pitch_hz * (1 + jitter * rng.standard_normal(num_cycles))[cycle.astype(int)]
    cycle = np.cumsum(pitch_hz) / SAMPLE_RATE
    number = np.clip(cycle.astype(int), 0, num_cycles - 1)
    phase = cycle - cycle.astype(int)
    table = pulse_table(round(open_quotient, 3), round(return_fraction, 4))
    position = phase * _TABLE_SIZE
    below = position.astype(int)
    wave = table[below] + (position - below) * (table[(below + 1) % _TABLE_SIZE] - table[below])
    amplitude = 1 + shimmer * rng.standard_normal(num_cycles)
    opening = np.where(phase < open_quotient, np.sin(np.pi * np.minimum(phase / open_quotient, 1.0)), 0.0)
    return wave * amplitude[number], opening
