"""The time-delay networks ECAPA-TDNN and x-vector: SpeechBrain's modules, channels-last and independent of the batch.

SpeechBrain pads a batch as a whole by reflection, and so gives an utterance another embedding in every batch. Here its
layers only hold the weights: `convolve` mirrors each utterance at its own end, as SpeechBrain does to a file alone.
Channels last, (B, T, C), makes a training step in bfloat16 about twice as fast on a CPU. The weights' names are
SpeechBrain's own below the prefix `model.`, so that its published checkpoints load:
`encoder.backbone.model.load_state_dict(torch.load("embedding_model.ckpt", weights_only=True))`.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dino_speech.compatibility import require_torchaudio
from dino_speech.errors import InputError
from dino_speech.models.backbones.pooling import (
    attentive_statistics,
    build_pooling,
    frame_mask,
    masked_mean,
    same_length,
)
from dino_speech.models.layer_means import Note, ignore
from dino_speech.models.recompute import run_part


class ECAPA(nn.Module):
    """Frames to embeddings by emphasised channel attention, propagation and aggregation.

    Args:
        num_mels: features per frame.
        embedding_dim: `D`.
        channels: outputs of the first layer, of each SE-Res2Net block (all the same) and of the aggregation; one number
            `c` stands for [c, c, c, c, 3c].
        kernel_sizes: odd, one per layer.
        dilations: one per layer.
        groups: one per layer.
        attention_channels: width of the attention in the pooling.
        se_channels: width of the squeeze-and-excitation.
        res2net_scale: pieces that a block's channels are cut into, and a divisor of them.
        dropout: share of channels dropped in training.

    Raises:
        InputError: the lists differ in length, a kernel is even, the blocks differ in width or cannot be cut.

    Attributes:
        affine_modules: names of the last affine layers.
        depth_modules: names of all parts in the order of depth, those of one depth together.
        recompute: keep only what passes between the blocks for the backward pass (see `recompute.py`).

    Source:
        arXiv 2005.07143; the defaults are its 512-channel model.
    """

    affine_modules = ("model.fc",)

    def __init__(
        self,
        num_mels: int,
        embedding_dim: int,
        *,
        channels: int | Sequence[int] = 512,
        kernel_sizes: Sequence[int] = (5, 3, 3, 3, 1),
        dilations: Sequence[int] = (1, 2, 3, 4, 1),
        groups: Sequence[int] = (1, 1, 1, 1, 1),
        attention_channels: int = 128,
        se_channels: int = 128,
        res2net_scale: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [channels] * 4 + [3 * channels] if isinstance(channels, int) else list(channels)
        layers = {"channels": widths, "kernel_sizes": list(kernel_sizes), "dilations": list(dilations)}
        layers["groups"] = list(groups)
        check_layers(**layers, at_least=3)
        if len(set(widths[1:-1])) > 1 or widths[1] % res2net_scale:
            expected = f"of one width, a multiple of res2net_scale={res2net_scale}"
            raise InputError(f"channels={widths}: expected blocks (all but the first and the last) {expected}")
        require_torchaudio()
        from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN, SERes2NetBlock

        self.recompute = False
        inner = {"attention_channels": attention_channels, "se_channels": se_channels, "res2net_scale": res2net_scale}
        self.model: Any = ECAPA_TDNN(num_mels, lin_neurons=embedding_dim, dropout=dropout, **layers, **inner)
        res2net_blocks = [block.res2net_block for block in self.model.blocks if isinstance(block, SERes2NetBlock)]
        res2net_layers = [piece.conv for block in res2net_blocks for piece in block.blocks]
        # A mirror image needs one frame more than it is long.
        convolutions = [self.model.blocks[0].conv, *res2net_layers, self.model.mfa.conv]
        self.min_frames = 1 + max(padding_of(layer) for layer in convolutions)
        blocks = [(f"model.blocks.{number}",) for number in range(len(self.model.blocks))]
        self.depth_modules = [*blocks, ("model.mfa",), ("model.asp", "model.asp_bn"), self.affine_modules]

    def forward(self, frames: Tensor, num_frames: Tensor | None = None, note: Note = ignore) -> Tensor:
        """(B, T, F) and (B,) -> (B, D); `note` hears of `tdnn`, each `block_N`, `mfa` (all blocks) and `pooled`.

        Raises:
            InputError: an utterance has fewer than `min_frames` frames.
        """
        num_frames = same_length(frames, num_frames, min_frames=self.min_frames)
        mask = frame_mask(num_frames, frames.shape[1])
        first, *blocks = self.model.blocks
        x = run_part(self, _tdnn, first, frames, num_frames)  # (B, T, F) -> (B, T, C)
        note("tdnn", x, mask)
        outputs = []
        for number, block in enumerate(blocks, start=1):
            x = run_part(self, _se_res2net, block, x, num_frames, mask)
            note(f"block_{number}", x, mask)
            outputs.append(x)
        x = run_part(self, _aggregate, self.model.mfa, outputs, num_frames)
        note("mfa", x, mask)
        x = self.model.asp_bn.norm(run_part(self, self._pool, x, mask))  # (B, T, 3C) -> (B, 6C)
        note("pooled", x, None)
        return F.linear(x, self.model.fc.conv.weight.squeeze(2), self.model.fc.conv.bias)

    def _pool(self, x: Tensor, mask: Tensor | None) -> Tensor:
        pooling = self.model.asp
        convolution = pooling.tdnn.conv.conv
        of_frames, of_mean, of_deviation = convolution.weight.squeeze(2).chunk(3, dim=1)

        def attend(centred: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
            # SpeechBrain repeats mean and deviation T times beside the frames and multiplies that by one wide matrix.
            # Multiplied apart, they cost once per utterance; the frames' own mean moves to the mean's matrix.
            context = torch.cat([of_frames + of_mean, of_deviation], dim=1)
            constant = F.linear(torch.cat([mean, deviation], dim=2), context, convolution.bias)  # (B, 1, A)
            hidden = torch.relu_(F.linear(centred, of_frames) + constant)
            return convolve(pooling.conv, torch.tanh(normalise(pooling.tdnn.norm.norm, hidden)))

        return attentive_statistics(x, mask, attend)


def _tdnn(block: Any, x: Tensor, num_frames: Tensor | None) -> Tensor:
    x = normalise(block.norm.norm, block.activation(convolve(block.conv, x, num_frames)))
    if block.training and block.dropout.p > 0:
        x = block.dropout(x.transpose(1, 2)).transpose(1, 2)  # whole channels are dropped, so they must be dim 1
    return x


def _aggregate(block: Any, outputs: Sequence[Tensor], num_frames: Tensor | None) -> Tensor:
    return _tdnn(block, torch.cat(tuple(outputs), dim=2), num_frames)


def _se_res2net(block: Any, x: Tensor, num_frames: Tensor | None, mask: Tensor | None) -> Tensor:
    residual = x if block.shortcut is None else convolve(block.shortcut, x)
    x = _tdnn(block.tdnn1, x, num_frames)
    x = _res2net(block.res2net_block, x, num_frames)
    x = _tdnn(block.tdnn2, x, num_frames)
    squeezed = torch.relu(convolve(block.se_block.conv1, masked_mean(x, mask)))  # (B, 1, C)
    excitation = torch.sigmoid(convolve(block.se_block.conv2, squeezed))
    return torch.addcmul(residual, excitation, x)


def _res2net(block: Any, x: Tensor, num_frames: Tensor | None) -> Tensor:
    first, *pieces = x.chunk(block.scale, dim=2)
    outputs = [first]
    for number, (layer, piece) in enumerate(zip(block.blocks, pieces, strict=True)):
        outputs.append(_tdnn(layer, piece + outputs[-1] if number else piece, num_frames))
    return torch.cat(outputs, dim=2)


class XVector(nn.Module):
    """Frames to embeddings by time-delay layers and statistics over time, exact and masked.

    SpeechBrain's own pooling adds random noise and loops over the batch; with `pooling="statistics"` its weights load.

    Args and attributes are those of `ECAPA`, and:
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
        layers = {"channels": list(channels), "kernel_sizes": list(kernel_sizes), "dilations": list(dilations)}
        check_layers(**layers, at_least=1)
        require_torchaudio()
        from speechbrain.lobes.models.Xvector import Xvector

        named = {f"tdnn_{name}": sizes for name, sizes in layers.items()}
        self.model: Any = Xvector(tdnn_blocks=len(channels), lin_neurons=embedding_dim, in_channels=num_mels, **named)
        self.recompute = False  # see `recompute.py`
        self.pooling = build_pooling(pooling, channels[-1])
        self.min_frames = 1 + max(padding_of(layer) for layer in self.model.blocks[:-2:3])
        last = len(self.model.blocks) - 1
        self.affine_modules = (f"model.blocks.{last}",)
        parts = [tuple(f"model.blocks.{3 * layer + part}" for part in range(3)) for layer in range(len(channels))]
        self.depth_modules = [*parts, ("pooling",), self.affine_modules]

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


def check_layers(*, at_least: int = 1, **options: Sequence[int]) -> None:
    """Refuse options of layers (`kernel_sizes` among them): lists of several lengths or too short, an even kernel."""
    listed = ", ".join(f"{name}={list(values)}" for name, values in options.items())
    lengths = {len(values) for values in options.values()}
    if len(lengths) > 1 or min(lengths) < at_least:
        raise InputError(f"{listed}: expected lists of one length, at least {at_least}")
    if any(size % 2 == 0 for size in options["kernel_sizes"]):
        raise InputError(f"kernel_sizes={list(options['kernel_sizes'])}: expected odd numbers")


def convolve(layer: Any, x: Tensor, num_frames: Tensor | None = None) -> Tensor:
    """A SpeechBrain `Conv1d` of stride 1 and "same" padding on (B, T, C); each utterance mirrored at its true ends."""
    convolution = layer.conv
    reach = padding_of(layer)
    if convolution.kernel_size[0] == 1 and convolution.groups == 1:
        return F.linear(x, convolution.weight.squeeze(2), convolution.bias)
    x = mirror_pad(x, reach, num_frames).transpose(1, 2).unsqueeze(2)  # (B, C, 1, T + 2 * reach), channels last
    weight, dilation = convolution.weight.unsqueeze(2), (1, convolution.dilation[0])
    x = F.conv2d(x, weight, convolution.bias, dilation=dilation, groups=convolution.groups)
    return x.squeeze(2).transpose(1, 2)


def normalise(norm: nn.Module, x: Tensor) -> Tensor:
    """A `BatchNorm1d` (or its synchronised form) on (B, T, C)."""
    return norm(x.flatten(0, 1)).view(x.shape)


def padding_of(layer: Any) -> int:
    """Frames that a SpeechBrain `Conv1d` reaches beyond either end."""
    return layer.conv.dilation[0] * (layer.conv.kernel_size[0] - 1) // 2


def mirror_pad(x: Tensor, reach: int, num_frames: Tensor | None = None) -> Tensor:
    """Continue each utterance by its mirror image at both ends, (B, T, C) -> (B, T + 2 * reach, C).

    The end frames themselves are not repeated. Frames that lie more than `reach` beyond a true end hold no meaning.
    """
    if reach == 0:
        return x
    size = x.shape[1]
    if num_frames is None:
        return torch.cat([x[:, 1 : reach + 1].flip(1), x, x[:, size - reach - 1 : size - 1].flip(1)], dim=1)
    last = num_frames[:, None] - 1
    position = torch.arange(-reach, size + reach, device=x.device).abs()  # mirrored at the beginning
    position = (last - (last - position).abs()).clamp(min=0)  # (B, T + 2 * reach), mirrored at each end
    return x.gather(1, position[:, :, None].expand(-1, -1, x.shape[2]))
