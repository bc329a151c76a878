"""SpecAugment: bands of zeros, within their widths, per crop, as often as asked."""

import numpy as np
import pytest
import torch

from dino_speech.audio.spec_augment import SpecAugment
from dino_speech.errors import InputError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def masked_lines(frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which frames (B, T) and which bands (B, F) are wholly zero."""
    zero = frames == 0
    return zero.all(dim=2), zero.all(dim=1)


def test_the_light_setting_masks_one_band_of_each_kind() -> None:
    frames = torch.rand(400, 100, 40) + 0.5
    masked = SpecAugment()(frames, generator=generator())
    time, frequency = masked_lines(masked)
    assert torch.equal(masked == 0, time[:, :, None] | frequency[:, None, :])
    assert torch.equal(masked[masked != 0], frames[masked != 0])
    for lines, widest in ((time, 5), (frequency, 8)):
        widths = lines.sum(dim=1)
        assert sorted(set(widths.tolist())) == list(range(widest + 1))
        counts = np.bincount(widths.numpy())
        np.testing.assert_allclose(counts / 400, 1 / (widest + 1), atol=0.07)
        edges = lines.int().diff(dim=1, prepend=torch.zeros(400, 1, dtype=torch.int)).eq(1).sum(dim=1)
        assert int(edges.max()) == 1  # one unbroken band


def test_masks_reach_both_ends() -> None:
    masked = SpecAugment(max_time_frames=4, num_freq_masks=0)(torch.ones(500, 12, 3), generator=generator())
    time, _ = masked_lines(masked)
    assert time.any(dim=0).all()


def test_several_masks_per_crop() -> None:
    spec_augment = SpecAugment(num_time_masks=3, max_time_frames=6, num_freq_masks=0)
    time, frequency = masked_lines(spec_augment(torch.ones(300, 200, 4), generator=generator()))
    begins = time.int().diff(dim=1).eq(1).sum(dim=1)
    assert int(begins.max()) == 3
    assert int(time.sum(dim=1).max()) <= 18
    assert not frequency.any()


def test_probability_and_independence_of_crops() -> None:
    frames = torch.ones(600, 50, 20)
    masked = SpecAugment(max_time_frames=20, max_freq_bands=10, p=0.5)(frames, generator=generator())
    untouched = masked.flatten(1).all(dim=1)
    assert float(untouched.float().mean()) == pytest.approx(0.5, abs=0.08)
    assert len({tuple(row) for row in masked_lines(masked)[0].tolist()}) > 100


def test_same_generator_same_masks_and_the_input_is_untouched() -> None:
    frames = torch.randn(8, 60, 80)
    before = frames.clone()
    first, again, other = (SpecAugment()(frames, generator=generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(frames, before)


def test_masks_wider_than_the_crop_and_other_types() -> None:
    masked = SpecAugment(max_time_frames=50)(torch.ones(40, 3, 80, dtype=torch.bfloat16), generator=generator())
    assert masked.dtype == torch.bfloat16
    assert masked_lines(masked)[0].all(dim=1).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p": 1.5}, r"p = 1\.5: expected a number from 0 to 1"),
        ({"num_time_masks": -1}, "num_time_masks = -1: expected a whole number, at least 0"),
    ],
)
def test_impossible_settings_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SpecAugment(**options)


def test_frames_without_batch_are_refused() -> None:
    with pytest.raises(InputError, match=r"frames of shape \(10, 80\)"):
        SpecAugment()(torch.ones(10, 80), generator=generator())


def test_waves_have_no_bands() -> None:
    with pytest.raises(InputError, match="this encoder hears waves"):
        SpecAugment()(torch.ones(2, 1_600, 1), generator=torch.Generator())
