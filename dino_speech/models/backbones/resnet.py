"""ResNet34 over the time-frequency plane, in full and light width; padding is masked in every layer.

`T` frames, `F` bands, `C` channels; inside, (B, C, T, F) in channels-last memory.
"""

import torch
from torch import Tensor, nn

from dino_speech.errors import InputError
from dino_speech.models.backbones.pooling import build_pooling, frame_mask, same_length
from dino_speech.models.layer_means import Note, ignore
from dino_speech.models.recompute import run_part

NUM_BLOCKS = (3, 4, 6, 3)  # arXiv 1512.03385, Table 1, the 34-layer column


class ResNet34(nn.Module):
    """Frames to embeddings by a 3x3 stem of stride 1 and four stages of basic blocks; no max-pooling.

    Args and attributes are those of `ECAPA` (a stage of blocks is one depth), and:
        channels: of the stem and the first stage; doubled in each stage after it. 16 is the paper's light form.
        pooling: "statistics" or "attention".

    Source:
        arXiv 2208.05445, the authors' configuration: blocks 3-4-6-3, 16 channels, mean and deviation, one affine layer.
    """

    min_frames = 1
    affine_modules = ("affine",)

    def __init__(self, num_mels: int, embedding_dim: int, *, channels: int = 32, pooling: str = "statistics") -> None:
        super().__init__()
        if channels < 1:
            raise InputError(f"channels={channels}: expected a positive number, such as 32 or 16")
        self.recompute = False  # see `recompute.py`
        self.stem = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(channels)
        blocks: list[nn.Module] = []
        in_channels, num_bands = channels, num_mels
        self.depth_modules: list[tuple[str, ...]] = [("stem", "stem_norm")]
        for stage, count in enumerate(NUM_BLOCKS):
            self.depth_modules.append(tuple(f"blocks.{len(blocks) + position}" for position in range(count)))
            out_channels = channels * 2**stage
            for position in range(count):
                stride = 2 if stage > 0 and position == 0 else 1
                blocks.append(BasicBlock(in_channels, out_channels, stride))
                in_channels, num_bands = out_channels, (num_bands - 1) // stride + 1
        self.blocks = nn.ModuleList(blocks)
        self.pooling = build_pooling(pooling, in_channels * num_bands)
        self.affine = nn.Linear(2 * in_channels * num_bands, embedding_dim)
        self.depth_modules += [("pooling",), self.affine_modules]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, frames: Tensor, num_frames: Tensor | None = None, note: Note = ignore) -> Tensor:
        """(B, T, F) and (B,) -> (B, D); `note` hears of `stem`, each `block_N` (all bands and channels), `pooled`."""
        num_frames = same_length(frames, num_frames)
        # (B, T, F) -> (B, 1, T, F)
        x = _hide_padding(frames[:, None], num_frames).contiguous(memory_format=torch.channels_last)
        x = torch.relu_(self.stem_norm(self.stem(x)))
        note("stem", _as_frames(x), frame_mask(num_frames, x.shape[2]))
        for number, block in enumerate(self.blocks, start=1):
            x, num_frames = run_part(self, block, x, num_frames)
            note(f"block_{number}", _as_frames(x), frame_mask(num_frames, x.shape[2]))
        pooled = self.pooling(_as_frames(x), frame_mask(num_frames, x.shape[2]))
        note("pooled", pooled, None)
        return self.affine(pooled)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut; the first may halve time and frequency."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            projection = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor, num_frames: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, C, T, F) and the true frames of each utterance -> the same after the block's stride."""
        residual = self.shortcut(x)
        x = self.norm1(self.conv1(_hide_padding(x, num_frames)))
        if num_frames is not None:
            num_frames = (num_frames - 1) // self.stride + 1
        x = self.norm2(self.conv2(_hide_padding(torch.relu_(x), num_frames)))
        return torch.relu_(x + residual), num_frames


def _as_frames(x: Tensor) -> Tensor:
    """(B, C, T, F) -> (B, T, F * C), without a copy where memory is channels-last."""
    return x.permute(0, 2, 3, 1).flatten(2)


def _hide_padding(x: Tensor, num_frames: Tensor | None) -> Tensor:
    """Zero beyond each true end, so that a convolution finds there what it finds beyond the end of a file alone."""
    mask = frame_mask(num_frames, x.shape[2])
    return x if mask is None else x * mask[:, None]  # (B, 1, T, 1)
