"""What turns embeddings into scores of pairs: the form that every back-end here has, and the cosine.

A back-end maps each utterance once, to a vector and an offset; the score of a pair is then the inner product of the
two vectors plus both offsets. So a list of trials is one pass of multiplications, and all scores against a cohort are
one matrix product, for a cosine as for PLDA. Letters: `N` utterances, `T` trials, `C` cohort, `D` embedding.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

CHUNK = 65_536  # trials scored at once: bounds the memory of a list of millions


@dataclass(frozen=True, eq=False)
class Projection:
    """Utterances, ready to be compared: score(a, b) = vectors[a] . vectors[b] + offsets[a] + offsets[b].

    Args:
        vectors: (N, D) float32.
        offsets: (N,) float32; zeros for a cosine.
    """

    vectors: NDArray[np.float32]
    offsets: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.vectors)

    def score_pairs(self, enroll: NDArray[np.integer], test: NDArray[np.integer]) -> NDArray[np.float32]:
        """(T,) scores of the trials between rows `enroll` (T,) and `test` (T,)."""
        products = np.empty(len(enroll), dtype=np.float32)
        for begin in range(0, len(enroll), CHUNK):
            part = slice(begin, begin + CHUNK)
            products[part] = np.einsum("nd,nd->n", self.vectors[enroll[part]], self.vectors[test[part]])
        return products + self.offsets[enroll] + self.offsets[test]

    def score_all(self, rows: NDArray[np.integer], others: "Projection") -> NDArray[np.float32]:
        """(R, C) scores of the utterances at `rows` (R,) against all of `others`."""
        return self.vectors[rows] @ others.vectors.T + self.offsets[rows, None] + others.offsets


class Backend(Protocol):
    """What `evaluate_verification` needs of a back-end."""

    name: str

    def project(self, embeddings: NDArray) -> Projection:
        """Map embeddings (N, D); a row of NaN stays one."""
        ...

    def describe(self) -> dict[str, Any]:
        """What was used, as plain data for a report."""
        ...


class CosineBackend:
    """Cosine of two embeddings, in [-1, 1].

    Args:
        mean: (D,) subtracted first; take it from utterances that are not judged. None: nothing is subtracted.
    """

    def __init__(self, mean: NDArray | None = None) -> None:
        self.mean = mean
        self.name = "cosine" if mean is None else "cosine_mean"

    def project(self, embeddings: NDArray) -> Projection:
        """Rows of length one, offsets of zero."""
        unit = normalize(embeddings if self.mean is None else embeddings - self.mean)
        return Projection(unit, np.zeros(len(unit), dtype=np.float32))

    def describe(self) -> dict[str, Any]:
        """The name alone."""
        return {"name": self.name}


def cosine_scores(
    embeddings: NDArray, enroll: NDArray[np.integer], test: NDArray[np.integer], *, mean: NDArray | None = None
) -> NDArray[np.float32]:
    """(T,) cosines in [-1, 1] of the rows `enroll` (T,) and `test` (T,) of embeddings (N, D), less `mean` (D,)."""
    return CosineBackend(mean).project(embeddings).score_pairs(enroll, test)


def normalize(embeddings: NDArray) -> NDArray[np.float32]:
    """Rows (N, D) of length one; a row of zeros stays, and scores 0."""
    rows = np.asarray(embeddings, dtype=np.float64)  # large embeddings must not overflow when squared
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
