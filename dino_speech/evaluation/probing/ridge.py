"""A linear probe for numbers: standardised embeddings, then ridge regression, its strength chosen by CCC.

Letters: `N` utterances, `D` embedding, `L` labels, `S` strengths.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dino_speech.data.folds import group_folds
from dino_speech.embedding.embedded_manifest import NUM_INNER_FOLDS, one_thread, standardiser
from dino_speech.metrics import ccc

# ours: penalties in units of one standardised feature's sum of squares (N), from "none" to "almost only the mean"
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


class RidgeProbe:
    """Ridge regression of several labels, each with its own penalty, chosen on speaker-disjoint inner folds.

    One eigendecomposition gives all strengths; the solution is scikit-learn's `Ridge(alpha=strength * N)`.

    Args:
        strengths: penalties to choose from, per utterance.
        seed: of the inner folds.

    Learnt by `fit`: `strengths_` (L,), `weights_` (D, L) of standardised embeddings, `offsets_` (L,).
    """

    def __init__(self, *, strengths: Sequence[float] = STRENGTHS, seed: int = 0) -> None:
        self.strengths = tuple(sorted(strengths))
        self.seed = seed

    def fit(self, embeddings: NDArray, values: NDArray, speakers: ArrayLike) -> "RidgeProbe":
        """Choose each strength by the CCC of the pooled inner predictions (the strongest of equals), then fit on all.

        Args:
            embeddings: (N, D).
            values: (N, L) numbers.
            speakers: (N,), which the inner folds do not split.
        """
        with one_thread():
            groups = np.asarray(speakers)
            num_folds = min(NUM_INNER_FOLDS, np.unique(groups).size)
            chosen = np.full(values.shape[1], len(self.strengths) // 2)
            if num_folds > 1 and len(self.strengths) > 1:
                chosen = self._choose(embeddings, values, groups, num_folds)
            self.strengths_ = np.array(self.strengths)[chosen]
            self._scaler = standardiser(embeddings)
            solutions = _solutions(self._scaler.transform(embeddings), values, self.strengths)
            self.weights_ = solutions[chosen, :, np.arange(values.shape[1])].T
            self.offsets_ = values.mean(axis=0)
        return self

    def _choose(self, embeddings: NDArray, values: NDArray, groups: NDArray, num_folds: int) -> NDArray[np.int64]:
        """(L,) position of the best strength of each label."""
        predicted = np.empty((len(self.strengths), *values.shape))
        for train, test in group_folds(np.zeros(len(groups), int), groups, num_folds=num_folds, seed=self.seed):
            scaler = standardiser(embeddings[train])
            solutions = _solutions(scaler.transform(embeddings[train]), values[train], self.strengths)
            # n utterances, d embedding, s strengths, l labels
            products = np.einsum("nd,sdl->snl", scaler.transform(embeddings[test]), solutions)
            predicted[:, test] = products + values[train].mean(axis=0)
        merits = np.array([[ccc(*pair) for pair in zip(values.T, one.T, strict=True)] for one in predicted])  # (S, L)
        return len(merits) - 1 - merits[::-1].argmax(axis=0)

    def predict(self, embeddings: NDArray) -> NDArray[np.float64]:
        """(N, L) numbers."""
        return self._scaler.transform(embeddings) @ self.weights_ + self.offsets_


def _solutions(inputs: NDArray, values: NDArray, strengths: Sequence[float]) -> NDArray[np.float64]:
    """(S, D, L) ridge weights for standardised inputs (N, D)."""
    num = len(inputs)
    variances, axes = np.linalg.eigh(inputs.T @ inputs / num)
    targets = axes.T @ inputs.T @ (values - values.mean(axis=0)) / num
    variances = np.clip(variances, 0.0, None)  # rounding below zero
    return np.stack([axes @ (targets / (variances + strength)[:, None]) for strength in strengths])
