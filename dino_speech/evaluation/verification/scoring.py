"""What turns embeddings into scores of pairs: the form that every back-end here has, the cosine, and normalisation.

A back-end maps each utterance once, to a vector and an offset; the score of a pair is then the inner product of the
two vectors plus both offsets. So a list of trials is one pass of multiplications, and all scores against a cohort are
one matrix product, for a cosine as for PLDA.

Score normalisation says how far a score lies above what its two utterances score against strangers. Each is compared
with a cohort once; mean and deviation of these scores are all that the four kinds need:

    z   (s - mean_e) / deviation_e, of the enrolment side
    t   (s - mean_t) / deviation_t, of the test side
    s   the mean of both
    as  the mean of both, each over its own `top` nearest of the cohort (adaptive)

The cohort is of speakers, each the mean of its utterances (as in WeSpeaker's recipes); an utterance whose speaker is
not known stands alone. No speaker of the trials may be in it: both is seen to in `fitted_backend.py`.
Letters: `N` utterances, `T` trials, `C` cohort, `D` embedding.

Source: Auckenthaler, Carey and Lloyd-Thomas, DSP 10 (2000) for z and t; Kenny, Odyssey 2010 for s; Matejka et al.,
Interspeech 2017, "Analysis of score normalization in multilingual speaker recognition" (its adaptive S-norm 1) for as.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dino_speech.errors import InputError

NORMS = ("z", "t", "s", "as")
TOP = 300  # WeSpeaker's recipes for VoxCeleb (top_n)
BLOCK = 4_000_000  # cohort scores held at once: 16 MB, however long the list
CHUNK = 65_536  # trials scored at once: bounds the memory of a list of millions


@dataclass(frozen=True, eq=False)
class Projection:
    """Utterances, ready to be compared: score(a, b) = vectors[a] . vectors[b] + offsets[a] + offsets[b]."""

    vectors: NDArray[np.float32]  # (N, D)
    offsets: NDArray[np.float32]  # (N,), zeros for a cosine

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

    def describe(self) -> dict[str, Any]:
        """What was used, as plain data for a report."""


class CosineBackend:
    """Cosine of two embeddings, in [-1, 1], each less `mean` (D,), which comes from utterances that are not judged."""

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


@dataclass(frozen=True, eq=False)
class CohortStatistics:
    """Mean and deviation of each utterance's cohort scores, (N,) each; NaN for utterances that were not asked for."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


class ScoreNorm:
    """One kind of normalisation against one cohort, which the same back-end as the trials has mapped.

    `top` is for "as" only: how many of the cohort each utterance is compared with; None: 300, or all where fewer.
    `sizes` (C,): how many utterances each of the cohort is the mean of; None: it is of single utterances.

    Raises:
        InputError: an unknown kind, fewer than two in the cohort, `top` below 2 or above C, or with another kind.
    """

    def __init__(
        self, kind: str, cohort: Projection, *, top: int | None = None, sizes: NDArray[np.integer] | None = None
    ) -> None:
        self.sizes = np.ones(len(cohort), dtype=np.int64) if sizes is None else sizes
        what = "speakers" if (self.sizes > 1).any() else "utterances"
        if kind not in NORMS:
            raise InputError(f"score_norm is {kind!r}; expected one of {', '.join(NORMS)}, or None")
        if len(cohort) < 2:
            raise InputError(f"the cohort has {len(cohort)} {what}; score normalisation needs two, better hundreds")
        if top is not None and kind != "as":
            raise InputError(f"top is {top}, but score_norm is {kind!r}; only 'as' chooses the nearest of the cohort")
        if top is not None and not 2 <= top <= len(cohort):
            raise InputError(f"top is {top}; expected 2 to {len(cohort)}, the number of cohort {what}")
        self.kind, self.cohort = kind, cohort
        self.top = min(TOP if top is None else top, len(cohort)) if kind == "as" else None

    def statistics(self, utterances: Projection, rows: NDArray[np.integer]) -> CohortStatistics:
        """Compare the utterances at `rows` with the cohort, a block at a time."""
        mean, deviation = (np.full(len(utterances), np.nan) for _ in range(2))
        size = max(1, BLOCK // len(self.cohort))
        for begin in range(0, len(rows), size):
            part = rows[begin : begin + size]
            scores = utterances.score_all(part, self.cohort)
            if self.top is not None and self.top < scores.shape[1]:
                scores = np.partition(scores, scores.shape[1] - self.top, axis=1)[:, -self.top :]
            mean[part] = scores.mean(axis=1, dtype=np.float64)
            deviation[part] = scores.std(axis=1, dtype=np.float64)
        flat = rows[~(deviation[rows] > 0)]
        if flat.size:
            raise InputError(
                f"{flat.size} utterances score the same against the whole cohort of {len(self.cohort)}; expected a"
                " cohort of different utterances of many speakers"
            )
        return CohortStatistics(mean, deviation)

    def normalize(
        self, scores: NDArray, enroll: NDArray[np.integer], test: NDArray[np.integer], statistics: CohortStatistics
    ) -> NDArray[np.float32]:
        """(T,) normalised scores of the trials between rows `enroll` (T,) and `test` (T,)."""
        sides = {"z": [enroll], "t": [test]}.get(self.kind, [enroll, test])
        normalized = [(scores - statistics.mean[rows]) / statistics.deviation[rows] for rows in sides]
        return np.mean(normalized, axis=0).astype(np.float32)

    def describe(self) -> dict[str, Any]:
        """Plain data for a report."""
        sizes = {"num_cohort": int(self.sizes.sum()), "num_compared": len(self.cohort)}
        return {"kind": self.kind, **sizes, "top": self.top}
