"""Terms that may be added to the DINO loss. Letters: `V` views, `B` utterances, `D` embedding."""

import torch
import torch.nn.functional as F
from torch import Tensor


def koleo(embeddings: Tensor, *, epsilon: float = 1e-4) -> Tensor:
    """KoLeo: pushes each embedding away from its nearest neighbour, so that the batch fills the sphere.

    Mean of -log of the distance between L2-normalised embeddings and their nearest neighbours in the same view; another
    view of the same utterance is no neighbour. At least float32 also inside autocast.

    Args:
        embeddings: (B, D), or (V, B, D) for several views, each apart from the others.
        epsilon: smoothes the logarithm: -0.5 log(distance^2 + epsilon^2).

    Returns:
        0-d tensor, mean over utterances and views.

    Raises:
        ValueError: fewer than two utterances.

    Source: arXiv 1806.03198, Eq. 2; in DINOv2 arXiv 2304.07193, Sec. 4, with weight 0.1. Departure: `epsilon` inside
        a square, so that two equal embeddings (the same file twice in a batch) have no gradient rather than one of
        1e8, which clipping would turn into a step for those two alone.
    """
    if embeddings.ndim == 2:
        embeddings = embeddings[None]
    if embeddings.ndim != 3 or embeddings.shape[1] < 2:
        raise ValueError(f"koleo: expected (B, D) or (V, B, D) with at least 2 utterances, got {embeddings.shape}")
    with torch.autocast(embeddings.device.type, enabled=False):
        points = F.normalize(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), dim=-1)
        with torch.no_grad():
            cosines = points @ points.mT  # (V, B, B)
            nearest = cosines.diagonal_scatter(torch.full_like(cosines[:, 0], -2.0), dim1=1, dim2=2).argmax(dim=-1)
        neighbours = points.gather(1, nearest[..., None].expand_as(points))
        squared = (points - neighbours).square().sum(-1)
        return -0.5 * torch.log(squared + epsilon**2).mean()
