"""The effects against scipy and against measurements that do not share their code."""

import numpy as np
import pytest
import scipy.signal
import torch

from dino_speech.audio.effects import (
    apply_gains,
    band_gains,
    coloured_noise,
    convolve,
    equaliser_gains,
    filter_size,
    noise_scale,
    power,
    reverberation_time,
    room_responses,
    smooth_bands,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_power_is_the_mean_square() -> None:
    waves = torch.randn(3, 5_000, generator=generator()) * torch.tensor([[0.01], [1.0], [30.0]])
    np.testing.assert_allclose(power(waves).numpy(), np.mean(waves.numpy().astype(np.float64) ** 2, axis=1), rtol=1e-5)


def test_noise_scale_is_zero_where_wave_or_noise_is_silent() -> None:
    scale = noise_scale(torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0.25, 1.0, 0.0]), torch.zeros(3))
    assert torch.allclose(scale, torch.tensor([2.0, 0.0, 0.0]))


@pytest.mark.parametrize(("num_samples", "length"), [(1_000, 301), (777, 2_000), (16_001, 4_000)])
def test_convolution_agrees_with_scipy(num_samples: int, length: int) -> None:
    waves = torch.randn(3, num_samples, generator=generator())
    responses = torch.randn(3, length, generator=generator(1)) / length**0.5
    lead = 40
    ours = convolve(waves, responses, lead=lead)
    for wave, response, result in zip(waves.double(), responses.double(), ours, strict=True):
        whole = scipy.signal.convolve(wave.numpy(), response.numpy(), method="direct")
        expected = np.zeros(num_samples)
        part = whole[lead : lead + num_samples]
        expected[: len(part)] = part
        np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("num_rows", [31, 32, 77])
def test_many_rows_are_transformed_as_few_are(num_rows: int) -> None:
    g = torch.Generator().manual_seed(0)
    waves, responses = torch.randn(num_rows, 900, generator=g), torch.randn(num_rows, 300, generator=g)
    gains = torch.rand(num_rows, filter_size(900) // 2 + 1, generator=g)
    rooms = [convolve(waves[i : i + 1], responses[i : i + 1], lead=7) for i in range(num_rows)]
    torch.testing.assert_close(convolve(waves, responses, lead=7), torch.cat(rooms), atol=1e-4, rtol=0)
    filtered = [apply_gains(waves[i : i + 1], gains[i : i + 1]) for i in range(num_rows)]
    torch.testing.assert_close(apply_gains(waves, gains), torch.cat(filtered), atol=1e-5, rtol=0)


def test_a_response_that_is_only_direct_sound_changes_nothing() -> None:
    waves = torch.randn(2, 3_000, generator=generator())
    response = torch.zeros(2, 500)
    response[:, 40] = 1.0
    torch.testing.assert_close(convolve(waves, response, lead=40), waves, atol=1e-6, rtol=0)


def test_gains_of_one_change_nothing_and_tones_come_out_scaled() -> None:
    num_samples = 16_000
    num_frequencies = filter_size(num_samples) // 2 + 1
    time = torch.arange(num_samples) / 16_000
    tones = torch.stack([torch.sin(2 * torch.pi * hz * time) for hz in (200.0, 1_000.0, 6_000.0)])
    torch.testing.assert_close(apply_gains(tones, torch.ones(3, num_frequencies)), tones, atol=1e-5, rtol=0)
    levels_db = torch.tensor([[6.0, -3.0, 9.0, -12.0, 0.0, 4.0, -8.0, 2.0]]).expand(3, 8)
    gains = equaliser_gains(levels_db, num_frequencies)
    filtered = apply_gains(tones, gains)[:, 2_000:-2_000]
    for row, hz in enumerate((200.0, 1_000.0, 6_000.0)):
        at = round(hz / 8_000 * (num_frequencies - 1))
        measured_db = 20 * np.log10(float(filtered[row].square().mean().sqrt() * 2**0.5))
        assert measured_db == pytest.approx(20 * np.log10(float(gains[row, at])), abs=0.1)


def test_the_equaliser_is_smooth_and_within_its_levels() -> None:
    bands = smooth_bands(8, 1_000)
    torch.testing.assert_close(bands.sum(dim=0), torch.ones(1_000))
    levels_db = 24 * torch.rand(20, 8, generator=generator()) - 12
    curves_db = 20 * torch.log10(equaliser_gains(levels_db, 1_000))
    assert float(curves_db.abs().max()) <= 12.0
    assert float(curves_db.diff(dim=1).abs().max()) < 1.0  # dB from one frequency (8 Hz) to the next
    torch.testing.assert_close(curves_db[:, [0, -1]], levels_db[:, [0, -1]], atol=1e-3, rtol=0)


def test_band_limits_agree_with_a_butterworth_filter() -> None:
    hertz = np.linspace(0, 8_000, 801)
    ours = band_gains(torch.tensor([300.0]), torch.tensor([3_400.0]), 801)[0].numpy()
    expected = np.ones(801)
    for edge, kind in ((300.0, "highpass"), (3_400.0, "lowpass")):
        b, a = scipy.signal.butter(4, edge, kind, analog=True)
        expected *= np.abs(scipy.signal.freqs(b, a, worN=hertz)[1])
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_filtering_does_not_wrap_around() -> None:
    pulse = torch.zeros(1, 8_000)
    pulse[0, 0] = 1.0
    gains = band_gains(torch.tensor([300.0]), torch.tensor([3_400.0]), filter_size(8_000) // 2 + 1)
    assert float(apply_gains(pulse, gains)[0, 4_000:].abs().max()) < 1e-3


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_coloured_noise_has_its_slope(exponent: float) -> None:
    noise = coloured_noise(160_000, torch.tensor([exponent]), generator())
    assert float(power(noise)) == pytest.approx(1.0, abs=1e-4)
    frequency, density = scipy.signal.welch(noise[0].numpy(), fs=16_000, nperseg=2_048)
    kept = (frequency > 50) & (frequency < 4_000)
    slope = np.polyfit(np.log10(frequency[kept]), np.log10(density[kept]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.1)


def test_synthetic_rooms_have_their_reverberation_time_and_direct_sound() -> None:
    times, ratios = torch.tensor([0.2, 0.5, 0.8]), torch.tensor([10.0, 0.0, -3.0])
    rooms = room_responses(times, ratios, generator(), num_samples=16_000, lead=40)
    assert not rooms[:, :40].any()
    torch.testing.assert_close(rooms[:, 40], torch.ones(3))
    for room, rt60_s, ratio_db in zip(rooms, times, ratios, strict=True):
        tail = room[41:].double().numpy()
        assert -10 * np.log10(np.sum(tail**2)) == pytest.approx(float(ratio_db), abs=0.01)
        # Independent of Schroeder's integral: a straight line through the level of 10 ms frames.
        frames = tail[160 : 160 + 160 * int(0.6 * rt60_s * 100)].reshape(-1, 160)
        slope = np.polyfit(np.arange(len(frames)) * 0.01, 10 * np.log10(np.mean(frames**2, axis=1)), 1)[0]
        assert -60 / slope == pytest.approx(float(rt60_s), rel=0.1)
        assert reverberation_time(room[41:]) == pytest.approx(float(rt60_s), rel=0.1)
