"""The x-vector network: SpeechBrain's time-delay layers with a pooling that is exact and masked.

SpeechBrain's own pooling adds random noise and loops over the batch. The weights' names are SpeechBrain's own below
the prefix `model.` (with `pooling="statistics"`), so that its published checkpoints load.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from dino_speech.compatibility import require_torchaudio
from dino_speech.models.backbones.pooling import build_pooling, frame_mask
from dino_speech.models.backbones.time_layers import check_layers, convolve, normalise, padding_of, same_length
from dino_speech.models.layer_means import Note, ignore
from dino_speech.models.recompute import run_part


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

    Attributes:
        affine_modules: names of the last affine layers.
        depth_modules: names of all parts in the order of depth, those of one depth together.

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
        check_layers(channels=channels, kernel_sizes=kernel_sizes, dilations=dilations)
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
        self.recompute = False  # see `recompute.py`
        self.pooling = build_pooling(pooling, channels[-1])
        self.min_frames = 1 + max(padding_of(layer) for layer in self.model.blocks[:-2:3])
        last = len(self.model.blocks) - 1
        self.affine_modules = (f"model.blocks.{last}",)
        layers = [tuple(f"model.blocks.{3 * layer + part}" for part in range(3)) for layer in range(len(channels))]
        self.depth_modules = [*layers, ("pooling",), self.affine_modules]

    def forward(self, frames: Tensor, num_frames: Tensor | None = None, note: Note = ignore) -> Tensor:
        """(B, T, F) and (B,), at least `min_frames` -> (B, D); `note` hears of each `tdnn_N` and of `pooled`."""
        num_frames = same_length(frames, num_frames, min_frames=self.min_frames)
        *layers, _, affine = self.model.blocks  # what stands between is SpeechBrain's pooling
        x, mask = frames, frame_mask(num_frames, frames.shape[1])
        triples = zip(layers[::3], layers[1::3], layers[2::3], strict=True)
        for number, (convolution, activation, norm) in enumerate(triples, start=1):
            x = run_part(self, _layer, convolution, activation, norm, x, num_frames)
            note(f"tdnn_{number}", x, mask)
        pooled = self.pooling(x, mask)
        note("pooled", pooled, None)
        return affine.w(pooled)


def _layer(convolution: Any, activation: Any, norm: Any, x: Tensor, num_frames: Tensor | None) -> Tensor:
    return normalise(norm.norm, activation(convolve(convolution, x, num_frames)))
