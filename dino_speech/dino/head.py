"""Encoder and head as one module: what student and teacher each are. The head is thrown away after training.

Logits are computed against weight-normalised prototypes whose normalised weights are never written to memory. The
lengths of K prototypes are K numbers; the normalised weights are K x D, 64 MB at the paper's sizes, written and read
again in each pass of student and teacher and kept for the backward pass. Dividing the logits instead gives the same
numbers (to float32's last digits) at 0.6 of the time for the last layer, forward and backward.

Letters: `N` rows, `B` utterances, `V` views, `T` frames, `F` bands, `D` embedding or bottleneck, `K` prototypes.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.parametrizations import weight_norm

from dino_speech.errors import InputError
from dino_speech.models.bounded_memory import bounded_memory
from dino_speech.models.encoder import SpeechEncoder


def prototype_logits(points: Tensor, directions: Tensor, gain: Tensor) -> Tensor:
    """Products of `points` with the prototypes `gain * directions / |directions|`.

    Args:
        points: (..., D).
        directions: (K, D), of any length above 0.
        gain: (K, 1), without gradient: DINO's stays at 1.

    Returns:
        (..., K) of the directions' type. Inside autocast the large product is in autocast's type, the division is not.

    Source: Salimans and Kingma, arXiv 1602.07868, Eq. 2 (weight normalisation).
    """
    if torch.compiler.is_compiling():  # which fuses by itself what the class below does by hand
        return _product(points, directions) * _scale(directions, gain)
    rows = points.reshape(-1, points.shape[-1])  # (..., D) -> (N, D)
    logits: Tensor = _PrototypeLogits.apply(rows, directions, gain)
    return logits.reshape(*points.shape[:-1], -1)  # (N, K) -> (..., K)


def _scale(directions: Tensor, gain: Tensor) -> Tensor:
    return gain.squeeze(1) / torch.linalg.vector_norm(directions, dim=1)  # (K,)


def _product(points: Tensor, directions: Tensor) -> Tensor:
    """(N, D) and (K, D) -> (N, K), by the type that autocast asks for, if it does."""
    return F.linear(points, directions).to(directions.dtype)


class _PrototypeLogits(torch.autograd.Function):
    """Keeps nothing for the backward pass but its inputs and (K,) numbers."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, directions: Tensor, gain: Tensor) -> Tensor:
        scale = _scale(directions, gain)
        ctx.save_for_backward(points, directions, scale)
        device = points.device.type
        ctx.low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else directions.dtype
        return _product(points, directions) * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        points, directions, scale = ctx.saved_tensors
        scaled = gradient * scale  # (N, K)
        of_points = of_directions = None
        if ctx.needs_input_grad[0]:
            of_points = (scaled.to(ctx.low) @ directions.to(ctx.low)).to(points.dtype)
        if ctx.needs_input_grad[1]:
            of_directions = scaled.T @ points.to(scaled.dtype)  # (K, D)
            # A logit does not depend on the length of its direction: what points along it is taken out again.
            along = torch.bmm(of_directions.unsqueeze(1), directions.unsqueeze(2)).squeeze(2)  # (K, 1)
            along /= torch.linalg.vector_norm(directions, dim=1, keepdim=True).square()
            of_directions.addcmul_(directions, along, value=-1)
        return of_points, of_directions, None


class DINOHead(nn.Module):
    """A GELU MLP, an L2-normalised bottleneck, and a weight-normalised linear layer without bias or trained gain.

    With the gain at 1 a logit is the cosine between the bottleneck and a prototype, in [-1, 1]: the temperatures then
    mean the same thing for every K and every encoder. `last_layer.weight` is the normalised weight (K x bottleneck);
    the forward pass does without it.

    Args:
        in_dim: D, the size of the embedding.
        num_prototypes: K, the number of outputs.
        hidden_dim: size of the hidden layers.
        bottleneck_dim: size of the normalised bottleneck.
        num_layers: linear layers of the MLP, the one to the bottleneck included; at least 1.
        batch_norm: BatchNorm before each GELU. Not in the paper's speech configuration; at batches of tens of
            utterances learning is much faster with it [ours].

    Raises:
        InputError: a size below 1.

    Example:
        >>> import torch
        >>> head = DINOHead(192, num_prototypes=1024, hidden_dim=256, bottleneck_dim=64)
        >>> head(torch.randn(6, 192)).shape
        torch.Size([6, 1024])

    Source: arXiv 2104.14294, Sec. 3.1 and Appendix C; K = 65,536, hidden 2048, bottleneck 256 also in the
        configuration of arXiv 2208.05445. The new parametrization of weight_norm serves because the old one
        cannot be deep-copied. Prototypes too begin as truncated normal, so that their directions are uniform.
    """

    @bounded_memory()
    def __init__(
        self,
        in_dim: int,
        *,
        num_prototypes: int = 65_536,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        num_layers: int = 3,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.in_dim, self.num_prototypes, self.num_layers = in_dim, num_prototypes, num_layers
        self.hidden_dim, self.bottleneck_dim, self.batch_norm = hidden_dim, bottleneck_dim, batch_norm
        for name in ("in_dim", "num_prototypes", "hidden_dim", "bottleneck_dim", "num_layers"):
            if getattr(self, name) < 1:
                raise InputError(f"DINOHead: {name} = {getattr(self, name)}; expected at least 1")
        self.mlp = _mlp([in_dim, *[hidden_dim] * (num_layers - 1), bottleneck_dim], batch_norm=batch_norm)
        self.last_layer = nn.Linear(bottleneck_dim, num_prototypes, bias=False)
        self.apply(_initialize)
        weight_norm(self.last_layer)
        gain = self.get_parameter("last_layer.parametrizations.weight.original0")
        gain.requires_grad_(False).fill_(1.0)

    def bottleneck(self, embedding: Tensor) -> Tensor:
        """(N, D) -> (N, bottleneck) of unit length, at least float32 also inside autocast."""
        hidden = self.mlp(embedding)
        # In float16 the epsilon of normalize rounds to zero, and a zero vector would become NaN.
        return F.normalize(hidden if hidden.itemsize >= 4 else hidden.float(), dim=-1)

    def logits(self, points: Tensor) -> Tensor:
        """(N, bottleneck) of unit length -> (N, K)."""
        weight = self.last_layer.parametrizations.weight  # type: ignore[union-attr]
        return prototype_logits(points, weight.original1, weight.original0)  # type: ignore

    def forward(self, embedding: Tensor) -> Tensor:
        """(N, D) -> logits (N, K)."""
        return self.logits(self.bottleneck(embedding))


def _mlp(sizes: list[int], *, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size_in, size_out in pairwise(sizes[:-1]):
        layers += [nn.Linear(size_in, size_out), *([nn.BatchNorm1d(size_out)] if batch_norm else []), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


Depth = Literal["embedding", "points", "logits"]  # how far a network is asked


class Outputs(NamedTuple):
    """What a network says of its views, as far as it was asked."""

    embedding: Tensor  # (V*B, D)
    points: Tensor | None = None  # (V*B, bottleneck) of unit length
    logits: Tensor | None = None  # (V*B, K)


class Network(nn.Module):
    """An encoder with its head, over views of several lengths."""

    def __init__(self, encoder: SpeechEncoder, head: DINOHead) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, views: Sequence[Tensor], *, depth: Depth = "logits") -> Outputs:
        """Frames (V*B, T, F), one entry per length of view -> what is said of all of them, in that order."""
        embedding = torch.cat([self.encoder.embed_frames(frames, None) for frames in views])
        if depth == "embedding":
            return Outputs(embedding)
        points = self.head.bottleneck(embedding)
        return Outputs(embedding, points, self.head.logits(points) if depth == "logits" else None)
