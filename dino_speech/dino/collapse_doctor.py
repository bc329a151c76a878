"""The collapse doctor: names what is wrong with a run, its likely cause, and the knob to turn.

A plateau of the loss says little: at ln K it may be a slow start or a uniform teacher, near 0 success or a one-hot
teacher. The figures here tell them apart. All are plain numbers, so each makes a GPU wait: compute them every few dozen
steps. Letters: `N` rows (long views), `D` embedding, `K` prototypes; ln K is the entropy of the uniform target.
"""

import logging
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dino_speech.dino.teacher import shared_parameters
from dino_speech.errors import InputError


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
    """Mean KL divergence from the teacher's targets (L, B, K) to the student's other views, in nats, by `DINOLoss`."""
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
    distances = torch._foreach_norm([a.float() - b.float() for a, b in pairs])
    norms = torch._foreach_norm([parameter.float() for parameter in student.parameters()])
    return (torch.stack(distances).norm() / torch.stack(norms).norm()).item()


def measure(
    *,
    loss: float,
    targets: Tensor | None,
    embeddings: Tensor,
    points: Tensor | None = None,
    center: Tensor | None = None,
    teacher: nn.Module | None = None,
    student: nn.Module | None = None,
) -> dict[str, float]:
    """All figures of a step, plain numbers for the log.

    `loss` is the DINO loss alone; `targets` (L, B, K) and `embeddings` (..., D) are the teacher's, of the same views;
    without `targets` the embeddings are the student's. `points` (..., P) are the head's, where the loss compares these.
    `center` (K,) is given if the targets were centered, `teacher`
    and `student` for the gap between them.

    Returns:
        `loss`, `loss_fraction` (of ln K), `teacher_entropy`, `batch_mean_entropy`, `prototypes_used` (effective number
        within the batch), `prototype_use` (its logarithm, as a fraction of ln min(N, K); above 1 for soft targets),
        `target_information` (mutual information of utterance and prototype, same fraction), `student_teacher_kl`
        (nats), `embedding_spread`, `rank_me`, `max_rank`; and if asked for `points_spread`, `center_norm`,
        `teacher_gap`, `num_shared` (parameters in the same memory).
    """
    figures = {
        "loss": loss,
        **({} if targets is None else _measure_targets(loss, targets)),
        "embedding_spread": embedding_spread(embeddings),
        "rank_me": rank_me(embeddings),
        "max_rank": float(min(embeddings.shape[:-1].numel(), embeddings.shape[-1])),
    }
    if points is not None:
        figures["points_spread"] = embedding_spread(points)
    if center is not None:
        figures["center_norm"] = center.norm().item()
    if teacher is not None and student is not None:
        figures["teacher_gap"] = teacher_gap(teacher, student)
        figures["num_shared"] = float(len(shared_parameters(teacher, student)))
    return figures


def _measure_targets(loss: float, targets: Tensor) -> dict[str, float]:
    num_rows, num_prototypes = targets.shape[:-1].numel(), targets.shape[-1]
    ln_k = math.log(num_prototypes)
    most = math.log(max(2, min(num_rows, num_prototypes)))  # the most nats that N rows can tell through K prototypes
    own, mean = teacher_entropy(targets), batch_mean_entropy(targets)
    return {
        "loss_fraction": loss / ln_k,
        "teacher_entropy": own,
        "batch_mean_entropy": mean,
        "prototypes_used": math.exp(mean * ln_k),
        "prototype_use": mean * ln_k / most,
        "target_information": (mean - own) * ln_k / most,
        "student_teacher_kl": student_teacher_kl(loss, targets),
    }


def _entropy(probabilities: Tensor) -> Tensor:
    """(..., K) -> (...) in nats; 0 log 0 is 0."""
    return torch.special.entr(probabilities.detach().float()).sum(-1)


logger = logging.getLogger(__name__)

# Thresholds [ours]: far from what healthy small runs show, near what the collapses provoked in the tests show.
MIN_INFORMATION = 0.02  # of ln min(N, K): below it a target says nothing about its utterance
MIN_PROTOTYPE_USE = 0.2  # of ln min(N, K): 2.3 of 64
UNIFORM_ENTROPY = 0.95  # of ln K
MIN_SPREAD = 0.1  # 1 is isotropic
MIN_RANK, MIN_RANK_FRACTION = 2.0, 0.03  # effective dimensions; as a fraction of min(N, D)


class TrainingCollapsed(InputError):  # noqa: N818  (a stop that was asked for)
    """The collapse doctor found a collapse and was asked to stop there."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A named trouble: what is seen, what causes it as a rule, and what to change."""

    name: str
    seen: str
    cause: str
    knob: str

    def __str__(self) -> str:
        return f"{self.name}: {self.seen}. Likely cause: {self.cause}. Try: {self.knob}"


def diagnose(window: Sequence[Mapping[str, float]]) -> list[Finding]:
    """What is wrong in all of these successive figures (see `measure`); empty where nothing is.

    Targets are worthless where they say nothing about their utterance or nearly all choose one prototype; their entropy
    then tells which face it is. Only where they are worth something is the rank of the embeddings looked at.
    """
    if not window:
        return []
    last, found = window[-1], []
    if last.get("num_shared", 0) > 0 or all(figures.get("teacher_gap") == 0 for figures in window):
        found.append(_teacher_is_student(last))
    if all(_worthless_targets(figures) for figures in window):
        found.append(_which_face(last))
    elif all(figures.get("points_spread", 1.0) < MIN_SPREAD for figures in window):
        found.append(
            Finding(
                "identical points",
                f"the head gives all utterances nearly one point (spread {last['points_spread']:.2f})",
                "loss: cosine is at its best there, and nothing keeps the points apart",
                "coding_rate_weight (1), lower lr, longer warmup",
            )
        )
    elif all(_few_dimensions(figures) for figures in window):
        found.append(
            Finding(
                "dimensional collapse",
                f"effective rank {last['rank_me']:.1f} of {last['max_rank']:.0f}, "
                f"spread {last['embedding_spread']:.2f}",
                "few prototypes or strong weight decay and augmentation leave the embedding few directions to keep",
                "koleo_weight (0.1), more num_prototypes, lower weight_decay, milder augmentation, a larger batch",
            )
        )
    return found


def _teacher_is_student(figures: Mapping[str, float]) -> Finding:
    shared = int(figures.get("num_shared", 0))
    return Finding(
        "teacher is the student",
        f"{shared} parameters lie in the same memory" if shared else "all parameters are equal after optimizer steps",
        "the teacher is no copy"
        if shared
        else "teacher.momentum is 0, or nothing moves the student (lr 0, all frozen)",
        "build Teacher(student), which copies" if shared else "teacher.momentum (0.99 to 0.9995), lr",
    )


def _which_face(figures: Mapping[str, float]) -> Finding:
    entropy = figures["teacher_entropy"]
    seen = f"loss {figures['loss']:.3f} = {figures['loss_fraction']:.2f} ln K, teacher entropy {entropy:.2f} ln K"
    if entropy > UNIFORM_ENTROPY:
        return Finding(
            "uniform teacher",
            f"{seen}: every target is uniform",
            "the teacher is not sharpened, or too large a step threw all embeddings together",
            "lower teacher_temperature (0.04; it must be below student_temperature), lower lr, longer warmup",
        )
    if figures["prototype_use"] < MIN_PROTOTYPE_USE:
        return Finding(
            "one-hot teacher",
            f"{seen}: nearly all choose one prototype ({figures['prototypes_used']:.1f} in use in the batch)",
            "the center does not follow the teacher's mean, or the teacher is sharpened too much",
            "center_momentum (0.9), centering: sinkhorn, higher teacher_temperature, lower lr",
        )
    return Finding(
        "identical targets",
        f"{seen}: all utterances get the same target, neither uniform nor one-hot",
        "too large a learning rate, so that the center runs behind the teacher",
        "lower lr, longer warmup, lower center_momentum, centering: sinkhorn",
    )


def _worthless_targets(figures: Mapping[str, float]) -> bool:
    if "target_information" not in figures:  # an objective without targets
        return False
    return figures["target_information"] < MIN_INFORMATION or figures["prototype_use"] < MIN_PROTOTYPE_USE


def _few_dimensions(figures: Mapping[str, float]) -> bool:
    min_rank = max(MIN_RANK, MIN_RANK_FRACTION * figures["max_rank"])
    return figures["rank_me"] < min_rank or figures["embedding_spread"] < MIN_SPREAD


class CollapseDoctor:
    """Keeps a short window of figures and names a collapse that lasts through all of it.

    Args:
        patience: measurements in a row that must show the same.
        grace_steps: first steps in which nothing is reported; an untrained encoder gives all files nearly the same
            embedding, so give it at least the warm-up.

    `figures` and `findings` are those of the last measurement.
    """

    def __init__(self, *, patience: int = 3, grace_steps: int = 0) -> None:
        if patience < 1:
            raise InputError(f"CollapseDoctor: patience = {patience}; expected at least 1")
        self.grace_steps = grace_steps
        self.figures: dict[str, float] = {}
        self.findings: list[Finding] = []
        self._window: deque[dict[str, float]] = deque(maxlen=patience)

    def examine(
        self, step: int, *, loss: Tensor | float, targets: Tensor | None, embeddings: Tensor, **further: Any
    ) -> list[Finding]:
        """Measure (`further` is what else `measure` takes), and log what is newly found, and what is gone."""
        self.figures = measure(loss=float(loss), targets=targets, embeddings=embeddings, **further)
        if step <= self.grace_steps:
            return []
        self._window.append(self.figures)
        known = {finding.name for finding in self.findings}
        self.findings = diagnose(self._window) if len(self._window) == self._window.maxlen else []
        for finding in self.findings:
            if finding.name not in known:
                logger.warning("step %d: %s", step, finding)
        for name in known - {finding.name for finding in self.findings}:
            logger.info("step %d: no longer found: %s", step, name)
        return self.findings
