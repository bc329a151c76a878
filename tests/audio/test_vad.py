"""Finding speech: against a loop after Kaldi's source, against torchaudio's energies, and on bursts in noise."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from dino_speech.audio.vad import EnergyVAD, RangeVAD, build_vad, frame_energy, mask_regions, other_regions
from dino_speech.errors import InputError

Tone = Callable[..., np.ndarray]


def bursts(tone: Tone, *, noise: float = 1e-4, level: float = 1.0, seed: int = 0) -> np.ndarray:
    """4 s of noise, with tones from 1 to 1.5 s and from 2.5 to 3.5 s."""
    wave = noise * np.random.default_rng(seed).standard_normal(64_000)
    wave[16_000:24_000] += level * tone(0.5)
    wave[40_000:56_000] += level * tone(1.0)
    return wave.astype(np.float32)


def kaldi_vad(log_energy: list[float], threshold: float, mean_scale: float, proportion: float, context: int) -> list:
    limit = threshold + mean_scale * sum(log_energy) / len(log_energy)
    voiced = []
    for t in range(len(log_energy)):
        num_count = den_count = 0
        for t2 in range(t - context, t + context + 1):
            if 0 <= t2 < len(log_energy):
                den_count += 1
                num_count += log_energy[t2] > limit
        voiced.append(num_count >= den_count * proportion)
    return voiced


def test_energies_are_those_of_kaldis_features(tone: Tone) -> None:
    from torchaudio.compliance import kaldi

    wave = bursts(tone) + np.float32(0.01)  # a constant offset is removed
    features = kaldi.fbank(torch.from_numpy(wave)[None] * 32_768, use_energy=True, dither=0.0)
    found = np.log(frame_energy(wave, window=400, hop=160) * 32_768.0**2)
    assert len(found) == 398
    assert np.allclose(found, features[:, 0].numpy(), atol=1e-2)


@pytest.mark.parametrize(("proportion", "context"), [(0.12, 2), (0.6, 5), (0.2, 2), (0.5, 0)])
def test_rule_is_kaldis(tone: Tone, proportion: float, context: int) -> None:
    wave = bursts(tone, noise=0.02, level=0.2)
    log_energy = np.log(frame_energy(wave, window=400, hop=160) * 32_768.0**2).tolist()
    expected = kaldi_vad(log_energy, 5.5, 0.5, proportion, context)
    assert EnergyVAD(proportion=proportion, context=context).mask(wave).tolist() == expected


@pytest.mark.parametrize("vad", [EnergyVAD(), RangeVAD(), EnergyVAD(level_dbfs=-25.0)])
def test_bursts_are_found_to_a_few_frames(vad: EnergyVAD | RangeVAD, tone: Tone) -> None:
    regions = vad.regions(bursts(tone))
    assert regions.shape == (2, 2)
    assert np.abs(regions - [[16_000, 24_000], [40_000, 56_000]]).max() <= 4 * 160


@pytest.mark.parametrize("vad", [EnergyVAD(), RangeVAD()])
def test_all_speech_and_silence(vad: EnergyVAD | RangeVAD, tone: Tone) -> None:
    assert vad.regions(tone(1.01)).tolist() == [[0, 16_160]]
    silent = vad.regions(np.zeros(16_000))
    assert len(silent) == (0 if isinstance(vad, EnergyVAD) else 1)  # the second rule sees no contrast: all is speech


def test_kaldis_rule_depends_on_the_level_and_the_others_do_not(tone: Tone) -> None:
    wave = bursts(tone, noise=0.003, level=0.3)
    loud, soft = EnergyVAD().mask(wave), EnergyVAD().mask(1e-3 * wave)
    assert loud.mean() == 1.0  # noise of -50 dBFS is speech to Kaldi's rule
    assert soft.mean() < 0.5
    for vad in (EnergyVAD(level_dbfs=-25.0), RangeVAD()):
        assert np.array_equal(vad.mask(wave), vad.mask(np.float32(0.25) * wave))
    assert 0.3 < RangeVAD().mask(wave).mean() < 0.5


def test_energy_of_a_long_wave_is_exact() -> None:
    wave = np.random.default_rng(0).standard_normal(50_000).astype(np.float32) + 3
    frames = np.lib.stride_tricks.sliding_window_view(wave.astype(np.float64), 400)[::160]
    assert np.allclose(frame_energy(wave, window=400, hop=160), 400 * frames.var(axis=1), rtol=1e-9)


def test_short_waves_and_odd_frames() -> None:
    assert EnergyVAD().mask(np.ones(100)).shape == (1,)
    assert EnergyVAD().regions(0.1 * np.sin(np.arange(100))).tolist() == [[0, 100]]
    assert EnergyVAD(window_ms=20.0, hop_ms=20.0).mask(np.zeros(3_200)).shape == (10,)
    with pytest.raises(InputError, match="at least one sample"):
        EnergyVAD().mask(np.zeros(0))


def test_regions_and_what_lies_between_share_the_recording() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        mask = rng.random(30) < 0.5
        regions = mask_regions(mask, hop_samples=10, num_samples=317)
        between = other_regions(regions, num_samples=317)
        covered = np.zeros(317, dtype=int)
        for start, stop in [*regions.tolist(), *between.tolist()]:
            covered[start:stop] += 1
        assert (covered == 1).all()
        assert all(mask[start // 10] for start in regions[:, 0].tolist())


def test_wrong_options_are_refused() -> None:
    for options in ({"proportion": 1.0}, {"context": -1}, {"hop_ms": 30.0}, {"mean_scale": -1.0}):
        with pytest.raises(InputError, match=next(iter(options))):
            EnergyVAD(**options)
    with pytest.raises(InputError, match="fraction"):
        RangeVAD(fraction=0.0)
    with pytest.raises(InputError, match="expected one of energy, range"):
        build_vad("webrtc")
    assert build_vad("range") == RangeVAD()
    assert EnergyVAD().to_dict()["name"] == "EnergyVAD"
