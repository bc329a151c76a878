"""The projection head that DINO trains on top of the encoder and throws away afterwards.

Letters: `N` views of utterances, `D` embedding, `K` prototypes.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from dino_speech.dino.prototypes import prototype_logits
from dino_speech.errors import InputError


class DINOHead(nn.Module):
    """A GELU MLP, an L2-normalised bottleneck, and a weight-normalised linear layer without bias or trained gain.

    With the gain at 1 a logit is the cosine between the bottleneck and a prototype, in [-1, 1]: the temperatures then
    mean the same thing for every K and every encoder. `last_layer.weight` is the normalised weight (K x bottleneck);
    the forward pass does without it (see `prototypes.py`).

    Args:
        in_dim: D, the size of the embedding.
        num_prototypes: K, the number of outputs.
        hidden_dim: size of the hidden layers.
        bottleneck_dim: size of the normalised bottleneck.
        num_layers: linear layers of the MLP, the one to the bottleneck included; at least 1.
        batch_norm: BatchNorm before each GELU. Not in the paper's speech configuration; at batches of tens of
            utterances learning is much faster with it [ours].

    Raises:
        InputError: a size below 1.

    Example:
        >>> import torch
        >>> head = DINOHead(192, num_prototypes=1024, hidden_dim=256, bottleneck_dim=64)
        >>> head(torch.randn(6, 192)).shape
        torch.Size([6, 1024])

    Source: arXiv 2104.14294, Sec. 3.1 and Appendix C; K = 65,536, hidden 2048, bottleneck 256 also in the
        configuration of arXiv 2208.05445. The new parametrization of weight_norm serves because the old one
        cannot be deep-copied. Prototypes too begin as truncated normal, so that their directions are uniform.
    """

    def __init__(
        self,
        in_dim: int,
        *,
        num_prototypes: int = 65_536,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        num_layers: int = 3,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        sizes = {
            "in_dim": in_dim,
            "num_prototypes": num_prototypes,
            "hidden_dim": hidden_dim,
            "bottleneck_dim": bottleneck_dim,
            "num_layers": num_layers,
        }
        for name, size in sizes.items():
            if size < 1:
                raise InputError(f"DINOHead: {name} = {size}; expected at least 1")
        self.in_dim, self.num_prototypes = in_dim, num_prototypes
        self.hidden_dim, self.bottleneck_dim = hidden_dim, bottleneck_dim
        self.num_layers, self.batch_norm = num_layers, batch_norm
        self.mlp = _mlp([in_dim, *[hidden_dim] * (num_layers - 1), bottleneck_dim], batch_norm=batch_norm)
        self.last_layer = nn.Linear(bottleneck_dim, num_prototypes, bias=False)
        self.apply(_initialize)
        weight_norm(self.last_layer)
        gain = self.get_parameter("last_layer.parametrizations.weight.original0")
        gain.requires_grad_(False).fill_(1.0)

    def bottleneck(self, embedding: Tensor) -> Tensor:
        """(N, D) -> (N, bottleneck) of unit length, at least float32 also inside autocast."""
        hidden = self.mlp(embedding)
        # In float16 the epsilon of normalize rounds to zero, and a zero vector would become NaN.
        return F.normalize(hidden if hidden.itemsize >= 4 else hidden.float(), dim=-1)

    def forward(self, embedding: Tensor) -> Tensor:
        """(N, D) -> logits (N, K)."""
        weight = self.last_layer.parametrizations.weight  # type: ignore[union-attr]
        return prototype_logits(self.bottleneck(embedding), weight.original1, weight.original0)  # type: ignore


def _mlp(sizes: list[int], *, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size_in, size_out in pairwise(sizes[:-1]):
        layers += [nn.Linear(size_in, size_out), *([nn.BatchNorm1d(size_out)] if batch_norm else []), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
