"""From frames to one vector: mean and deviation over time, plain or weighted by attention, over true frames only.

Letters: `B` utterances, `T` frames, `C` channels, which come last: the layout in which bfloat16 is fast.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dino_speech.errors import InputError

MIN_VARIANCE = 1e-12  # as in SpeechBrain; clamping also stops the infinite gradient of the root at zero


def frame_mask(num_frames: Tensor | None, size: int) -> Tensor | None:
    """(B,) counts -> (B, size, 1) bool, True at true frames; None stays None and means that all frames are true."""
    if num_frames is None:
        return None
    return (torch.arange(size, device=num_frames.device) < num_frames[:, None])[:, :, None]


def same_length(frames: Tensor, num_frames: Tensor | None, *, min_frames: int = 1) -> Tensor | None:
    """`num_frames`, or None where all fill the batch, which is cheaper. Refuses counts above T, below `min_frames`."""
    size = shortest = longest = frames.shape[1]
    if num_frames is not None:
        shortest, longest = torch.stack([num_frames.min(), num_frames.max()]).tolist()
    if shortest < min_frames:
        raise InputError(f"an utterance of {shortest} frames is too short; this network needs at least {min_frames}")
    if longest > size:
        raise InputError(f"num_frames up to {longest}, but the batch has {size} frames")
    return None if shortest == size else num_frames


def masked_mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the true frames, (B, T, C) -> (B, 1, C)."""
    if mask is None:
        return x.mean(1, keepdim=True)
    return (x * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)


class StatisticsPooling(nn.Module):
    """Mean and standard deviation over the true frames, in float32.

    The deviation is `torch.std`'s (divided by the count less one); of a single frame it is 0.
    SpeechBrain's pooling of the same name adds random noise to the mean, even when evaluating; this one does not.
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, C) and (B, T, 1) bool -> (B, 2C) float32: means, then deviations."""
        x = x.float()
        mean = masked_mean(x, mask)
        squared = (x - mean).square()
        if mask is not None:
            squared = squared * mask
        count = x.shape[1] if mask is None else mask.sum(1)
        variance = squared.sum(1) / torch.as_tensor(count - 1, device=x.device).clamp(min=1)
        return torch.cat([mean.squeeze(1), variance.clamp(min=MIN_VARIANCE).sqrt()], dim=1)


def attentive_statistics(x: Tensor, mask: Tensor | None, attend: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """Mean and deviation over time, weighted per channel and frame: (B, T, C) -> (B, 2C) float32, means first.

    `attend` is called with the frames less their mean (B, T, C), the mean and the deviation (B, 1, C), and gives the
    scores (B, T, C) whose softmax over time is the weights. The moments are taken about the plain mean, which the
    context needs anyway: the same numbers with fewer passes over memory.

    Source: attentive statistics with global context, arXiv 2005.07143, Sec. 3.1.
    """
    mean = masked_mean(x, mask)
    centred = x - mean  # (B, T, C)
    if mask is not None:
        centred = centred * mask
    squared = centred * centred
    deviation = masked_mean(squared, mask).clamp(min=MIN_VARIANCE).sqrt()
    scores = attend(centred, mean, deviation)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    weights = scores.softmax(dim=1)
    shift = (weights * centred).sum(1, dtype=torch.float32)
    variance = (weights * squared).sum(1, dtype=torch.float32) - shift.square()
    return torch.cat([mean.squeeze(1) + shift, variance.clamp(min=MIN_VARIANCE).sqrt()], dim=1)


class AttentivePooling(nn.Module):
    """Channel- and context-dependent attention: each channel weighs the frames, knowing mean and deviation of all."""

    def __init__(self, channels: int, *, attention_channels: int = 128) -> None:
        super().__init__()
        self.frames_in = nn.Linear(channels, attention_channels, bias=False)
        self.context_in = nn.Linear(2 * channels, attention_channels)
        self.scores_out = nn.Linear(attention_channels, channels)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, C) and (B, T, 1) bool -> (B, 2C) float32: weighted means, then weighted deviations."""
        return attentive_statistics(x, mask, self._attend)

    def _attend(self, centred: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        context = self.context_in(torch.cat([mean, deviation], dim=2))  # (B, 1, attention): the same for all frames
        return self.scores_out(torch.tanh(self.frames_in(centred) + context))


def build_pooling(kind: str, channels: int) -> nn.Module:
    """The pooling of a backbone's option `pooling`: "statistics" or "attention"; both give (B, 2 * channels)."""
    if kind not in ("statistics", "attention"):
        raise InputError(f"pooling={kind!r}: expected 'statistics' or 'attention'")
    return StatisticsPooling() if kind == "statistics" else AttentivePooling(channels)


class FrameStatistics(nn.Module):
    """No network at all: mean and deviation of each band over the true frames, the floor results are held against.

    The mean spectrum is taken relative to its own average over the bands, which is the utterance's loudness: a constant
    in all bands says nothing of the speaker, and would dominate a cosine. Nothing here can be trained.
    """

    min_frames = 1

    def __init__(self, num_mels: int, embedding_dim: int) -> None:
        super().__init__()
        if embedding_dim != 2 * num_mels:
            size = 2 * num_mels
            raise InputError(f"embedding_dim={embedding_dim}: mean and deviation of {num_mels} bands are {size}")
        self.pooling = StatisticsPooling()

    def forward(self, frames: Tensor, num_frames: Tensor | None = None, note: object = None) -> Tensor:
        """(B, T, F) and (B,) -> (B, 2F); there are no layers to tell `note` of."""
        mean, deviation = self.pooling(frames, frame_mask(num_frames, frames.shape[1])).chunk(2, dim=1)
        return torch.cat([mean - mean.mean(1, keepdim=True), deviation], dim=1)


class StatisticsShortcut(nn.Module):
    """Mean and deviation of each band over the true frames, by an affine map, to be added to a network's embedding.

    In the first hours of training a deep network forgets the long-term spectrum sooner than it learns anything better.
    Beside `mean_norm="none"` this keeps it at hand. Ours; figures in the docs' page on settings.
    """

    def __init__(self, num_mels: int, embedding_dim: int) -> None:
        super().__init__()
        self.pooling = StatisticsPooling()
        self.norm = nn.BatchNorm1d(2 * num_mels)
        self.affine = nn.Linear(2 * num_mels, embedding_dim)

    def forward(self, frames: Tensor, num_frames: Tensor | None = None) -> Tensor:
        """(B, T, F) and (B,) -> (B, D)."""
        statistics: Tensor = self.pooling(frames, frame_mask(num_frames, frames.shape[1]))
        embedding: Tensor = self.affine(self.norm(statistics))
        return embedding
