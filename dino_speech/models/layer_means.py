"""What the layers of a network say, each pooled over time. Letters: `B` utterances, `T` frames, `C` channels.

A network calls a note after each of its layers; this module keeps the masked means of what it is told.
"""

from collections.abc import Callable

from torch import Tensor

from dino_speech.models.backbones.pooling import masked_mean

Note = Callable[[str, Tensor, Tensor | None], None]


def ignore(name: str, x: Tensor, mask: Tensor | None = None) -> None:
    """The note of an ordinary forward pass: nothing is kept."""


class LayerMeans:
    """A note that keeps each layer's mean over the true frames: `found`, name -> (B, C) float32, in their order."""

    def __init__(self) -> None:
        self.found: dict[str, Tensor] = {}

    def __call__(self, name: str, x: Tensor, mask: Tensor | None = None) -> None:
        """Keep (B, T, C) with its mask (B, T, 1) as a mean; (B, C), which is pooled already, as it is."""
        self.found[name] = (masked_mean(x, mask).squeeze(1) if x.ndim == 3 else x).float()
