"""SpecAugment: masks over time and frequency on log-mel; `B` crops, `T` frames, `F` mel bands, `M` masks per crop."""

import torch
from torch import Tensor

from dino_speech.argument_checks import require_ranges
from dino_speech.errors import InputError


class SpecAugment:
    """Masks over time and frequency, drawn for each crop by itself.

    Masked values become 0, which is the mean of mean-normalised features. Each width is drawn uniformly from 0 to its
    largest, then the place uniformly from where it fits.

    Args:
        num_time_masks: masks over time per crop.
        max_time_frames: the largest width of one, in frames.
        num_freq_masks: masks over frequency per crop.
        max_freq_bands: the largest width of one, in mel bands.
        p: probability that a crop is masked at all.

    Raises:
        InputError: a number is out of its range.

    Example:
        >>> masked = SpecAugment()(torch.randn(8, 200, 80), generator=torch.Generator().manual_seed(0))
        >>> masked.shape
        torch.Size([8, 200, 80])

    Source: Park et al., arXiv 1904.08779, without time warping. The light setting, one mask of at most 5 frames and one
    of at most 8 bands, is that of hyperion, egs/voxceleb/ssl.v1; Cho et al., arXiv 2208.05445, used none.
    """

    def __init__(
        self,
        *,
        num_time_masks: int = 1,
        max_time_frames: int = 5,
        num_freq_masks: int = 1,
        max_freq_bands: int = 8,
        p: float = 1.0,
    ) -> None:
        self.num_time_masks, self.max_time_frames = num_time_masks, max_time_frames
        self.num_freq_masks, self.max_freq_bands, self.p = num_freq_masks, max_freq_bands, p
        counts = ("num_time_masks", "max_time_frames", "num_freq_masks", "max_freq_bands")
        require_ranges(self, counts_from_zero=counts, shares=("p",))

    def __call__(self, frames: Tensor, *, generator: torch.Generator) -> Tensor:
        """Mask a batch (B, T, F) on any device, by a CPU generator: a new tensor of the same shape and type."""
        if frames.ndim != 3 or generator.device.type != "cpu":
            problem = f"frames of shape {tuple(frames.shape)}, generator on {generator.device}"
            raise InputError(f"{problem}: expected (B, T, F) and a CPU generator")
        num_crops, num_frames, num_bands = frames.shape
        if num_bands == 1:
            raise InputError("SpecAugment masks bands, but this encoder hears waves, which have none; leave it out")
        time = _masks(num_crops, num_frames, self.num_time_masks, self.max_time_frames, generator)  # (B, T)
        frequency = _masks(num_crops, num_bands, self.num_freq_masks, self.max_freq_bands, generator)  # (B, F)
        applied = torch.rand(num_crops, 1, generator=generator) < self.p
        time, frequency = (time & applied).to(frames.device), (frequency & applied).to(frames.device)
        return frames.masked_fill(time[:, :, None] | frequency[:, None, :], 0.0)


def _masks(num_crops: int, length: int, num_masks: int, max_width: int, generator: torch.Generator) -> Tensor:
    """(B, length) bool: the union of each crop's masks."""
    draws = torch.rand(2, num_crops, num_masks, 1, generator=generator, dtype=torch.float64)
    widths = (draws[0] * (min(max_width, length) + 1)).long()  # (B, M, 1)
    starts = (draws[1] * (length - widths + 1)).long()
    position = torch.arange(length)
    return ((position >= starts) & (position < starts + widths)).any(dim=1)
