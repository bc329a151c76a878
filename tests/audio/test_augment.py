"""Augment: exact SNR, rooms that keep speech in place, independent rows, the paper's probabilities by default."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import scipy.stats
import torch

from dino_speech.audio.augment import Augment
from dino_speech.audio.banks import LEAD_SAMPLES, NoiseBank, RoomBank
from dino_speech.audio.io import load_audio
from dino_speech.errors import InputError

QUIET = {"p_noise": 0.0, "p_reverb": 0.0}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def speechlike(num: int, num_samples: int = 16_000, seed: int = 0) -> torch.Tensor:
    """Noise in bursts of different levels: (num, num_samples)."""
    g = generator(seed)
    bursts = torch.rand(num, num_samples // 1_600 + 1, generator=g).repeat_interleave(1_600, dim=1)[:, :num_samples]
    return 0.1 * torch.rand(num, 1, generator=g) * bursts * torch.randn(num, num_samples, generator=g)


@pytest.fixture(scope="module")
def banks() -> dict:
    g = generator(9)
    noise = NoiseBank(
        [torch.randn(20_000, generator=g) * 10.0**-k for k in range(4)] + [torch.randn(9_000, generator=g)] * 12,
        ["noise", "noise", "music", "music"] + ["speech"] * 12,
    )
    return {"noise": noise, "rir": RoomBank.synthetic(num_rooms=20)}


def snr_db(clean: torch.Tensor, noisy: torch.Tensor) -> np.ndarray:
    """Measured in float64, from the waves alone."""
    wave, noise = clean.double().numpy(), noisy.double().numpy() - clean.double().numpy()
    return 10 * np.log10(np.sum(wave**2, axis=1) / np.sum(noise**2, axis=1))


@pytest.mark.parametrize("kind", ["noise", "music", "babble"])
@pytest.mark.parametrize("bank", ["given", "built-in"])
def test_noise_is_added_at_exactly_its_snr(banks: dict, kind: str, bank: str) -> None:
    if (kind, bank) == ("music", "built-in"):
        pytest.skip("there is no built-in music")
    noise = banks["noise"] if bank == "given" else None
    ranges = dict.fromkeys(("snr_db", "music_snr_db", "babble_snr_db"), (7.0, 7.0))
    augment = Augment(noise=noise, rir=banks["rir"], p_noise=1.0, p_reverb=0.0, kinds=[kind], **ranges)
    waves = speechlike(24)
    np.testing.assert_allclose(snr_db(waves, augment(waves, generator=generator())), 7.0, atol=0.1)


def test_snr_is_uniform_in_the_range_of_its_kind(banks: dict) -> None:
    waves = speechlike(800, 2_000)
    for kind, (low, high) in {"noise": (0.0, 18.0), "music": (3.0, 18.0), "babble": (3.0, 18.0)}.items():
        augment = Augment(**banks, p_noise=1.0, p_reverb=0.0, kinds=[kind])  # the ranges are the defaults
        measured = snr_db(waves, augment(waves, generator=generator()))
        assert scipy.stats.kstest((measured - low) / (high - low), "uniform").pvalue > 1e-3
        assert low - 0.1 < measured.min() < measured.max() < high + 0.1


def test_probabilities_are_the_papers_by_default(banks: dict) -> None:
    waves = speechlike(2_000, 1_000)
    noisy = Augment(**banks, p_reverb=0.0)(waves, generator=generator())
    wet = Augment(**banks, p_noise=0.0)(waves, generator=generator())
    assert float((noisy != waves).any(dim=1).float().mean()) == pytest.approx(0.7, abs=0.04)
    assert float((wet != waves).any(dim=1).float().mean()) == pytest.approx(0.45, abs=0.04)


def test_kinds_are_equally_likely(banks: dict) -> None:
    levels = {"snr_db": (0.0, 0.0), "music_snr_db": (10.0, 10.0), "babble_snr_db": (20.0, 20.0)}
    waves = speechlike(1_500, 1_000)
    augment = Augment(**banks, p_noise=1.0, p_reverb=0.0, **levels)
    measured = np.round(snr_db(waves, augment(waves, generator=generator()))).astype(int)
    shares = np.bincount(measured, minlength=21)[[0, 10, 20]] / 1_500
    np.testing.assert_allclose(shares, 1 / 3, atol=0.05)


def test_music_is_left_out_where_the_bank_has_none() -> None:
    assert list(Augment().snr_ranges_db) == ["noise", "babble"]
    with pytest.raises(InputError, match=r"kinds=\['music'\]: the noise bank has only noise"):
        Augment(kinds=["music"])


def test_babble_of_the_batch_is_a_sum_of_other_utterances() -> None:
    # Tones of different pitch, so that the spectrum tells who talks.
    time = torch.arange(16_000) / 16_000
    hertz = 200 + 100 * torch.arange(12)
    waves = torch.sin(2 * torch.pi * hertz[:, None] * time) * torch.linspace(0.01, 1, 12)[:, None]
    groups = torch.arange(12) // 3
    augment = Augment(p_noise=1.0, p_reverb=0.0, kinds=["babble"], babble_talkers=(3, 5))
    babble = augment(waves, generator=generator(), groups=groups) - waves
    spectrum = torch.fft.rfft(babble).abs()[:, hertz]
    talks = spectrum > 0.5 * spectrum.max(dim=1, keepdim=True).values
    num_talkers = talks.sum(dim=1)
    assert 3 <= int(num_talkers.min()) < int(num_talkers.max()) <= 5
    assert not (talks & (groups[:, None] == groups[None, :])).any()
    for row, who in zip(spectrum, talks, strict=True):  # equally loud, though the waves are not
        assert float(row[who].max() / row[who].min()) < 1.01


def test_a_batch_of_one_utterance_has_no_babble() -> None:
    waves = speechlike(4)
    augment = Augment(p_noise=1.0, p_reverb=0.0, kinds=["babble"])
    assert torch.equal(augment(waves, generator=generator(), groups=torch.zeros(4)), waves)


def test_silence_stays_finite() -> None:
    waves = speechlike(8)
    waves[3] = 0
    augmented = Augment(p_noise=1.0, p_reverb=1.0, p_filter=1.0, p_band=1.0, p_gain=1.0)(waves, generator=generator())
    assert torch.isfinite(augmented).all()
    assert float(augmented[3].abs().max()) < 1e-6


def test_rooms_leave_speech_where_it_was(banks: dict) -> None:
    waves = speechlike(16)
    wet = Augment(**banks, p_noise=0.0, p_reverb=1.0)(waves, generator=generator())
    assert not torch.equal(wet, waves)
    for dry, reverberant in zip(waves.numpy(), wet.numpy(), strict=True):
        correlation = scipy.signal.correlate(reverberant, dry, mode="full")
        assert int(np.argmax(np.abs(correlation))) == len(dry) - 1  # lag 0


def test_a_row_is_its_convolution_with_one_of_the_rooms(banks: dict) -> None:
    waves = speechlike(3, 4_000)
    wet = Augment(**banks, p_noise=0.0, p_reverb=1.0)(waves, generator=generator()).numpy()
    for dry, reverberant in zip(waves.numpy(), wet, strict=True):
        every = [scipy.signal.fftconvolve(dry, room) for room in banks["rir"].responses.numpy()]
        apart = [np.abs(y[LEAD_SAMPLES : LEAD_SAMPLES + 4_000] - reverberant).max() for y in every]
        assert min(apart) < 1e-5


def test_same_generator_same_output_and_the_input_is_untouched(banks: dict) -> None:
    waves = speechlike(12)
    before = waves.clone()
    augment = Augment(**banks, p_filter=0.5, p_band=0.5, p_gain=0.5)
    first, again, other = (augment(waves, generator=generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(waves, before)


def test_rows_differ_from_each_other(banks: dict) -> None:
    waves = speechlike(1).expand(20, -1)
    augmented = Augment(**banks, p_noise=1.0, p_reverb=1.0)(waves, generator=generator())
    assert len({tuple(row[:50].tolist()) for row in augmented}) == 20


def test_a_row_does_not_depend_on_what_the_others_hold(banks: dict) -> None:
    waves = speechlike(10)
    others = waves.clone()
    others[1:] = speechlike(9, seed=5)
    augment = Augment(**banks, p_filter=0.5, p_gain=0.5)
    first, second = (augment(w, generator=generator(4))[0] for w in (waves, others))
    torch.testing.assert_close(first, second, atol=1e-6, rtol=0)


def test_gain_is_uniform_in_its_range() -> None:
    waves = speechlike(500, 500)
    changed = Augment(**QUIET, p_gain=1.0, gain_db=(-12.0, 6.0))(waves, generator=generator())
    gain_db = 10 * torch.log10(changed.square().sum(1) / waves.square().sum(1))
    assert scipy.stats.kstest((gain_db.numpy() + 12) / 18, "uniform").pvalue > 1e-3


def test_filters_change_the_spectrum_of_the_rows_drawn() -> None:
    waves = torch.randn(200, 8_000, generator=generator())
    filtered = Augment(**QUIET, p_filter=0.5, filter_db=12.0)(waves, generator=generator())
    changed = (filtered != waves).any(dim=1)
    assert float(changed.float().mean()) == pytest.approx(0.5, abs=0.12)
    density = [scipy.signal.welch(w[changed].numpy(), fs=16_000, nperseg=256)[1] for w in (waves, filtered)]
    change_db = 10 * np.log10(density[1] / density[0])[:, 2:-2]
    assert np.abs(change_db).max() < 13.0
    assert np.ptp(change_db, axis=1).min() > 3.0
    assert change_db.mean() == pytest.approx(0.0, abs=1.0)


def test_band_limits_remove_what_a_telephone_removes() -> None:
    waves = torch.randn(50, 16_000, generator=generator())
    options = {"p_band": 1.0, "band_low_hz": (300.0, 300.0), "band_high_hz": (3_400.0, 3_400.0)}
    limited = Augment(**QUIET, **options)(waves, generator=generator())
    frequency, before = scipy.signal.welch(waves.numpy(), fs=16_000, nperseg=512)
    after = scipy.signal.welch(limited.numpy(), fs=16_000, nperseg=512)[1]
    change_db = 10 * np.log10(after.mean(axis=0) / before.mean(axis=0))
    assert np.abs(change_db[(frequency > 600) & (frequency < 2_500)]).max() < 0.5
    assert change_db[frequency > 6_000].max() < -18
    assert change_db[(frequency > 50) & (frequency < 120)].max() < -20


def test_the_milder_setting_shares_the_banks_and_is_milder(banks: dict) -> None:
    augment = Augment(**banks, p_filter=0.3)
    teacher = augment.milder(p_filter=0.0)
    assert teacher.noise is augment.noise
    assert (teacher.p_reverb, teacher.p_filter, teacher.p_noise) == (0.3, 0.0, 0.7)
    assert float(teacher.rooms.rt60_s.max()) <= 0.4 < float(augment.rooms.rt60_s.max())
    waves = speechlike(300, 1_000)
    clean_rooms = teacher.milder(p_reverb=0.0, p_noise=1.0)
    assert snr_db(waves, clean_rooms(waves, generator=generator())).min() > 9.9


def test_noise_and_rooms_of_a_folder(write_wav: Callable[..., Path], tone: Callable[..., np.ndarray]) -> None:
    folder = write_wav("noise/hum.wav", tone(2.0, hz=1_000.0)).parent
    response = np.zeros(2_000, dtype=np.float32)
    response[[100, 900]] = 0.5, 0.25
    rooms = write_wav("rooms/echo.wav", response).parent
    augment = Augment(noise=folder, rir=rooms, p_noise=1.0, kinds=["noise"], p_reverb=1.0, snr_db=(0.0, 0.0))
    augmented = augment(speechlike(2), generator=generator())
    peak_hz = torch.fft.rfft(augmented).abs().argmax(dim=1).float()
    assert peak_hz.tolist() == pytest.approx([1_000.0, 1_000.0], abs=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p_noise": 1.2}, r"p_noise=1\.2: expected a probability"),
        ({"snr_db": (18.0, 0.0)}, r"snr_db=\(18\.0, 0\.0\): expected two numbers, the lower one first"),
        ({"babble_talkers": (0, 3)}, "babble_talkers=.*above 0"),
        ({"band_low_hz": (0.0, 100.0)}, "band_low_hz=.*above 0"),
        ({"kinds": ["hum"]}, "kinds: hum unknown; expected some of noise, music, babble"),
        ({"max_rt60_s": 0.01}, r"max_rt60_s=0\.01: the driest"),
        ({"noise": "absent/folder"}, "absent/folder: no such folder"),
    ],
)
def test_impossible_settings_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Augment(**options)


def test_a_wave_without_batch_is_refused() -> None:
    with pytest.raises(InputError, match=r"waves of shape \(100,\)"):
        Augment()(torch.zeros(100), generator=generator())


def test_autocast_leaves_it_in_float32(banks: dict) -> None:
    augment, waves = Augment(**banks, p_noise=1.0), speechlike(6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = augment(waves, generator=generator())
    assert inside.dtype == torch.float32
    assert torch.equal(inside, augment(waves, generator=generator()))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_same_is_drawn_on_a_gpu(banks: dict) -> None:
    augment = Augment(**banks, p_filter=0.5, p_band=0.5, p_gain=0.5)
    waves = speechlike(24)
    there = augment(waves.cuda(), generator=generator()).cpu()
    torch.testing.assert_close(there, augment(waves, generator=generator()), atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.corpus
def test_real_noise_on_real_speech(data_root: Path) -> None:
    pack = data_root / "noise_rir"
    augment = Augment(noise=pack, p_noise=1.0, p_reverb=0.0, kinds=["noise"], snr_db=(5.0, 5.0))
    paths = sorted((data_root / "speakers_mixed" / "audio").rglob("*.opus"))[:8]
    waves = torch.stack([load_audio(path, stop=16_000) for path in paths])
    np.testing.assert_allclose(snr_db(waves, augment(waves, generator=generator())), 5.0, atol=0.1)
