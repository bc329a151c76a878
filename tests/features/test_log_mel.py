"""Log-mel: against SpeechBrain-free references (torchaudio, loops), padding, level, the three mean normalisations."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from dino_speech.errors import InputError
from dino_speech.features import CPU_BLOCK_SAMPLES, LogMel


@pytest.fixture
def waves() -> Tensor:
    """(3, 24000): noise whose colour and loudness change, so that no two stretches are alike."""
    noise = torch.randn(3, 24_000, generator=torch.Generator().manual_seed(0))
    return 0.1 * torch.cumsum(noise, dim=1).sin() * torch.linspace(0.2, 1.0, 24_000)


def plain(**options: object) -> LogMel:
    return LogMel(**{"mean_norm": "none", "level_norm": False, "pre_emphasis": 0.0, **options})


def test_equals_torchaudio(waves: Tensor) -> None:
    torchaudio = pytest.importorskip("torchaudio")
    spectrogram = torchaudio.transforms.Spectrogram(
        n_fft=512,
        win_length=400,
        hop_length=160,
        power=2.0,
        center=False,
        window_fn=lambda size: torch.hamming_window(size, periodic=False),
    )
    # torchaudio places the 400 samples of a window in the middle of 512: 56 further samples on either side.
    power = spectrogram(torch.nn.functional.pad(waves, (56, 56)))
    mel = torchaudio.transforms.MelScale(80, 16_000, 20.0, 7600.0, 257)(power)
    frames, num_frames = plain(floor=1e-6)(waves)
    assert num_frames is None
    assert frames.shape == (3, 148, 80)
    torch.testing.assert_close(frames, torch.log(mel + 1e-6).transpose(1, 2), rtol=1e-4, atol=1e-4)


def test_one_frame_by_hand(waves: Tensor) -> None:
    features = plain(pre_emphasis=0.97, floor=1e-3)
    wave = waves[0].double().numpy()
    emphasised = wave[1600 : 1600 + 400] - 0.97 * wave[1599 : 1599 + 400]  # frame 10
    spectrum = np.fft.rfft(emphasised * np.hamming(400), n=512)
    expected = np.log(np.abs(spectrum) ** 2 @ features.mel_weights[::2].double().numpy() + 1e-3)
    np.testing.assert_allclose(features(waves[:1])[0][0, 10], expected, atol=1e-4)


@pytest.mark.parametrize("num_samples", [400, 401, 559, 560, 3_200, 64_000])
def test_every_frame_lies_within_the_samples(num_samples: int) -> None:
    starts = [start for start in range(0, num_samples, 160) if start + 400 <= num_samples]
    features = LogMel()
    frames, num_frames = features(torch.randn(1, num_samples), torch.tensor([num_samples]))
    assert frames.shape[1] == len(starts) == int(num_frames)
    assert features.num_frames(num_samples) == len(starts)


@pytest.mark.parametrize("mean_norm", ["utterance", "window", "none"])
@pytest.mark.parametrize("level_norm", [True, False])
def test_padding_changes_nothing(waves: Tensor, mean_norm: str, level_norm: bool) -> None:
    features = LogMel(mean_norm=mean_norm, level_norm=level_norm, window_frames=31)
    lengths = torch.tensor([24_000, 13_777, 400])
    rubbish = waves.clone()
    for row, length in zip(rubbish, lengths, strict=True):
        row[length:] = 7.0  # what lies beyond the end must not matter, whatever it is
    frames, num_frames = features(rubbish, lengths)
    for wave, length, row, count in zip(waves, lengths, frames, num_frames, strict=True):
        alone, _ = features(wave[None, :length])
        assert alone.shape[1] == count
        torch.testing.assert_close(row[:count], alone[0], rtol=0, atol=1e-5)
        assert not row[count:].any()


@pytest.mark.parametrize("gain", [1e-4, 0.03, 30.0])
def test_level_norm_makes_loudness_irrelevant(waves: Tensor, gain: float) -> None:
    features = LogMel(mean_norm="none")
    torch.testing.assert_close(features(gain * waves)[0], features(waves)[0], rtol=0, atol=1e-4)


def test_utterance_mean_is_zero(waves: Tensor) -> None:
    frames, num_frames = LogMel(mean_norm="utterance")(waves, torch.tensor([24_000, 20_000, 16_000]))
    means = frames.sum(1) / num_frames[:, None]
    assert means.abs().max() < 1e-5


def test_window_mean_equals_a_loop(waves: Tensor) -> None:
    raw, _ = LogMel(mean_norm="none")(waves)
    frames, _ = LogMel(mean_norm="window", window_frames=41)(waves)
    expected = torch.stack(
        [raw[:, t] - raw[:, max(0, t - 20) : t + 21].mean(1) for t in range(raw.shape[1])],
        dim=1,
    )
    torch.testing.assert_close(frames, expected, rtol=0, atol=1e-5)


def test_a_window_wider_than_the_utterance_is_the_utterance(waves: Tensor) -> None:
    windowed, _ = LogMel(mean_norm="window", window_frames=1001)(waves)
    torch.testing.assert_close(windowed, LogMel(mean_norm="utterance")(waves)[0], rtol=0, atol=1e-5)


def test_digital_silence_sits_on_the_floor() -> None:
    frames, _ = LogMel(mean_norm="none", floor=1e-3)(torch.zeros(1, 1_600))
    assert torch.allclose(frames, torch.full_like(frames, math.log(1e-3)))


def test_float32_inside_autocast(waves: Tensor) -> None:
    features = LogMel()
    with torch.autocast("cpu", torch.bfloat16):
        frames, _ = features(waves.bfloat16())
    assert frames.dtype == torch.float32
    torch.testing.assert_close(frames, features(waves.bfloat16().float())[0])


def test_state_is_empty_and_options_change_the_shape(waves: Tensor) -> None:
    features = LogMel(num_mels=40, window_ms=32.0, hop_ms=16.0)
    assert not features.state_dict()
    assert features(waves)[0].shape == (3, 1 + (24_000 - 512) // 256, 40)


def test_too_short_is_refused() -> None:
    features = LogMel()
    with pytest.raises(InputError, match=r"399 samples is shorter than one window of 400 samples \(25 ms\)"):
        features(torch.zeros(1, 399))
    with pytest.raises(InputError, match="120 samples is shorter"):
        features(torch.zeros(2, 4_000), torch.tensor([4_000, 120]))
    with pytest.raises(InputError, match="up to 4001, but the waves have 4000"):
        features(torch.zeros(1, 4_000), torch.tensor([4_001]))
    with pytest.raises(InputError, match=r"expected \(B, time\)"):
        features(torch.zeros(4_000))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hop_ms": 0}, "hop_ms"),
        ({"hop_ms": 30.0}, "hop_ms <= window_ms"),
        ({"high_hz": 9000.0}, "high_hz"),
        ({"mean_norm": "speaker"}, "'utterance', 'window' or 'none'"),
        ({"window_frames": 300}, "odd"),
        ({"pre_emphasis": 1.0}, "pre_emphasis"),
        ({"floor": 0.0}, "floor"),
        ({"num_mels": 200}, "fall between the bins"),
    ],
)
@pytest.mark.filterwarnings("ignore:At least one mel filterbank")
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LogMel(**options)


def test_blocks_of_a_large_batch_change_no_frame() -> None:
    torch.manual_seed(0)
    extractor, waves = LogMel(mean_norm="window", window_frames=51), torch.randn(30, 16_000)
    assert 2 * CPU_BLOCK_SAMPLES < 30 * 16_000
    num_samples = torch.randint(8_000, 16_001, (30,))
    num_samples[0] = 16_000
    frames, num_frames = extractor(waves, num_samples)
    for row, (wave, length) in enumerate(zip(waves, num_samples, strict=True)):
        alone = extractor(wave[None, :length])[0][0]
        assert len(alone) == num_frames[row]
        torch.testing.assert_close(frames[row, : len(alone)], alone, rtol=1e-4, atol=1e-4)
        assert not frames[row, len(alone) :].any()
    torch.testing.assert_close(extractor(waves)[0][-1:], extractor(waves[-1:])[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num", [1, 12, 13])
def test_any_number_of_waves(num: int) -> None:
    assert LogMel()(torch.randn(num, 16_000))[0].shape == (num, 98, 80)
