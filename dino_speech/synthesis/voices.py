"""Synthetic speakers who say random syllables in four emotions: a source-filter voice in NumPy and SciPy.

It sounds like babble through a vocal tract; it is not speech, and nothing measured on it says anything about real
speech. The source is Liljencrants-Fant pulses, period by period, and breath noise; the sounds are in `phones`.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np

from dino_speech.audio.io import SAMPLE_RATE, seconds_to_samples
from dino_speech.synthesis.phones import BREAKS, CONSONANTS, VOWELS, Phone

_TABLE_SIZE = 1024  # phase resolution of the pulse; linear interpolation adds error far below 16 bits of speech
_SPEED_QUOTIENT = 2.2  # rise time / fall time of the glottal flow, about 2 to 2.5 in modal speech [ours]
_FRAME = 160  # samples between two settings of the vocal tract: 10 ms
_TAIL_FRAMES = 8  # a span of 20 ms and 60 ms in which its resonances die out
_UPPER_FORMANTS_HZ = (3500.0, 4500.0, 5500.0, 6500.0, 7500.0)  # quarter-wave resonances of a 17.5 cm tube
_BANDWIDTHS_HZ = (70.0, 90.0, 130.0, 200.0, 260.0, 320.0, 380.0, 440.0)


@dataclass(frozen=True, slots=True)
class Voice:
    """What stays of a speaker from one utterance, and one emotion, to the next.

    `tract_scale` multiplies every resonance (short vocal tract: above 1); `formants` are the speaker's own deviations
    from it, (8,) factors; `vowel_shift` the speaker's own vowel qualities, (num_vowels, 2) factors on F1 and F2.
    """

    pitch_hz: float
    tract_scale: float
    formants: np.ndarray
    vowel_shift: np.ndarray
    bandwidth_scale: float
    open_quotient: float
    return_fraction: float
    breath: float
    jitter: float
    shimmer: float
    rate: float
    hiss_scale: float


@dataclass(frozen=True, slots=True)
class Prosody:
    """What an emotion does: pitch level and range in semitones, speaking rate, level, vocal effort, pauses.

    `effort` presses the voice (above 0: shorter open phase, brighter) or softens it (below 0: breathier, darker);
    `pauses` multiplies the number of breaks between words.
    """

    pitch_shift: float
    pitch_range: float
    rate: float
    gain_db: float
    effort: float
    pauses: float


# ours, in the directions that reviews of vocal emotion agree on (Juslin & Laukka 2003, doi 10.1037/0033-2909.129.5.770)
EMOTIONS = {
    "neutral": Prosody(pitch_shift=0.0, pitch_range=2.2, rate=1.0, gain_db=0.0, effort=0.0, pauses=1.0),
    "happy": Prosody(pitch_shift=4.0, pitch_range=5.0, rate=1.12, gain_db=3.0, effort=0.4, pauses=0.7),
    "angry": Prosody(pitch_shift=2.0, pitch_range=3.0, rate=1.25, gain_db=6.0, effort=1.2, pauses=0.6),
    "sad": Prosody(pitch_shift=-1.5, pitch_range=1.0, rate=0.74, gain_db=-5.0, effort=-1.0, pauses=1.8),
}


def random_voice(rng: np.random.Generator) -> Voice:
    """Draw a speaker. Pitch and vocal-tract length go together as loosely as in a mixed group of adults."""
    size = rng.uniform(-1.0, 1.0)  # from a large body to a small one
    return Voice(
        pitch_hz=150.0 * 2 ** (0.55 * size + 0.22 * rng.standard_normal()),
        tract_scale=1.0 + 0.11 * size + 0.05 * rng.standard_normal(),
        formants=1 + np.array([0.04, 0.04, 0.05, 0.06, 0.06, 0.06, 0.06, 0.06]) * rng.standard_normal(8),
        vowel_shift=1 + 0.04 * rng.standard_normal((len(VOWELS), 2)),
        bandwidth_scale=float(np.exp(0.25 * rng.standard_normal())),
        open_quotient=rng.uniform(0.45, 0.75),
        return_fraction=float(np.exp(rng.uniform(np.log(0.006), np.log(0.05)))),
        breath=float(np.exp(rng.uniform(np.log(0.01), np.log(0.2)))),
        jitter=float(np.exp(rng.uniform(np.log(0.003), np.log(0.03)))),
        shimmer=rng.uniform(0.02, 0.15),
        rate=float(np.exp(0.15 * rng.standard_normal())),
        hiss_scale=1.0 + 0.12 * rng.standard_normal(),
    )


def speak(voice: Voice, prosody: Prosody, *, duration_s: float, rng: np.random.Generator) -> np.ndarray:
    """One utterance of random syllables, of at least 0.5 s: (time,) float64 at 16 kHz, about -20 dBFS if neutral.

    Each utterance departs from `prosody` a little, so that emotions overlap.
    """
    num_samples = seconds_to_samples(duration_s)
    num_frames = -(-num_samples // _FRAME)
    rate = voice.rate * prosody.rate * np.exp(0.08 * rng.standard_normal())
    phones, lengths = _babble(num_frames, rate=rate, pauses=prosody.pauses, rng=rng)
    effort = prosody.effort + 0.15 * rng.standard_normal()
    pitch_hz = _pitch_contour(voice, prosody, phones, lengths, rng)

    open_quotient = float(np.clip(voice.open_quotient * 2 ** (-0.25 * effort), 0.35, 0.88))
    pulses, opening = pulse_train(
        _to_samples(pitch_hz),
        open_quotient=open_quotient,
        return_fraction=float(np.clip(voice.return_fraction * 2 ** (-0.8 * effort), 0.003, 0.09)),
        jitter=voice.jitter * 2 ** (0.4 * abs(effort)),
        shimmer=voice.shimmer,
        rng=rng,
    )
    noise = rng.standard_normal(num_frames * _FRAME)
    breath = voice.breath * 2 ** (-0.7 * effort)
    voicing = _to_samples(_smooth(np.repeat([phone.voicing for phone in phones], lengths), 5))
    aspiration = _to_samples(_smooth(np.repeat([phone.aspiration for phone in phones], lengths), 3))
    source = voicing * (pulses + breath * (0.3 + opening) * noise) + 0.15 * aspiration * noise
    wave = _vocal_tract(source, _formant_tracks(voice, phones, lengths), voice.bandwidth_scale)
    wave = 0.1 * wave / (np.sqrt(np.mean(wave**2)) + 1e-9) + 0.1 * _hiss(voice, phones, lengths, noise)
    return wave[:num_samples] * 10 ** (prosody.gain_db / 20)


def _babble(num_frames: int, *, rate: float, pauses: float, rng: np.random.Generator) -> tuple[list[Phone], np.ndarray]:
    """Random syllables (consonant + vowel, at times a closing consonant) in words of 1 to 4; lengths in frames."""
    phones: list[Phone] = [BREAKS[0]]
    while sum(phone.duration_ms for phone in phones) / (10 * rate) < 1.3 * num_frames:
        for _ in range(int(rng.integers(1, 5))):
            if rng.random() < 0.85:
                phones += CONSONANTS[int(rng.integers(len(CONSONANTS)))]
            phones.append(VOWELS[int(rng.integers(len(VOWELS)))])
            if rng.random() < 0.3:
                phones += CONSONANTS[int(rng.integers(len(CONSONANTS)))]
        if rng.random() < 0.3 * pauses:
            phones.append(BREAKS[int(rng.integers(len(BREAKS)))])
    wanted = np.array([phone.duration_ms for phone in phones]) / (10 * rate)
    lengths = np.maximum(1, np.round(wanted * np.exp(0.2 * rng.standard_normal(len(phones))))).astype(int)
    ends = np.minimum(np.cumsum(lengths), num_frames)
    lengths = np.diff(ends, prepend=0)
    lengths[-1] += num_frames - ends[-1]
    keep = np.flatnonzero(lengths)
    return [phones[index] for index in keep], lengths[keep]


def _pitch_contour(
    voice: Voice, prosody: Prosody, phones: list[Phone], lengths: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Pitch per frame in Hz: level, declination, an accent on some of the vowels, a slow wander."""
    num_frames = int(lengths.sum())
    level = prosody.pitch_shift + 1.2 * rng.standard_normal()
    accents = [phone.is_vowel * rng.choice([0.0, 0.4, 1.0, 1.4]) * rng.choice([1.0, 1.0, -0.7]) for phone in phones]
    wander = _smooth(rng.standard_normal(num_frames), 61)
    wander /= wander.std() + 1e-6
    span = prosody.pitch_range * np.exp(0.2 * rng.standard_normal())
    semitones = level + span * (_smooth(np.repeat(accents, lengths), 15) * 1.2 - 0.2 + 0.35 * wander)
    semitones -= np.linspace(-0.5, 0.5, num_frames) * rng.uniform(0.0, 3.0)
    return np.clip(voice.pitch_hz * 2 ** (semitones / 12), 55.0, 550.0)


def _formant_tracks(voice: Voice, phones: list[Phone], lengths: np.ndarray) -> np.ndarray:
    """Resonances per frame, (frames, 8) in Hz: targets of the phones, smeared over their neighbours."""
    targets = np.empty((len(phones), 8))
    for row, phone in zip(targets, phones, strict=True):
        row[:3], row[3:] = phone.formants_hz, _UPPER_FORMANTS_HZ
        if phone.is_vowel:
            row[:2] *= voice.vowel_shift[VOWELS.index(phone)]
    tracks = np.repeat(targets * voice.formants * voice.tract_scale, lengths, axis=0)
    for column in range(8):
        tracks[:, column] = _smooth(tracks[:, column], 9)
    return np.clip(tracks, 150.0, 0.485 * SAMPLE_RATE)


def _vocal_tract(source: np.ndarray, formants_hz: np.ndarray, bandwidth_scale: float) -> np.ndarray:
    """Eight resonators in cascade, each of unit gain at 0 Hz; their settings cross-fade from frame to frame.

    Every 20 ms span is filtered with the setting of its middle and the spans are added, all in one FFT: exact for
    settings that stand still, as long as the resonances die out within the 60 ms that each span is given.
    """
    num_frames = len(formants_hz)
    radius = np.exp(-np.pi * bandwidth_scale * np.array(_BANDWIDTHS_HZ) / SAMPLE_RATE)
    feedback = -2 * radius * np.cos(2 * np.pi * formants_hz / SAMPLE_RATE)
    poles = np.zeros((num_frames, 17))  # the denominators of all eight, multiplied out
    poles[:, 0] = 1.0
    for index in range(8):
        once, twice = np.roll(poles, 1, axis=1), np.roll(poles, 2, axis=1)
        poles = poles + feedback[:, index, None] * once + radius[index] ** 2 * twice
    gain = np.prod(1 + feedback + radius**2, axis=1, keepdims=True)

    window = np.hanning(2 * _FRAME + 1)[:-1]
    spans = np.lib.stride_tricks.sliding_window_view(np.pad(source, _FRAME // 2), 2 * _FRAME)[::_FRAME] * window
    size = _TAIL_FRAMES * _FRAME
    filtered = np.fft.irfft(np.fft.rfft(spans, size) * gain / np.fft.rfft(poles, size), size)
    blocks = filtered.reshape(num_frames, _TAIL_FRAMES, _FRAME)
    wave = np.zeros((num_frames + _TAIL_FRAMES - 1, _FRAME))
    for index in range(_TAIL_FRAMES):
        wave[index : index + num_frames] += blocks[:, index]
    return wave.ravel()[_FRAME // 2 : _FRAME // 2 + source.size]


def _hiss(voice: Voice, phones: list[Phone], lengths: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Frication: noise through one resonance in front of the mouth's constriction, phone by phone."""
    from scipy.signal import lfilter

    wave = np.zeros_like(noise)
    starts = np.cumsum(lengths) - lengths
    for phone, start, length in zip(phones, starts, lengths, strict=True):
        if phone.hiss == 0.0:
            continue
        span = slice(start * _FRAME, (start + length) * _FRAME)
        center_hz = min(phone.hiss_hz * voice.hiss_scale * voice.tract_scale, 7400.0)
        radius = np.exp(-np.pi * phone.hiss_width_hz / SAMPLE_RATE)
        feedback = [1.0, -2 * radius * np.cos(2 * np.pi * center_hz / SAMPLE_RATE), radius**2]
        hiss = lfilter([1.0, 0.0, -1.0], feedback, noise[span])  # zeros at 0 and 8 kHz: a band, not a low-pass
        window = np.minimum(1.0, 3.0 * np.sin(np.pi * (np.arange(hiss.size) + 0.5) / hiss.size))
        wave[span] = phone.hiss * window * hiss / (hiss.std() + 1e-9)
    return wave


def _smooth(values: np.ndarray, width: int) -> np.ndarray:
    """Moving Hann window over frames, ends held."""
    window = np.hanning(width + 2)[1:-1]
    padded = np.pad(np.asarray(values, dtype=float), width // 2, mode="edge")
    return np.convolve(padded, window / window.sum(), mode="valid")


def _to_samples(track: np.ndarray) -> np.ndarray:
    """Values per frame -> values per sample, interpolated between the middles of the frames."""
    middles = (np.arange(track.size) + 0.5) * _FRAME
    return np.interp(np.arange(track.size * _FRAME), middles, track)


@functools.lru_cache(maxsize=512)
def pulse_table(open_quotient: float, return_fraction: float) -> np.ndarray:
    """One period of the derivative of the glottal flow (so that radiation at the lips is already in it).

    A sinusoid under a growing exponential while the glottis opens and closes, then an exponential return to zero; the
    growth rate is the one that makes the pulse's area zero. `open_quotient` is the share of the period in which the
    glottis is open, 0.3 to 0.9; `return_fraction` the time constant of the return phase over the period, 0.003
    (pressed, bright) to 0.1 (soft). (1024,) float64 of unit root mean square.

    Source: Fant, Liljencrants & Lin, "A four-parameter model of glottal flow", STL-QPSR 4/1985; its return phase in
    the usual explicit form, with the closed phase as long as the rest of the period.
    """
    from scipy.optimize import brentq

    phase = (np.arange(_TABLE_SIZE) + 0.5) / _TABLE_SIZE
    closing = open_quotient
    peak_flow = closing * _SPEED_QUOTIENT / (1 + _SPEED_QUOTIENT)
    rate, closed = 1.0 / return_fraction, 1.0 - closing
    for _ in range(50):  # solves rate * return_fraction = 1 - exp(-rate * closed): the return phase ends at zero
        rate = (1.0 - math.exp(-rate * closed)) / return_fraction
    decay = np.exp(-rate * (phase - closing))
    returning = -(decay - math.exp(-rate * closed)) / (rate * return_fraction)

    def pulse(growth: float) -> np.ndarray:
        at_closing = math.sin(math.pi * closing / peak_flow)  # negative: the flow falls at closing
        opening = -np.exp(growth * (phase - closing)) * np.sin(math.pi * phase / peak_flow) / at_closing
        return np.where(phase < closing, opening, returning)

    table = pulse(brentq(lambda growth: float(pulse(growth).sum()), -60.0, 200.0, xtol=1e-3))
    table -= table.mean()
    return table / np.sqrt(np.mean(table**2))


def pulse_train(
    pitch_hz: np.ndarray,
    *,
    open_quotient: float,
    return_fraction: float,
    jitter: float,
    shimmer: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Glottal pulses along a pitch contour, `pitch_hz` (time,) at every sample.

    `jitter` is the relative deviation of a period's length, 0.002 (healthy) to 0.03 (rough), `shimmer` that of its
    amplitude, 0.02 to 0.15; the rest as in `pulse_table`. The pulses (time,), and how open the glottis is (time,) in
    [0, 1]: breath noise flows through the opening.
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
