"""The teacher: a slow copy of the student, moved once per optimizer step, never trained.

What becomes of BatchNorm in it is a policy with a name:

- "train": its BatchNorm layers use the statistics of their own batch, and their running statistics follow the teacher's
  own batches (long views only), as in all public DINO code. These running statistics serve when the teacher is put
  into eval mode to embed files.
- "ema": its BatchNorm layers always use running statistics, which are averages of the student's. A target then does
  not depend on what else is in the batch; but the student's statistics mix long and short views and, early in
  training, lag behind the weights.

Everything else in the teacher, dropout for example, is in eval mode under both.
"""

import copy
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dino_speech.argument_checks import AutoShare, Share
from dino_speech.errors import InputError
from dino_speech.training.settings import Settings

BatchNormPolicy = Literal["train", "ema"]


@dataclass
class TeacherSettings(Settings):
    """How the teacher follows the student."""

    momentum: AutoShare = (
        0.996  # or auto; of the old teacher in its moving average, at the first step: arXiv 2208.05445
    )
    momentum_end: Share = 1.0  # at the last step, a cosine in between: arXiv 2208.05445
    batchnorm: BatchNormPolicy = "train"  # arXiv 2104.14294, official code
    shared_prototypes: bool = False  # the last layer of its head is the student's own; True: SDPN, arXiv 2308.02774


class Teacher(nn.Module):
    """An exponential moving average of the student.

    Args:
        student: the module to copy; a DistributedDataParallel or compiled module is looked into.
        batchnorm: "train" or "ema", see the module's docstring.

    Attributes:
        module: the copy, without gradients.

    Raises:
        InputError: an unknown policy, or a student whose copy shares memory with it.

    Source: arXiv 2104.14294, Sec. 3.1 (momentum encoder).
    """

    def __init__(self, student: nn.Module, *, batchnorm: BatchNormPolicy = "train") -> None:
        super().__init__()
        if batchnorm not in get_args(BatchNormPolicy):
            raise InputError(f"Teacher: batchnorm = {batchnorm!r}; expected 'train' or 'ema'")
        self.batchnorm = batchnorm
        self.module = copy.deepcopy(_unwrapped(student)).requires_grad_(False)
        self._refuse_shared(student)
        self.train()

    def train(self, mode: bool = True) -> "Teacher":
        """With True the mode of the policy, with False eval mode throughout (to embed files)."""
        super().train(False)
        self.training = mode
        for module in self.module.modules() if mode and self.batchnorm == "train" else ():
            if isinstance(module, _BatchNorm):
                module.train()
        return self

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the copy returns, without gradients."""
        return self.module(*args, **kwargs)

    @torch.no_grad()
    def step(self, student: nn.Module, momentum: float) -> None:
        """Move towards the student, the copied module: teacher = momentum * teacher + (1 - momentum) * student.

        Raises:
            InputError: a momentum outside 0 to 1, or a student that shares memory with the teacher.
        """
        if not 0 <= momentum <= 1:
            raise InputError(f"Teacher: momentum = {momentum}; expected 0 to 1")
        student = _unwrapped(student)
        self._refuse_shared(student)
        buffers = self._buffers_to_follow(student)
        pairs = [*zip(self.module.parameters(), student.parameters(), strict=True), *buffers]
        averaged = [(own, other) for own, other in pairs if own.is_floating_point()]
        # One call for all tensors: on a GPU a few kernels instead of one per parameter.
        torch._foreach_lerp_([own for own, _ in averaged], [other for _, other in averaged], 1 - momentum)
        for own, other in pairs:
            if not own.is_floating_point():
                own.copy_(other)

    def _buffers_to_follow(self, student: nn.Module) -> list[tuple[Tensor, Tensor]]:
        """Pairs of buffers; with "train" the BatchNorm layers keep the statistics of their own batches."""
        pairs: list[tuple[Tensor, Tensor]] = []
        for mine, theirs in zip(self.module.modules(), student.modules(), strict=True):
            if self.batchnorm == "train" and isinstance(mine, _BatchNorm):
                continue
            pairs += zip(mine.buffers(recurse=False), theirs.buffers(recurse=False), strict=True)
        return pairs

    def _refuse_shared(self, student: nn.Module) -> None:
        names = shared_parameters(self.module, student)
        if names:
            raise InputError(
                f"the teacher is the student: they share the memory of {names[0]!r} ({len(names)} parameters in all), "
                "so the loss compares the student with itself and nothing can be learnt; "
                "give Teacher the student itself, whose __deepcopy__ must copy its parameters"
            )


def shared_parameters(teacher: nn.Module, student: nn.Module) -> list[str]:
    """Names of the teacher's parameters that lie in memory of the student's; empty in a sound set-up."""
    taken = {parameter.data_ptr() for parameter in _unwrapped(student).parameters()} - {0}
    return [name for name, parameter in teacher.named_parameters() if parameter.data_ptr() in taken]


def _unwrapped(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.parallel.DistributedDataParallel):
        module = module.module
    return getattr(module, "_orig_mod", module)  # torch.compile's wrapper keeps the module there
