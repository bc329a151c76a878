"""How much of one view of utterances a linear map finds in another: canonical correlation, judged on other speakers.

Many directions and few utterances give correlations of 1 on any noise. So the directions are learnt on some speakers,
and the correlations taken on others. Letters: `N` utterances, `P` and `Q` columns of the two views, `K` directions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dino_speech.data.folds import Fold
from dino_speech.evaluation.one_thread import one_thread
from dino_speech.evaluation.probing.probes import inner_folds
from dino_speech.evaluation.speaker_means import speaker_means

Floats = NDArray[np.float64]
# ours: in units of a standardised column's sum of squares (N); from "none to speak of" to "strong directions only"
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
RANK_TOLERANCE = 1e-10  # of the largest singular value, squared: what lies below is rounding


@dataclass(frozen=True, eq=False)
class View:
    """One side, standardised and taken apart; made once for all sides that it is compared with."""

    mean: Floats  # (P,) of the training part
    scale: Floats  # (P,) deviations; 1 where a column is constant
    basis: Floats  # (N, R) orthonormal columns
    sizes: Floats  # (R,) singular values
    axes: Floats  # (P, R) orthonormal columns

    @classmethod
    def of(cls, columns: ArrayLike) -> "View":
        """Of (N, P) numbers."""
        x = np.asarray(columns, dtype=np.float64)
        mean, scale = x.mean(axis=0), x.std(axis=0)
        scale[scale == 0] = 1.0
        basis, sizes, axes = np.linalg.svd((x - mean) / scale, full_matrices=False)
        kept = sizes**2 > RANK_TOLERANCE * max(float(sizes[0]) ** 2, 1e-300)
        return cls(mean, scale, basis[:, kept], sizes[kept], axes[kept].T)

    def shrunk(self, strength: float) -> Floats:
        """(R,) how much of each direction a ridge penalty leaves: 1 for none."""
        return self.sizes / np.sqrt(self.sizes**2 + strength * len(self.basis))

    def standardised(self, columns: ArrayLike) -> Floats:
        """(N, P) by the mean and the scale of the training part."""
        standard: Floats = (np.asarray(columns, dtype=np.float64) - self.mean) / self.scale
        return standard


class CCA:
    """Canonical directions of two views, with a ridge penalty of `strength` per utterance on both (0: plain CCA).

    Learnt by `fit`: `correlations_` (K,) of the training part, falling; `importance_` (K,) share of the second view's
    variance that lies along each direction: of sum 1 where the directions reach all of it, less where the first view is
    the narrower one.

    Source:
        Projection weighting: Morcos et al., arXiv 1806.05759, Eq. 4, here always by the second view, so that layers of
        any width are compared with the same descriptors, and by squares: magnitudes add up to a sum that depends on the
        axes, so that nobody could say what share was not reached. Per layer of speech models: Pasad et al., arXiv
        2107.04734.
    """

    def __init__(self, strength: float = 0.0) -> None:
        self.strength = strength

    def fit(self, x: View, y: View) -> "CCA":
        """Learn from two views of the same N utterances."""
        shrunk_x, shrunk_y = x.shrunk(self.strength), y.shrunk(self.strength)
        cross = shrunk_x[:, None] * (x.basis.T @ y.basis) * shrunk_y
        left, self.correlations_, right = np.linalg.svd(cross, full_matrices=False)
        self._x, self._y = x, y
        self._map_x = x.axes @ ((shrunk_x / x.sizes)[:, None] * left)  # (P, K)
        self._map_y = y.axes @ ((shrunk_y / y.sizes)[:, None] * right.T)  # (Q, K)
        inner = right @ (y.sizes[:, None] * y.axes.T)  # (K, Q): directions with the columns of y
        self.importance_ = (inner**2).sum(axis=1) / max(float((y.sizes**2).sum()), 1e-300)
        return self

    def project(self, x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
        """Both views of further utterances along the directions, (N, K) each."""
        return self._x.standardised(x) @ self._map_x, self._y.standardised(y) @ self._map_y


@dataclass(frozen=True, eq=False)
class Similarity:
    """Projection-weighted correlation of two views, each fold judged on the speakers that it had not heard.

    `parts` holds per fold: rows (N_f,), projections of both views (N_f, K), importance (K,).
    """

    parts: list[tuple[NDArray[np.int64], Floats, Floats, Floats]] = field(repr=False)

    def value(self, weights: ArrayLike | None = None) -> float:
        """Mean over the folds: about 0 where nothing is shared, 1 where the first view says all of the second.

        `weights` (N,): how often each utterance counts (None: once); a fold without weight is left out.
        """
        found = []
        for rows, x, y, importance in self.parts:
            given = np.ones(len(rows)) if weights is None else np.asarray(weights, dtype=np.float64)[rows]
            if (given > 0).sum() > 1:
                found.append(float(importance @ column_correlations(x, y, given)))
        return float(np.mean(found)) if found else float("nan")


def column_correlations(x: Floats, y: Floats, weights: Floats) -> Floats:
    """(K,) weighted Pearson correlation of the columns (N, K); 0 where one is constant."""
    share = weights / weights.sum()
    x, y = x - share @ x, y - share @ y
    both, own = share @ (x * y), (share @ (x * x)) * (share @ (y * y))
    return np.where(own > 1e-24, both / np.sqrt(np.maximum(own, 1e-24)), 0.0)


def within_speakers(columns: ArrayLike, speakers: ArrayLike) -> Floats:
    """(N, P) less the mean of each one's speaker: what moves from utterance to utterance, and not who speaks."""
    x = np.asarray(columns, dtype=np.float64)
    means, codes = speaker_means(x, speakers)
    return x - means[codes]


class SplitView:
    """A layer (N, P), taken apart once per fold, to be compared with several sets of descriptors.

    The penalty is chosen on a split of the training part, drawn with `seed`.
    """

    def __init__(self, columns: ArrayLike, folds: Sequence[Fold], speakers: ArrayLike, *, seed: int = 0) -> None:
        self.columns = np.asarray(columns, dtype=np.float64)
        self.folds = list(folds)
        groups = np.asarray(speakers)
        with one_thread():
            self._outer = [View.of(self.columns[train]) for train, _ in self.folds]
            inner = [(train, inner_folds(groups[train], seed=seed)) for train, _ in self.folds]
            self._inner = [(rows[found[0][0]], rows[found[0][1]]) if found else None for rows, found in inner]
            self._inner_views = [None if inner is None else View.of(self.columns[inner[0]]) for inner in self._inner]

    def compare(self, others: ArrayLike) -> Similarity:
        """With (N, Q) descriptors of the same utterances."""
        y = np.asarray(others, dtype=np.float64)
        with one_thread():
            parts = []
            for number, (train, test) in enumerate(self.folds):
                cca = CCA(self._strength(number, y)).fit(self._outer[number], View.of(y[train]))
                parts.append((test, *cca.project(self.columns[test], y[test]), cca.importance_))
        return Similarity(parts)

    def _strength(self, number: int, y: Floats) -> float:
        """The penalty that does best on speakers held out of the training part."""
        inner, view = self._inner[number], self._inner_views[number]
        if inner is None or view is None:
            return STRENGTHS[len(STRENGTHS) // 2]
        train, test = inner
        other, merits = View.of(y[train]), []
        for strength in STRENGTHS:
            cca = CCA(strength).fit(view, other)
            projected = cca.project(self.columns[test], y[test])
            merits.append(Similarity([(test, *projected, cca.importance_)]).value())
        return STRENGTHS[int(np.nanargmax(merits))] if np.isfinite(merits).any() else STRENGTHS[-1]
