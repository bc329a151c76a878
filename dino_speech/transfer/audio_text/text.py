"""A small text branch: hashed character n-grams, for transcripts or a recogniser's output. No tokenizer, no download.

Letters: `B` utterances, `E` width.
"""

import zlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

N_GRAMS = (2, 3, 4)  # ours: parts of words, so that endings and a recogniser's errors are near what was meant


class TextBranch(nn.Module):
    """The mean of the learnt vectors of a text's words and character n-grams, through one layer.

    Two n-grams may share a vector: with 16,384 and some thousand texts few do, and nothing needs to be known about the
    language. An empty text is a vector of its own.

    Args:
        dim: `E`.
        num_buckets: vectors.
        dropout: share of the mean that is dropped in training.

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
