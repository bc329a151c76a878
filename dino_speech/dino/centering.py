"""From the teacher's logits to targets, so that utterances do not all fall onto one prototype.

`Center` with `softmax_targets` subtracts a running mean from the logits; `sinkhorn_targets` spreads each batch evenly
over the prototypes and needs no state. Letters: `N` rows (views of utterances), `K` prototypes.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dino_speech.distributed import all_parts, begin_mean_across_ranks
from dino_speech.errors import InputError


class Center(nn.Module):
    """Running mean of the teacher's logits, moved once per optimizer step whatever the number of micro-batches.

    Args:
        num_prototypes: K.
        momentum: share of the old center that is kept at each step, 0 to 1. (arXiv 2104.14294, Sec. 3.1: 0.9)

    Attributes:
        value: (K,) float32, the center; zero at first.

    Raises:
        InputError: a momentum outside 0 to 1.

    Source: arXiv 2104.14294, Eq. 4. There the center moves in every forward pass of the loss; here `accumulate` only
        adds up, so that N micro-batches give what one batch of their size gives.
    """

    value: Tensor
    _total: Tensor

    def __init__(self, num_prototypes: int, *, momentum: float = 0.9) -> None:
        super().__init__()
        if not 0 <= momentum <= 1:
            raise InputError(f"Center: momentum = {momentum}; expected 0 to 1")
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(num_prototypes))
        # The sum over rows, and behind it their number: one all-reduce serves both. Zero between steps, so not saved.
        self.register_buffer("_total", torch.zeros(num_prototypes + 1), persistent=False)
        self._num_rows = 0
        self._mean: Callable[[], Tensor] | None = None  # an average over ranks that is under way

    @torch.no_grad()
    def accumulate(self, teacher_logits: Tensor) -> None:
        """Add the teacher's logits (..., K) of a micro-batch, as they are before centering; `value` stays."""
        if self._mean is not None:
            raise RuntimeError("Center.accumulate: after begin_step, and before step")
        rows = teacher_logits.detach().flatten(0, -2)
        self._total[:-1] += rows.sum(0, dtype=self._total.dtype)
        self._num_rows += rows.shape[0]

    @torch.no_grad()
    def begin_step(self) -> None:
        """Start averaging over the ranks what was added, once all of a step is: it travels while others compute."""
        if self._num_rows == 0:
            raise RuntimeError("Center.step: no teacher logits since the last step; call accumulate per micro-batch")
        self._total[-1] = self._num_rows
        self._mean = begin_mean_across_ranks(self._total)

    @torch.no_grad()
    def step(self) -> None:
        """Move the center towards the mean of all rows added since the last step, on all ranks together."""
        if self._mean is None:
            self.begin_step()
        assert self._mean is not None
        total, self._mean = self._mean(), None
        # Ranks with unequal batches: the mean of sums over the mean of counts is the mean over all rows.
        self.value.lerp_(total[:-1] / total[-1], 1 - self.momentum)
        self.discard()

    def discard(self) -> None:
        """Forget what was added, after an optimizer step that was skipped."""
        if self._mean is not None:
            self._mean()
        self._mean = None
        self._total.zero_()
        self._num_rows = 0


@torch.no_grad()
def softmax_targets(teacher_logits: Tensor, center: Tensor | None, temperature: float) -> Tensor:
    """Centered, sharpened targets (..., K): softmax((logits - center) / temperature); no gradient, at least float32."""
    with torch.autocast(teacher_logits.device.type, enabled=False):
        logits = full_precision(teacher_logits)
        return torch.softmax((logits if center is None else logits - center) / temperature, dim=-1)


@torch.no_grad()
def sinkhorn_targets(teacher_logits: Tensor, temperature: float, num_iterations: int = 3) -> Tensor:
    """Targets that use all prototypes equally often within the batch (Sinkhorn-Knopp), at least float32.

    All views and utterances given are spread together, so give all long views at once. The batch is that of all
    processes, and of one micro-batch.

    Args:
        teacher_logits: (..., K); the leading dimensions are the N rows.
        temperature: above 0; lower is sharper.
        num_iterations: at least 1; more gives prototypes more equal shares.

    Returns:
        (..., K) without gradient; rows sum to 1, columns to nearly N / K.

    Raises:
        InputError: `num_iterations` below 1.

    Source: arXiv 2006.09882, Sec. 3.1 (SwAV); in place of the center in arXiv 2304.07193, Sec. 4. Here on
        logarithms, so that no temperature under- or overflows.
    """
    if num_iterations < 1:
        raise InputError(f"sinkhorn_targets: num_iterations = {num_iterations}; expected at least 1")
    with torch.autocast(teacher_logits.device.type, enabled=False):
        log_targets = full_precision(teacher_logits).flatten(0, -2) / temperature
        for _ in range(num_iterations):
            # Each prototype takes the same share of the batch.
            log_targets -= all_parts(log_targets.logsumexp(dim=0)).logsumexp(dim=0)
            log_targets -= log_targets.logsumexp(dim=1, keepdim=True)  # each row sums to 1
        return log_targets.exp_().view(teacher_logits.shape)


def full_precision(logits: Tensor) -> Tensor:
    """Half precision becomes float32; float64 stays."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
