"""The x-vector network: SpeechBrain's time-delay layers with a pooling that is exact and masked.

SpeechBrain's own pooling adds random noise and loops over the batch. The weights' names are SpeechBrain's own below
the prefix `model.` (with `pooling="statistics"`), so that its published checkpoints load.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from dino_speech.compatibility import require_torchaudio
from dino_speech.errors import InputError
from dino_speech.models.pooling import build_pooling, frame_mask
from dino_speech.models.time_layers import convolve, normalise, padding_of, same_length


class XVector(nn.Module):
    """Frames to embeddings by time-delay layers and statistics over time.

    Args:
        num_mels: features per frame.
        embedding_dim: `D`.
        channels: outputs of each layer.
        kernel_sizes: odd, one per layer.
        dilations: one per layer.
        pooling: "statistics" or "attention".

    Raises:
        InputError: the lists differ in length, a kernel is even, or the pooling is unknown.

    Source:
        Snyder et al., ICASSP 2018, Table 1, as arranged in SpeechBrain (LeakyReLU before the normalisation).
    """

    def __init__(
        self,
        num_mels: int,
        embedding_dim: int,
        *,
        channels: Sequence[int] = (512, 512, 512, 512, 1500),
        kernel_sizes: Sequence[int] = (5, 3, 3, 1, 1),
        dilations: Sequence[int] = (1, 2, 3, 1, 1),
        pooling: str = "statistics",
    ) -> None:
        super().__init__()
        if not len(channels) == len(kernel_sizes) == len(dilations) >= 1:
            raise InputError(
                f"channels={list(channels)}, kernel_sizes={list(kernel_sizes)}, dilations={list(dilations)}:"
                " expected lists of one length"
            )
        if any(size % 2 == 0 for size in kernel_sizes):
            raise InputError(f"kernel_sizes={list(kernel_sizes)}: expected odd numbers")
        require_torchaudio()
        from speechbrain.lobes.models.Xvector import Xvector

        self.model: Any = Xvector(
            tdnn_blocks=len(channels),
            tdnn_channels=list(channels),
            tdnn_kernel_sizes=list(kernel_sizes),
            tdnn_dilations=list(dilations),
            lin_neurons=embedding_dim,
            in_channels=num_mels,
        )
        self.pooling = build_pooling(pooling, channels[-1])
        self.min_frames = 1 + max(padding_of(layer) for layer in self.model.blocks[:-2:3])

    def forward(self, frames: Tensor, num_frames: Tensor | None = None) -> Tensor:
        """(B, T, F) and (B,) -> (B, D).

        Raises:
            InputError: an utterance has fewer than `min_frames` frames.
        """
        num_frames = same_length(frames, num_frames, min_frames=self.min_frames)
        *layers, _, affine = self.model.blocks  # what stands between is SpeechBrain's pooling
        x = frames
        for convolution, activation, norm in zip(layers[::3], layers[1::3], layers[2::3], strict=True):
            x = normalise(norm.norm, activation(convolve(convolution, x, num_frames)))
        return affine.w(self.pooling(x, frame_mask(num_frames, x.shape[1])))
