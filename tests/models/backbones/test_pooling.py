"""Pooling against torch.std and a double loop; padding, single frames and gradients at zero variance."""

import pytest
import torch

from dino_speech.errors import InputError
from dino_speech.models.backbones.pooling import AttentivePooling, StatisticsPooling, build_pooling, frame_mask

LENGTHS = torch.tensor([12, 5, 2])


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(3, 12, 6, generator=torch.Generator().manual_seed(1))


def test_mask() -> None:
    mask = frame_mask(torch.tensor([3, 1]), 4)
    assert mask is not None
    assert mask[:, :, 0].tolist() == [[True, True, True, False], [True, False, False, False]]
    assert frame_mask(None, 4) is None


def test_statistics_are_torch_mean_and_std(x: torch.Tensor) -> None:
    pooled = StatisticsPooling()(x, frame_mask(LENGTHS, 12))
    for row, utterance, length in zip(pooled, x, LENGTHS, strict=True):
        expected = torch.cat([utterance[:length].mean(0), utterance[:length].std(0)])
        torch.testing.assert_close(row, expected)
    torch.testing.assert_close(StatisticsPooling()(x), torch.cat([x.mean(1), x.std(1)], dim=1))


def test_statistics_of_one_frame_are_finite(x: torch.Tensor) -> None:
    pooled = StatisticsPooling()(x[:, :1])
    torch.testing.assert_close(pooled[:, :6], x[:, 0])
    assert pooled[:, 6:].abs().max() < 1e-5


@pytest.mark.parametrize("masked", [True, False])
def test_attention_equals_a_loop(x: torch.Tensor, masked: bool) -> None:
    torch.manual_seed(0)
    pooling = AttentivePooling(6, attention_channels=4)
    lengths = LENGTHS if masked else torch.tensor([12, 12, 12])
    pooled = pooling(x, frame_mask(lengths, 12) if masked else None)
    for row, utterance, length in zip(pooled, x, lengths, strict=True):
        frames = utterance[:length]
        mean, deviation = frames.mean(0), frames.std(0, unbiased=False)
        scores = []
        for frame in frames:
            hidden = pooling.frames_in(frame - mean) + pooling.context_in(torch.cat([mean, deviation]))
            scores.append(pooling.scores_out(torch.tanh(hidden)))
        weights = torch.stack(scores).softmax(0)
        weighted = (weights * frames).sum(0)
        spread = (weights * (frames - weighted) ** 2).sum(0).sqrt()
        torch.testing.assert_close(row, torch.cat([weighted, spread]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pooling", [StatisticsPooling(), AttentivePooling(6)])
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_gradients_of_constant_frames_are_finite(pooling: torch.nn.Module, value: float) -> None:
    frames = torch.full((2, 9, 6), value, requires_grad=True)
    pooling(frames).sum().backward()
    assert frames.grad is not None
    assert frames.grad.isfinite().all()


def test_pooling_is_chosen_by_name() -> None:
    assert isinstance(build_pooling("statistics", 8), StatisticsPooling)
    assert isinstance(build_pooling("attention", 8), AttentivePooling)
    with pytest.raises(InputError, match="'max': expected 'statistics' or 'attention'"):
        build_pooling("max", 8)
