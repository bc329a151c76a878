"""Heads of fine-tuning: from an embedding to classes, to dimensions, or to classes with an angular margin.

Letters: `B` utterances, `D` embedding, `C` classes (or dimensions), `J` sub-centers of a class. Heads compute in
float32.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dino_speech.errors import InputError

MOMENTUM = 0.1  # of BatchNorm, torch's own


class LinearHead(nn.Module):
    """Embeddings brought to one scale, and an affine map: for classes, or for dimensions.

    Embeddings differ in scale from encoder to encoder, and a learning rate that fits one would not fit another. So
    they pass a BatchNorm without affine part first, as in linear probes.

    Args:
        embedding_dim: `D`.
        num_outputs: `C`.
        dropout: share of the embedding dropped in training.

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
            raise InputError(
                f"num_subcenters={num_subcenters}, margin={margin}, scale={scale}: expected at least 1, from 0 to "
                "below pi / 2, and a positive number"
            )
        self.num_classes, self.num_subcenters = num_classes, num_subcenters
        self.margin, self.scale, self.easy_margin = margin, scale, easy_margin
        self.centers = nn.Parameter(torch.empty(num_classes * num_subcenters, embedding_dim))
        nn.init.xavier_uniform_(self.centers)

    def cosines(self, embedding: Tensor) -> Tensor:
        """(B, D) -> (B, C), to the nearest sub-center of each class."""
        cosine = F.linear(F.normalize(embedding.float()), F.normalize(self.centers.float()))
        # (B, C*J) -> (B, C)
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
