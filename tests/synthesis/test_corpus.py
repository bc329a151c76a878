"""The synthetic voices and the built-in corpus: repeatable, speech-like, neither trivial nor impossible."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dino_speech.errors import InputError
from dino_speech.synthesis.corpus import record, synthesize_corpus
from dino_speech.synthesis.phones import VOWELS
from dino_speech.synthesis.voices import EMOTIONS, Voice, _vocal_tract, pulse_table, pulse_train, random_voice, speak

SMALL = {"num_train": 6, "num_train_speakers": 3, "num_test_speakers": 3, "num_test_files": 2}


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def plain_voice(pitch_hz: float = 120.0, tract_scale: float = 1.0) -> Voice:
    """A speaker without peculiarities and without roughness."""
    return Voice(
        pitch_hz=pitch_hz,
        tract_scale=tract_scale,
        formants=np.ones(8),
        vowel_shift=np.ones((len(VOWELS), 2)),
        bandwidth_scale=1.0,
        open_quotient=0.6,
        return_fraction=0.02,
        breath=0.01,
        jitter=0.0,
        shimmer=0.0,
        rate=1.0,
        hiss_scale=1.0,
    )


def median_pitch_hz(wave: np.ndarray) -> float:
    """Median over frames of the autocorrelation's peak, where that is clear."""
    found = []
    for start in range(0, wave.size - 1280, 480):
        frame = wave[start : start + 1280] - wave[start : start + 1280].mean()
        correlation = np.correlate(frame, frame, "full")[1279:]
        lag = 40 + int(correlation[40:290].argmax())
        if correlation[lag] > 0.6 * correlation[0] > 0:
            found.append(16_000 / lag)
    return float(np.median(found))


@pytest.mark.parametrize("open_quotient", [0.35, 0.6, 0.88])
@pytest.mark.parametrize("return_fraction", [0.003, 0.02, 0.09])
def test_pulse_has_no_area_unit_power_and_its_dip_at_closing(open_quotient: float, return_fraction: float) -> None:
    table = pulse_table(open_quotient, return_fraction)
    assert abs(table.mean()) < 1e-9
    assert np.sqrt(np.mean(table**2)) == pytest.approx(1.0)
    assert table.argmin() / table.size == pytest.approx(open_quotient, abs=0.01)


def test_a_short_return_phase_is_brighter() -> None:
    def high_share(return_fraction: float) -> float:
        power = np.abs(np.fft.rfft(pulse_table(0.6, return_fraction))) ** 2
        return float(power[10:].sum() / power.sum())

    assert high_share(0.004) > 3 * high_share(0.05)


def test_pulse_train_has_the_pitch_asked_for() -> None:
    rng = np.random.default_rng(0)
    pitch_hz = np.full(32_000, 137.0)
    wave, opening = pulse_train(pitch_hz, open_quotient=0.6, return_fraction=0.02, jitter=0.0, shimmer=0.0, rng=rng)
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(wave.size)))
    assert spectrum[200:400].argmax() + 200 == pytest.approx(2 * 137, abs=1)  # 0.5 Hz a bin
    assert opening.min() == 0.0
    assert opening.max() == pytest.approx(1.0, abs=0.02)


def test_jitter_makes_periods_differ() -> None:
    def noise_share(jitter: float) -> float:
        rng = np.random.default_rng(1)
        options = {"open_quotient": 0.6, "return_fraction": 0.02, "shimmer": 0.0}
        wave, _ = pulse_train(np.full(16_000, 100.0), jitter=jitter, rng=rng, **options)
        power = np.abs(np.fft.rfft(wave)) ** 2
        return float(1 - power[::100].sum() / power.sum())

    assert noise_share(0.0) < 0.01 < 0.1 < noise_share(0.02)


def test_vocal_tract_equals_resonators_in_cascade() -> None:
    from scipy.signal import sosfilt

    rng = np.random.default_rng(0)
    source = rng.standard_normal(160 * 100)
    formants_hz = np.array([500.0, 1500, 2500, 3500, 4500, 5500, 6500, 7500])
    widths_hz = np.array([70.0, 90, 130, 200, 260, 320, 380, 440])
    radius = np.exp(-np.pi * widths_hz / 16_000)
    sections = np.zeros((8, 6))
    sections[:, 3], sections[:, 4], sections[:, 5] = 1, -2 * radius * np.cos(np.pi * formants_hz / 8_000), radius**2
    sections[:, 0] = sections[:, 3:].sum(axis=1)
    expected = sosfilt(sections, source)
    found = _vocal_tract(source, np.tile(formants_hz, (100, 1)), 1.0)
    inside = slice(1_000, -1_000)  # the first and last frames fade
    assert np.abs(found - expected)[inside].max() < 2e-3 * np.abs(expected).max()


def test_speech_follows_the_speakers_pitch_and_vocal_tract() -> None:
    def centroid_hz(wave: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(wave)) ** 2
        hz = np.arange(power.size) * 16_000 / wave.size
        band = (hz > 1_000) & (hz < 5_000)
        return float((power * hz)[band].sum() / power[band].sum())

    def say(voice: Voice) -> np.ndarray:
        rng = np.random.default_rng(5)
        return np.concatenate([speak(voice, EMOTIONS["neutral"], duration_s=4.0, rng=rng) for _ in range(4)])

    low, high = say(plain_voice(100.0)), say(plain_voice(200.0))
    assert median_pitch_hz(high) / median_pitch_hz(low) == pytest.approx(2.0, rel=0.15)
    long, short = say(plain_voice(120.0, 0.85)), say(plain_voice(120.0, 1.2))
    assert centroid_hz(short) > 1.1 * centroid_hz(long)


@pytest.mark.slow
def test_emotions_differ_by_pitch_level_and_loudness() -> None:
    def say(emotion: str) -> np.ndarray:
        rng = np.random.default_rng(3)
        waves = [speak(plain_voice(), EMOTIONS[emotion], duration_s=3.0, rng=rng) for _ in range(6)]
        return np.concatenate(waves)

    waves = {emotion: say(emotion) for emotion in EMOTIONS}
    pitch = {emotion: median_pitch_hz(wave) for emotion, wave in waves.items()}
    level = {emotion: float(np.std(wave)) for emotion, wave in waves.items()}
    assert pitch["sad"] < pitch["neutral"] < pitch["happy"]
    assert level["sad"] < level["neutral"] < level["angry"]


def test_same_seed_same_speech_other_seed_other_speech() -> None:
    def say(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        wave = speak(random_voice(rng), EMOTIONS["happy"], duration_s=1.3, rng=rng)
        return record(wave, rng=rng)

    assert say(1).size == 20_800
    assert say(1).dtype == np.float32
    assert np.array_equal(say(1), say(1))
    assert np.abs(say(1) - say(2)).max() > 0.01


def test_channels_differ_in_response_and_level() -> None:
    wave = np.random.default_rng(0).standard_normal(48_000)
    spectra = []
    for seed in range(8):
        recorded = record(wave, rng=np.random.default_rng(seed))
        assert np.isfinite(recorded).all()
        assert np.abs(recorded).max() < 1.0
        power = np.abs(np.fft.rfft(recorded.astype(float))) ** 2
        spectra.append(10 * np.log10(power[600:12_000].reshape(-1, 600).mean(axis=1)))
    assert np.std(np.mean(spectra, axis=1)) > 1.0  # level, dB
    assert np.std(np.array(spectra) - np.mean(spectra, axis=1, keepdims=True), axis=0).mean() > 1.5  # response, dB


def test_corpus_is_complete_speaker_disjoint_and_readable(tmp_path: Path) -> None:
    corpus = synthesize_corpus(tmp_path / "corpus", **SMALL)
    train, test = rows_of(corpus.train), rows_of(corpus.test)
    assert (len(train), len(test)) == (6, 6)
    assert {row["speaker"] for row in train}.isdisjoint(row["speaker"] for row in test)
    assert {row["emotion"] for row in train + test} == set(EMOTIONS)
    for row in train + test:
        info = soundfile.info(corpus.train.parent / row["wav"])
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
        assert float(row["duration"]) == pytest.approx(info.duration, abs=1e-4)
        assert 2.5 <= info.duration <= 5.0
    speaker_of = {row["ID"]: row["speaker"] for row in test}
    trials = [line.split() for line in corpus.trials.read_text().splitlines()]
    assert all((a_b[0] == "1") == (speaker_of[a_b[1]] == speaker_of[a_b[2]]) for a_b in trials)
    assert [t[0] for t in trials].count("1") == 3
    assert [t[0] for t in trials].count("0") == 9


@pytest.mark.slow
def test_corpus_is_reused_mended_and_refused(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    corpus = synthesize_corpus(folder, **SMALL)
    files = sorted((folder / "wav").glob("*.wav"))
    before = {file.name: file.read_bytes() for file in files}
    stamps = [file.stat().st_mtime_ns for file in files]
    assert synthesize_corpus(folder, **SMALL) == corpus
    assert [file.stat().st_mtime_ns for file in files] == stamps, "a complete corpus is not made again"
    files[0].unlink()
    synthesize_corpus(folder, **SMALL)
    assert {file.name: file.read_bytes() for file in files} == before, "same seed, same bytes"
    with pytest.raises(InputError, match="other settings"):
        synthesize_corpus(folder, **(SMALL | {"seed": 7}))
    assert json.loads((folder / "corpus.json").read_text())["synthetic"] is True
    smaller = SMALL | {"num_train": 4}
    synthesize_corpus(folder, **smaller, overwrite=True)
    assert len(list((folder / "wav").glob("*.wav"))) == 10, "nothing of the former corpus is left"


def test_corpus_of_too_few_speakers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 test speakers"):
        synthesize_corpus(tmp_path, **(SMALL | {"num_test_speakers": 1}))


@pytest.mark.slow
def test_verification_on_the_corpus_is_neither_trivial_nor_impossible(tmp_path: Path) -> None:
    """Mean and deviation of log-mel frames: well above zero, well below chance (50 %)."""
    from sklearn.metrics import roc_curve

    torchaudio = pytest.importorskip("torchaudio")
    filters = torchaudio.functional.melscale_fbanks(257, 20.0, 7600.0, 80, 16_000).numpy()
    corpus = synthesize_corpus(tmp_path, num_train=1, num_train_speakers=1, num_test_speakers=12, num_test_files=6)
    vectors = {}
    for row in rows_of(corpus.test):
        wave, _ = soundfile.read(tmp_path / row["wav"])
        frames = np.lib.stride_tricks.sliding_window_view(wave / wave.std(), 400)[::160] * np.hanning(400)
        mel = np.log(np.abs(np.fft.rfft(frames, 512)) ** 2 / 400 @ filters + 1e-6)
        vector = np.concatenate([mel.mean(0), mel.std(0)])
        vectors[row["ID"]] = vector / np.linalg.norm(vector)
    trials = [line.split() for line in corpus.trials.read_text().splitlines()]
    scores = [vectors[a] @ vectors[b] for _, a, b in trials]
    false_alarm, hit, _ = roc_curve([int(t[0]) for t in trials], scores)
    eer = 100 * false_alarm[np.argmin(np.abs(false_alarm - (1 - hit)))]
    assert 10.0 < eer < 42.0
