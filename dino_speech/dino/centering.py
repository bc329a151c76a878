"""From the teacher's logits to targets, so that utterances do not all fall onto one prototype; KoLeo for embeddings.

`Center` with `softmax_targets` subtracts a running mean from the logits; `sinkhorn_targets` spreads each batch evenly
over the prototypes and needs no state. Letters: `N` rows (views of utterances), `K` prototypes, `V` views, `B`
utterances, `D` embedding.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dino_speech.distributed import begin_mean_across_ranks
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
        logits = _full_precision(teacher_logits)
        return torch.softmax((logits if center is None else logits - center) / temperature, dim=-1)


@torch.no_grad()
def sinkhorn_targets(teacher_logits: Tensor, temperature: float, num_iterations: int = 3) -> Tensor:
    """Targets that use all prototypes equally often within the batch (Sinkhorn-Knopp), at least float32.

    All views and utterances given are spread together, so give all long views at once. The batch is that of one
    process and one micro-batch, as for BatchNorm: more ranks do not enlarge it.

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
        log_targets = _full_precision(teacher_logits).flatten(0, -2) / temperature
        for _ in range(num_iterations):
            log_targets -= log_targets.logsumexp(dim=0)  # each prototype takes the same share of the batch
            log_targets -= log_targets.logsumexp(dim=1, keepdim=True)  # each row sums to 1
        return log_targets.exp_().view(teacher_logits.shape)


def koleo(embeddings: Tensor, *, epsilon: float = 1e-4) -> Tensor:
    """KoLeo: pushes each embedding away from its nearest neighbour, so that the batch fills the sphere.

    Mean of -log of the distance between L2-normalised embeddings and their nearest neighbours in the same view; another
    view of the same utterance is no neighbour. At least float32 also inside autocast.

    Args:
        embeddings: (B, D), or (V, B, D) for several views, each apart from the others; at least two utterances.
        epsilon: smoothes the logarithm: -0.5 log(distance^2 + epsilon^2).

    Source: arXiv 1806.03198, Eq. 2; in DINOv2 arXiv 2304.07193, Sec. 4, with weight 0.1. Departure: `epsilon` inside
        a square, so that two equal embeddings (the same file twice in a batch) have no gradient rather than one of
        1e8, which clipping would turn into a step for those two alone.
    """
    if embeddings.ndim == 2:
        embeddings = embeddings[None]
    if embeddings.ndim != 3 or embeddings.shape[1] < 2:
        raise ValueError(f"koleo: expected (B, D) or (V, B, D) with at least 2 utterances, got {embeddings.shape}")
    with torch.autocast(embeddings.device.type, enabled=False):
        points = F.normalize(_full_precision(embeddings), dim=-1)
        with torch.no_grad():
            cosines = points @ points.mT  # (V, B, B)
            nearest = cosines.diagonal_scatter(torch.full_like(cosines[:, 0], -2.0), dim1=1, dim2=2).argmax(dim=-1)
        neighbours = points.gather(1, nearest[..., None].expand_as(points))
        squared = (points - neighbours).square().sum(-1)
        return -0.5 * torch.log(squared + epsilon**2).mean()


def _full_precision(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
