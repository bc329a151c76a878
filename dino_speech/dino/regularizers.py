"""What is said of a batch as a whole, beside or instead of teacher and student: terms of the loss, each with a weight.

- `contrast` (NT-Xent): the views of an utterance are each other's positives, all else in the batch is not.
- `koleo`: no two utterances lie close together.
- `frobenius`: no two dimensions say the same.
- `coding_rate`: points fill their space.
- `mean_entropy`: all prototypes are used.

The first three look at embeddings, the other two at what the head makes of them. All compute in at least float32, also
inside autocast. Each looks at a whole batch: give them the utterances of all processes. Letters: `V` views, `B`
utterances, `D` embedding, `P` dimensions of the head's points, `K` prototypes.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dino_speech.dino.centering import full_precision


def contrast(embeddings: Tensor, temperature: float) -> Tensor:
    """NT-Xent: -log of a positive's share among itself and the views of all other utterances, mean over positives.

    The similarity is the cosine / `temperature`; the other views of an utterance are its positives and never its
    negatives, so with more than two views no positive pushes another away.

    Args:
        embeddings: (V, B, D), at least two views of at least two utterances.
        temperature: above 0; the lower, the more the hardest negatives count.

    Source: arXiv 2002.05709, Eq. 1, which has two views; with more, the mean over all pairs of an utterance [ours].
    """
    num_views, num_utterances = embeddings.shape[:2]
    if embeddings.ndim != 3 or num_views < 2 or num_utterances < 2:
        raise ValueError(f"contrast: expected (V, B, D) with V and B at least 2, got {tuple(embeddings.shape)}")
    with torch.autocast(embeddings.device.type, enabled=False):
        points = F.normalize(full_precision(embeddings).flatten(0, 1), dim=-1)  # (V*B, D)
        similarity = points @ points.T / temperature
        own = torch.arange(num_utterances, device=points.device).repeat(num_views)
        same = own[:, None] == own  # (V*B, V*B): views of one utterance
        negatives = similarity.masked_fill(same, -torch.inf).logsumexp(dim=1, keepdim=True)  # (V*B, 1)
        # softplus(n - s) = -log(exp(s) / (exp(s) + exp(n)))
        positives = same & ~torch.eye(len(own), dtype=torch.bool, device=points.device)
        return F.softplus(negatives - similarity)[positives].mean()


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
        points = F.normalize(full_precision(embeddings), dim=-1)
        with torch.no_grad():
            cosines = points @ points.mT  # (V, B, B)
            nearest = cosines.diagonal_scatter(torch.full_like(cosines[:, 0], -2.0), dim1=1, dim2=2).argmax(dim=-1)
        neighbours = points.gather(1, nearest[..., None].expand_as(points))
        squared = (points - neighbours).square().sum(-1)
        return -0.5 * torch.log(squared + epsilon**2).mean()


def frobenius(embeddings: Tensor) -> Tensor:
    """1/2 log ||C||_F^2 of the dimensions' cosines C (D, D) over all rows: they are made to differ; 1/2 log D at best.

    Args:
        embeddings: (V, B, D), not of unit length.

    Source: the dimension regulariser of arXiv 2505.13826. It falls also where a dimension dies, which the effective
        rank of the collapse doctor shows.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        columns = F.normalize(full_precision(embeddings).flatten(0, -2), dim=0)  # (V*B, D)
        cosines = columns.T @ columns
        off_diagonal = cosines.square().sum() - cosines.diagonal().square().sum()
        return 0.5 * torch.log(cosines.shape[0] + off_diagonal)


def coding_rate(points: Tensor, epsilon: float) -> Tensor:
    """-(P + B) / (P B) x 1/2 log det(I + P / (B epsilon) Z^T Z) of each view's points Z (B, P), mean over the views.

    Args:
        points: (V, B, P) of unit length.
        epsilon: above 0; how coarsely points are told apart.

    Source: SimDINO, arXiv 2502.10385, with the factor of its code. I + Z Z^T has the same determinant, and is smaller
        where B is.
    """
    num_points, num_dims = points.shape[-2:]
    with torch.autocast(points.device.type, enabled=False):
        rows = full_precision(points)
        gram = rows @ rows.mT if num_points < num_dims else rows.mT @ rows
        spread = torch.eye(gram.shape[-1], device=gram.device) + num_dims / (num_points * epsilon) * gram
        rate = torch.linalg.cholesky(spread).diagonal(dim1=-2, dim2=-1).log().sum(-1).mean()
        return -(num_dims + num_points) / (num_dims * num_points) * rate


def mean_entropy(shares: Tensor) -> Tensor:
    """ln K - entropy of the mean of the distributions (..., K): 0 where all prototypes are used equally.

    Source: arXiv 2204.07141, Eq. 2 (MSN's me-max); for speakers arXiv 2308.02774 (SDPN).
    """
    with torch.autocast(shares.device.type, enabled=False):
        mean = full_precision(shares).flatten(0, -2).mean(0)
        return math.log(len(mean)) - torch.special.entr(mean).sum()
