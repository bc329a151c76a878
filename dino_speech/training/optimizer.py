"""The optimizer: two parameter groups, one norm to clip over both, and the values that a schedule sets each step."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dino_speech.errors import InputError

OPTIMIZERS = ("adamw", "adam", "sgd")


def param_groups(module: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: weights, and (without decay) biases and all else with one dimension, such as BatchNorm's scale.

    Source: arXiv 2104.14294, official code (`get_params_groups`).
    """
    return split_by_decay(module.parameters(), weight_decay=weight_decay)


def split_by_decay(parameters: Iterable[nn.Parameter], *, weight_decay: float) -> list[dict[str, Any]]:
    """The same two groups, of any parameters; those without gradient are left out."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def build_optimizer(name: str, module: nn.Module, *, lr: float, weight_decay: float, **options: Any) -> Optimizer:
    """AdamW, Adam (weight decay as an l2 penalty) or SGD with momentum over the trained parameters of `module`."""
    return optimizer_of(name, param_groups(module, weight_decay=weight_decay), lr=lr, **options)


def optimizer_of(
    name: str,
    groups: list[dict[str, Any]],
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    momentum: float = 0.9,
) -> Optimizer:
    """The same over given parameter groups, which may state their own `lr`."""
    # Fused: one pass over the parameters instead of a dozen, on a CPU too.
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True)
    if name == "adam":
        return torch.optim.Adam(groups, lr=lr, betas=betas, fused=True)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, fused=True)
    raise InputError(f"optimizer = {name!r}: expected one of {', '.join(OPTIMIZERS)}")


def set_step_values(optimizer: Optimizer, *, lr: float, weight_decay: float) -> None:
    """Set what the schedules say for this step; the group without weight decay stays without."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.param_groups[0]["weight_decay"] = weight_decay


def clip_gradients(optimizer: Optimizer, clip_norm: float | None) -> Tensor:
    """Scale the gradients of all groups together down to a global norm; returns the norm before, as a 0-d tensor."""
    limit = float("inf") if clip_norm is None else clip_norm
    return nn.utils.clip_grad_norm_(parameters_of(optimizer), limit)


def parameters_of(optimizer: Optimizer) -> list[nn.Parameter]:
    """The parameters of all groups."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
