"""Logits against weight-normalised prototypes, without the normalised weights ever being written to memory.

The lengths of K prototypes are K numbers; the normalised weights are K x D, 64 MB at the paper's sizes, written and
read again in each pass of student and teacher and kept for the backward pass. Dividing the logits instead gives the
same numbers (to float32's last digits) at 0.6 of the time for the last layer, forward and backward.

Letters: `N` rows, `D` bottleneck, `K` prototypes.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


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
