"""A loss that is not finite stops the run before the optimizer spoils the weights, without making a GPU wait."""

import torch
from torch import Tensor

from dino_speech.errors import InputError


class NonFiniteLoss(InputError):  # noqa: N818  (the log names it)
    """The loss is NaN or infinite; raised before the optimizer's step, so that the weights are still sound."""


class FiniteGuard:
    """Notes whether losses are finite, and answers later.

    On a GPU the answer is copied as soon as the forward pass is done, while the backward pass is still running: asking
    for it before the optimizer's step then costs no waiting, as `loss.item()` would.
    """

    def __init__(self, device: torch.device) -> None:
        self._finite: Tensor | None = None
        self._answer = torch.ones((), dtype=torch.bool, pin_memory=device.type == "cuda")
        self._copied = torch.cuda.Event() if device.type == "cuda" else None

    def watch(self, loss: Tensor) -> None:
        """Take note of the loss of a micro-batch."""
        finite = torch.isfinite(loss.detach())
        self._finite = finite if self._finite is None else self._finite & finite
        self._answer.copy_(self._finite, non_blocking=True)
        if self._copied is not None:
            self._copied.record()

    def all_finite(self) -> bool:
        """Whether all losses since the last call were finite."""
        if self._copied is not None:
            self._copied.synchronize()
        self._finite = None
        return bool(self._answer)
