"""Activation checkpointing: a part keeps its inputs only, and computes the rest again when gradients are asked for.

Dropout draws the same again, and BatchNorm's statistics move once: loss, gradients and statistics are those without.
"""

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

Result = TypeVar("Result")


def recompute_activations(encoder: Any, on: bool = True) -> None:
    """Whether a `SpeechEncoder` recomputes in training: less memory, a third more work, the same numbers."""
    in_parts = hasattr(encoder.backbone, "recompute")
    if in_parts:
        encoder.backbone.recompute = on
    encoder.recompute = on and not in_parts


def run_part(owner: Any, part: Callable[..., Result], *inputs: Any) -> Result:
    """`part(*inputs)`; if `owner.recompute` is set and gradients are wanted, of its activations only the inputs stay.

    `owner` is a module with all BatchNorm layers that the part runs; the same inputs must give the same result.
    """
    if not (owner.recompute and torch.is_grad_enabled()):
        return part(*inputs)
    contexts = (contextlib.nullcontext(), _StatisticsStandStill(owner))
    result: Result = checkpoint(part, *inputs, use_reentrant=False, context_fn=lambda: contexts)
    return result


class _StatisticsStandStill:
    """Within, BatchNorm normalises by its batch as ever, and leaves its running statistics alone."""

    def __init__(self, owner: nn.Module) -> None:
        self._owner = owner
        self._before: list[tuple[_BatchNorm, float | None, torch.Tensor | None]] = []

    def __enter__(self) -> None:
        norms = [module for module in self._owner.modules() if isinstance(module, _BatchNorm)]
        self._before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
        for norm in norms:
            # Without statistics at all it would keep other tensors for the backward pass, which checkpoint refuses. The
            # counter is a copy and not None, on which SyncBatchNorm insists.
            counter = norm.num_batches_tracked
            norm.momentum, norm.num_batches_tracked = 0.0, None if counter is None else counter.clone()

    def __exit__(self, *error: object) -> None:
        for norm, momentum, num_batches_tracked in self._before:
            norm.momentum, norm.num_batches_tracked = momentum, num_batches_tracked
        self._before = []
