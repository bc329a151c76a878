"""From an encoder's layers and a text to dimensions, and what each layer is worth for each of them.

Letters: `B` utterances, `L` layers, `W` their width, `N` dimensions, `E` width of the text branch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dino_speech.frame_level.network import Wav2Vec2
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.layer_means import LayerMeans
from dino_speech.transfer.audio_text.text import TextBranch


class ReadOut(nn.Module):
    """Layers and text -> dimensions: a softmax-weighted sum of layers, and an affine map, for each dimension.

    Args:
        num_layers: `L`.
        width: `W`.
        num_dimensions: `N`.
        text: the text branch; None: audio alone.
        joined: (N,) which dimensions the text joins for.
    """

    joined: Tensor

    def __init__(
        self,
        num_layers: int,
        width: int,
        num_dimensions: int,
        *,
        text: TextBranch | None = None,
        joined: Sequence[bool] = (),
    ) -> None:
        super().__init__()
        self.num_layers, self.width, self.text = num_layers, width, text
        self.layer_logits = nn.Parameter(torch.zeros(num_dimensions, num_layers))
        self.weight = nn.Parameter(torch.randn(num_dimensions, width) / width)
        self.bias = nn.Parameter(torch.zeros(num_dimensions))
        if text is not None:
            self.text_weight = nn.Parameter(torch.randn(num_dimensions, text.dim) / text.dim)
            self.register_buffer("joined", torch.tensor(list(joined), dtype=torch.float32)[:, None])

    def forward(self, layers: Tensor, texts: Sequence[Sequence[int]] | None) -> Tensor:
        """(B, L, W), and texts where there is a text branch -> (B, N)."""
        # Each layer on one scale, or its weight would tell its loudness.
        layers = F.layer_norm(layers.float(), layers.shape[2:])
        # d dimension, l layer, b utterance, w width
        mixed = torch.einsum("dl,blw->bdw", self.layer_logits.softmax(1), layers)
        said = torch.einsum("bdw,dw->bd", mixed, self.weight) + self.bias
        if self.text is None or texts is None:
            return said
        return said + self.text(texts).float() @ (self.text_weight * self.joined).T

    def relevance(self, labels: Sequence[str]) -> dict[str, list[float]]:
        """The layers' weights for each dimension."""
        weights = self.layer_logits.detach().softmax(1).cpu().tolist()
        return dict(zip(labels, weights, strict=True))


def readout_to_dict(readout: ReadOut) -> dict[str, Any]:
    """Plain data, which `build_readout` takes."""
    text = readout.text
    plain = {"num_layers": readout.num_layers, "width": readout.width, "num_dimensions": len(readout.bias)}
    if text is None:
        return plain | {"text": None, "joined": []}
    joined = [bool(value) for value in readout.joined.flatten().tolist()]
    return plain | {"text": {"dim": text.dim, "num_buckets": text.num_buckets}, "joined": joined}


def build_readout(
    *, num_layers: int, width: int, num_dimensions: int, text: Mapping[str, int] | None, joined: Sequence[bool]
) -> ReadOut:
    """A read-out with random weights."""
    if text is None:
        return ReadOut(num_layers, width, num_dimensions)
    branch = TextBranch(text["dim"], num_buckets=text["num_buckets"])
    return ReadOut(num_layers, width, num_dimensions, text=branch, joined=joined)


def layer_means(encoder: SpeechEncoder, waves: Tensor, num_samples: Tensor | None) -> Tensor:
    """(B, time) -> (B, L, W): means over time of a frame-level encoder's layers, or the embedding as the one layer."""
    means = LayerMeans()
    embedding = encoder.run(waves, num_samples, means)
    if not isinstance(encoder.backbone, Wav2Vec2):
        return embedding[:, None]
    return torch.stack([value for name, value in means.found.items() if name.startswith("layer_")], dim=1)
