"""No network at all: what mean and deviation of the features already say, the floor that results are held against."""

import torch
from torch import Tensor, nn

from dino_speech.errors import InputError
from dino_speech.models.backbones.pooling import StatisticsPooling, frame_mask
from dino_speech.models.layer_means import Note, ignore


class FrameStatistics(nn.Module):
    """Mean and standard deviation of each band over the true frames.

    The mean spectrum is taken relative to its own average over the bands, which is the utterance's loudness: a constant
    in all bands says nothing of the speaker, and would dominate a cosine. Nothing here can be trained.

    Args:
        num_mels: features per frame, `F`.
        embedding_dim: must be 2 * `num_mels`.
    """

    min_frames = 1

    def __init__(self, num_mels: int, embedding_dim: int) -> None:
        super().__init__()
        if embedding_dim != 2 * num_mels:
            raise InputError(
                f"embedding_dim={embedding_dim}: mean and deviation of {num_mels} bands are {2 * num_mels}"
            )
        self.pooling = StatisticsPooling()

    def forward(self, frames: Tensor, num_frames: Tensor | None = None, note: Note = ignore) -> Tensor:
        """(B, T, F) and (B,) -> (B, 2F); there are no layers to tell `note` of."""
        mean, deviation = self.pooling(frames, frame_mask(num_frames, frames.shape[1])).chunk(2, dim=1)
        return torch.cat([mean - mean.mean(1, keepdim=True), deviation], dim=1)


class StatisticsShortcut(nn.Module):
    """Mean and deviation of each band over the true frames, by an affine map, to be added to a network's embedding.

    In the first hours of training a deep network forgets the long-term spectrum sooner than it learns anything better.
    Beside `mean_norm="none"` this keeps it at hand. Ours; figures in the docs' page on settings.

    Args:
        num_mels: features per frame, `F`.
        embedding_dim: `D`.
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
