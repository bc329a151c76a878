"""Figures that tell a learning DINO from a collapsed one; what they mean is decided in `diagnostics.py`.

All are plain numbers, so each makes a GPU wait: compute them every few dozen steps, not in each.

Letters: `N` rows (long views of utterances), `D` embedding, `K` prototypes; ln K is the entropy of the uniform target.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dino_speech.dino.teacher import shared_parameters


def teacher_entropy(targets: Tensor) -> float:
    """Mean entropy of the targets (..., K) as a fraction of ln K: 1 uniform, 0 one-hot."""
    return (_entropy(targets).mean() / math.log(targets.shape[-1])).item()


def batch_mean_entropy(targets: Tensor) -> float:
    """Entropy of the mean of the targets (..., K) as a fraction of ln K: 0 where all choose one prototype.

    N one-hot targets reach at most ln N / ln K.
    """
    mean = targets.flatten(0, -2).mean(0, dtype=torch.float32)
    return (_entropy(mean) / math.log(targets.shape[-1])).item()


def student_teacher_kl(loss: float, targets: Tensor) -> float:
    """Mean KL divergence from the teacher's targets (L, B, K) to the student's other views, in nats.

    Args:
        loss: what `DINOLoss` gave for these targets; no other terms.
    """
    return loss - _entropy(targets).mean().item()


def embedding_spread(embeddings: Tensor) -> float:
    """Standard deviation of L2-normalised embeddings (..., D), mean over dimensions, x sqrt(D): 1 isotropic, 0 a point.

    Source: arXiv 2011.10566, Sec. 4.1 (there without the factor).
    """
    points = F.normalize(embeddings.detach().flatten(0, -2).float(), dim=-1)
    return (points.std(0, correction=0).mean() * math.sqrt(points.shape[-1])).item()


def rank_me(embeddings: Tensor) -> float:
    """Effective rank of embeddings (..., D): exp of the entropy of their normalised singular values, 1 to min(N, D).

    NaN where an embedding is not finite.

    Source: RankMe, arXiv 2210.02885, Eq. 1 (not centered, as there).
    """
    rows = embeddings.detach().flatten(0, -2).float()
    if not torch.isfinite(rows).all():
        return math.nan
    singular = torch.linalg.svdvals(rows)
    return _entropy(singular / singular.sum().clamp_min(torch.finfo(singular.dtype).tiny)).exp().item()


@torch.no_grad()
def teacher_gap(teacher: nn.Module, student: nn.Module) -> float:
    """Distance of all parameters of teacher and student, relative to the student's norm; 0 where they are equal."""
    pairs = zip(teacher.parameters(), student.parameters(), strict=True)
    own = list(student.parameters())
    distances = torch._foreach_norm([a.float() - b.float() for a, b in pairs])
    norms = torch._foreach_norm([parameter.float() for parameter in own])
    return (torch.stack(distances).norm() / torch.stack(norms).norm()).item()


def measure(
    *,
    loss: float,
    targets: Tensor,
    embeddings: Tensor,
    center: Tensor | None = None,
    teacher: nn.Module | None = None,
    student: nn.Module | None = None,
) -> dict[str, float]:
    """All figures of a step, plain numbers for the log.

    Args:
        loss: the DINO loss alone.
        targets: (L, B, K) the teacher's.
        embeddings: (..., D) the teacher's, of the same views.
        center: (K,) if the targets were centered.
        teacher: with `student`, for the gap between them.
        student: the module that the teacher copies.

    Returns:
        `loss`, `loss_fraction` (of ln K), `teacher_entropy`, `batch_mean_entropy`, `prototypes_used` (effective number
        within the batch), `prototype_use` (its logarithm, as a fraction of ln min(N, K); above 1 for soft targets),
        `target_information` (mutual information of utterance and prototype, same fraction), `student_teacher_kl`
        (nats), `embedding_spread`, `rank_me`, `max_rank`; and if asked for `center_norm`, `teacher_gap`, `num_shared`
        (parameters in the same memory).
    """
    num_rows, num_prototypes = targets.shape[:-1].numel(), targets.shape[-1]
    ln_k = math.log(num_prototypes)
    most = math.log(max(2, min(num_rows, num_prototypes)))  # the most nats that N rows can tell through K prototypes
    own, mean = teacher_entropy(targets), batch_mean_entropy(targets)
    figures = {
        "loss": loss,
        "loss_fraction": loss / ln_k,
        "teacher_entropy": own,
        "batch_mean_entropy": mean,
        "prototypes_used": math.exp(mean * ln_k),
        "prototype_use": mean * ln_k / most,
        "target_information": (mean - own) * ln_k / most,
        "student_teacher_kl": student_teacher_kl(loss, targets),
        "embedding_spread": embedding_spread(embeddings),
        "rank_me": rank_me(embeddings),
        "max_rank": float(min(embeddings.shape[:-1].numel(), embeddings.shape[-1])),
    }
    if center is not None:
        figures["center_norm"] = center.norm().item()
    if teacher is not None and student is not None:
        figures["teacher_gap"] = teacher_gap(teacher, student)
        figures["num_shared"] = float(len(shared_parameters(teacher, student)))
    return figures


def _entropy(probabilities: Tensor) -> Tensor:
    """(..., K) -> (...) in nats; 0 log 0 is 0."""
    return torch.special.entr(probabilities.detach().float()).sum(-1)
