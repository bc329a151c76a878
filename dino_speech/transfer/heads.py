"""Objectives of fine-tuning: heads from an embedding to classes (with an angular margin) or dimensions, and losses.

Letters: `B` utterances, `D` embedding, `C` classes (or dimensions), `J` sub-centers of a class. Heads compute in
float32.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dino_speech.errors import InputError
from dino_speech.models.bounded_memory import bounded_memory

MOMENTUM = 0.1  # of BatchNorm, torch's own
MARGIN_OBJECTIVES = ("aam_softmax", "subcenter_arcface")


class LinearHead(nn.Module):
    """Embeddings brought to one scale, and an affine map: for classes, or for dimensions.

    Embeddings differ in scale from encoder to encoder, and a learning rate that fits one would not fit another. So
    they pass a BatchNorm without affine part first, as in linear probes.

    Source: BatchNorm before the linear layer: arXiv 2111.06377, Sec. A.1.
    """

    def __init__(self, embedding_dim: int, num_outputs: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(embedding_dim, affine=False)
        self.dropout = nn.Dropout(dropout)
        self.affine = nn.Linear(embedding_dim, num_outputs)
        nn.init.normal_(self.affine.weight, std=0.01)
        nn.init.zeros_(self.affine.bias)

    def forward(self, embedding: Tensor, targets: Tensor | None = None) -> Tensor:
        """(B, D) -> (B, C). `targets` are not used: they are what a `MarginHead` takes."""
        if self.norm.training and self.norm.num_batches_tracked is not None:
            # The plain mean of the first batches: a small set may end before a moving average has forgotten its start.
            self.norm.momentum = max(MOMENTUM, 1 / (1 + int(self.norm.num_batches_tracked)))
        logits: Tensor = self.affine(self.dropout(self.norm(embedding.float())))
        return logits


class MarginHead(nn.Module):
    """Scaled cosines to class centers, with an additive angular margin on the true class while training.

    With one center per class this is AAM-softmax (ArcFace). With more, a class is as near as its nearest center, so
    that wrong labels gather at a center of their own: sub-center ArcFace, for pseudo-labels.

    Args:
        embedding_dim: `D`.
        num_classes: `C`.
        num_subcenters: `J`.
        margin: in radians, from 0 to below pi / 2; an attribute that a schedule may set at any step.
        scale: of the cosines.
        easy_margin: apply the margin only where the angle is below 90 degrees; otherwise beyond pi - margin, where it
            would turn back, a straight line goes on.

    Raises:
        InputError: a number is out of its range.

    Source: arXiv 1801.07698, Eq. 3; sub-centers: Deng et al., ECCV 2020, Sec. 3.3. Like SpeechBrain's
        `AdditiveAngularMargin` for one center.
    """

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        num_subcenters: int = 1,
        margin: float = 0.2,
        scale: float = 30.0,
        easy_margin: bool = False,
    ) -> None:
        super().__init__()
        if num_subcenters < 1 or not 0 <= margin < math.pi / 2 or not scale > 0:
            found = f"num_subcenters={num_subcenters}, margin={margin}, scale={scale}"
            raise InputError(f"{found}: expected at least 1, from 0 to below pi / 2, and a positive number")
        self.num_classes, self.num_subcenters = num_classes, num_subcenters
        self.margin, self.scale, self.easy_margin = margin, scale, easy_margin
        self.centers = nn.Parameter(torch.empty(num_classes * num_subcenters, embedding_dim))
        nn.init.xavier_uniform_(self.centers)

    def cosines(self, embedding: Tensor) -> Tensor:
        """(B, D) -> (B, C), to the nearest sub-center of each class."""
        cosine = F.linear(F.normalize(embedding.float()), F.normalize(self.centers.float()))  # (B, C*J)
        return cosine.unflatten(1, (self.num_classes, self.num_subcenters)).amax(2)

    def forward(self, embedding: Tensor, targets: Tensor | None = None) -> Tensor:
        """(B, D) -> logits (B, C); with the margin where the classes (B,) are given as `targets`."""
        cosine = self.cosines(embedding)
        if targets is None:
            return self.scale * cosine
        true = cosine.gather(1, targets[:, None])  # (B, 1)
        return self.scale * cosine.scatter(1, targets[:, None], self._with_margin(true))

    def _with_margin(self, cosine: Tensor) -> Tensor:
        # The sine's slope is infinite at 1: kept away from it, gradients stay finite.
        cosine = cosine.clamp(-1 + 1e-7, 1 - 1e-7)
        sine = (1 - cosine.square()).clamp(min=1e-12).sqrt()
        shifted = cosine * math.cos(self.margin) - sine * math.sin(self.margin)  # cos(angle + margin)
        if self.easy_margin:
            return torch.where(cosine > 0, shifted, cosine)
        return torch.where(cosine > -math.cos(self.margin), shifted, cosine - self.margin * math.sin(self.margin))


Head = LinearHead | MarginHead


def build_head(objective: str, embedding_dim: int, num_outputs: int, **options: Any) -> Head:
    """The head of an objective, with random weights; `options` are those of `head_to_dict`."""
    kind = MarginHead if objective in MARGIN_OBJECTIVES else LinearHead
    with bounded_memory():
        return kind(embedding_dim, num_outputs, **options)


def head_to_dict(head: Head) -> dict[str, Any]:
    """What `build_head` needs beside the objective and the sizes."""
    if isinstance(head, LinearHead):
        return {"dropout": head.dropout.p}
    return {name: getattr(head, name) for name in ("num_subcenters", "margin", "scale", "easy_margin")}


def ccc_loss(predicted: Tensor, true: Tensor) -> Tensor:
    """1 - mean concordance correlation coefficient over the dimensions (B, L), by the moments of the batch: 0-d.

    From 0 (equal) to 2; a dimension in which all B values are equal counts as no concordance, without NaN.

    Source: Lin, Biometrics 45 (1989), as `metrics.ccc`; as a loss for example arXiv 2203.07378.
    """
    predicted, true = predicted.float(), true.float()
    mean_predicted, mean_true = predicted.mean(0), true.mean(0)
    off_predicted, off_true = predicted - mean_predicted, true - mean_true
    covariance = (off_predicted * off_true).mean(0)
    spread = off_predicted.square().mean(0) + off_true.square().mean(0) + (mean_predicted - mean_true).square()
    tiny = torch.finfo(spread.dtype).tiny  # not NaN where predictions and truth are constant and equal
    return 1 - (2 * covariance / spread.clamp(min=tiny)).mean()


def balanced_weights(classes: Sequence[int], num_classes: int) -> Tensor:
    """Weights by which each class counts the same in sum, their mean over the utterances being 1: (C,) float32.

    `classes` (N,) are those of the utterances, each class at least once.

    Example:
        >>> balanced_weights([0, 0, 0, 1], 2).tolist()
        [0.6666666865348816, 2.0]
    """
    counts = np.bincount(np.asarray(classes), minlength=num_classes)
    return torch.from_numpy(len(classes) / (num_classes * counts)).float()
