"""An affine map, fitted on unlabelled embeddings, after which they have zero mean and a unit covariance."""

import torch
from torch import Tensor, nn

from dino_speech.errors import InputError


class Whitening(nn.Module):
    """`(x - mean) @ projection`, both learnt by `fit` and kept as buffers.

    Cosine scoring of self-supervised embeddings is dominated by the few directions of large variance, and those need
    not be the speakers'. Whitening evens the directions out, and needs no labels. It is ours, and off by default.
    """

    mean: Tensor
    projection: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("projection", torch.eye(dim))

    def forward(self, embedding: Tensor) -> Tensor:
        """(B, D) -> (B, D) float32, also where networks compute in half precision: weak directions are blown up."""
        with torch.autocast(embedding.device.type, enabled=False):
            return (embedding.to(self.mean.dtype) - self.mean) @ self.projection

    def fit(self, embeddings: Tensor, *, shrinkage: float) -> None:
        """Learn the symmetric map (ZCA), which turns embeddings as little as possible; from none that are evaluated on.

        Args:
            embeddings: (N, D) finite ones, N of at least 2; better many more than D.
            shrinkage: share, 0 to 1, of the covariance that is replaced by its average variance in all directions: at
                0 weak directions, which hold the most noise, weigh as much as strong ones; at 1 only the mean goes.

        Raises:
            InputError: not so, or some direction has no variance and no shrinkage makes up for it.
        """
        dim = self.mean.shape[0]
        if embeddings.ndim != 2 or len(embeddings) < 2 or embeddings.shape[1] != dim:
            raise InputError(f"embeddings of shape {tuple(embeddings.shape)}: expected (N, {dim}) with N of at least 2")
        if not 0 <= shrinkage <= 1:
            raise InputError(f"shrinkage={shrinkage}: expected 0 to 1")
        if not embeddings.isfinite().all():
            raise InputError("embeddings to whiten hold NaN or Inf")
        x = embeddings.detach().double().cpu()
        covariance = torch.cov(x.T).reshape(dim, dim)  # a number, where there is one dimension
        average = covariance.diagonal().mean()
        covariance = (1 - shrinkage) * covariance + shrinkage * average * torch.eye(dim, dtype=x.dtype)
        variances, directions = torch.linalg.eigh(covariance)
        if variances[0] <= 1e-10 * average or average == 0:
            raise InputError(
                f"{len(x)} embeddings of {dim} dimensions leave a direction without variance;"
                " use more of them, or a larger shrinkage"
            )
        self.mean.copy_(x.mean(0))
        self.projection.copy_(directions @ torch.diag(variances.rsqrt()) @ directions.T)
