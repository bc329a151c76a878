"""From an encoder's layers and a text to dimensions, and what each layer is worth for each of them.

The text branch hashes character n-grams, of transcripts or a recogniser's output: no tokenizer, no download.
Letters: `B` utterances, `L` layers, `W` their width, `N` dimensions, `E` width of the text branch.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dino_speech.frame_level.network import Wav2Vec2
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.layer_means import LayerMeans

N_GRAMS = (2, 3, 4)  # ours: parts of words, so that endings and a recogniser's errors are near what was meant


class TextBranch(nn.Module):
    """The mean of the learnt vectors of a text's words and character n-grams, through one layer.

    Two n-grams may share a vector: with 16,384 and some thousand texts few do, and nothing needs to be known about the
    language. An empty text is a vector of its own.

    Source: ours; the n-grams and their hashing as in fastText, arXiv 1607.04606, Sec. 3.2. The branch of 2305.19184 is
        not described where it could be read.
    """

    def __init__(self, dim: int = 64, *, num_buckets: int = 16_384, dropout: float = 0.1) -> None:
        super().__init__()
        self.dim, self.num_buckets = dim, num_buckets
        self.vectors = nn.EmbeddingBag(num_buckets, dim, mode="mean")
        nn.init.normal_(self.vectors.weight, std=0.1)
        self.layer = nn.Sequential(nn.Dropout(dropout), nn.Linear(dim, dim), nn.Tanh())

    def forward(self, buckets: Sequence[Sequence[int]]) -> Tensor:
        """What `buckets_of` gives for B texts -> (B, E)."""
        device = self.vectors.weight.device
        flat = torch.tensor([number for row in buckets for number in row], dtype=torch.long, device=device)
        lengths = torch.tensor([0, *(len(row) for row in buckets[:-1])], device=device)
        found: Tensor = self.layer(self.vectors(flat, lengths.cumsum(0)))
        return found


def buckets_of(text: str, num_buckets: int) -> list[int]:
    """Numbers of a text's words and n-grams, in lower case; the same on every machine.

    Example:
        >>> buckets_of("Oh no", 100) == buckets_of("  oh NO ", 100)
        True
    """
    pieces: list[str] = []
    for word in text.casefold().split():
        marked = f"<{word}>"
        pieces.append(marked)
        pieces += [marked[start : start + n] for n in N_GRAMS for start in range(len(marked) - n + 1)]
    return [zlib.crc32(piece.encode()) % num_buckets for piece in pieces]


class ReadOut(nn.Module):
    """Layers and text -> dimensions: a softmax-weighted sum of layers, and an affine map, for each dimension."""

    joined: Tensor  # (N,) which dimensions the text joins for

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
