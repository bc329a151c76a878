"""Linear probes: standardised embeddings, then logistic or ridge regression, the penalty chosen on unheard speakers.

Nothing is fitted on what it is judged on: a probe chooses its penalty inside its training part. Letters: `N`
utterances, `D` embedding, `C` classes, `L` labels of numbers, `S` strengths.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dino_speech.data.folds import Fold, group_folds
from dino_speech.evaluation.one_thread import one_thread
from dino_speech.metrics import ccc, uar

# ours: C of the logistic regression, from "almost the class means" to "almost no penalty" for a few hundred numbers
CLASS_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
# ours: penalties in units of one standardised feature's sum of squares (N), from "none" to "almost only the mean"
NUMBER_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
NUM_INNER_FOLDS = 3


def inner_folds(speakers: NDArray, *, seed: int, classes: NDArray | None = None) -> list[Fold]:
    """Speaker-disjoint folds within a training part, for choosing what is chosen there; none of a single speaker.

    `classes` (N,) are spread evenly over them; a fold that would learn from one class is left out.
    """
    kinds = np.zeros(len(speakers), int) if classes is None else classes
    num_folds = min(NUM_INNER_FOLDS, np.unique(speakers).size, np.unique(kinds, return_counts=True)[1].max())
    folds = group_folds(kinds, speakers, num_folds=num_folds, seed=seed) if num_folds > 1 else []
    return [fold for fold in folds if classes is None or np.unique(classes[fold[0]]).size > 1]


class LogisticProbe:
    """Logistic regression with an L2 penalty. Classes weigh the same whatever their size, as they do in the UAR.

    `strengths` are values of scikit-learn's `C` to choose from, in inner folds drawn with `seed`. Learnt by `fit`:
    `strength_` (the chosen C), `classes_` (sorted).
    """

    def __init__(self, *, strengths: Sequence[float] = CLASS_STRENGTHS, seed: int = 0) -> None:
        self.strengths = tuple(sorted(strengths))
        self.seed = seed

    @one_thread()
    def fit(self, embeddings: NDArray, labels: ArrayLike, speakers: ArrayLike) -> "LogisticProbe":
        """Choose the strength by the UAR of the pooled inner predictions (the weakest of equals), then fit on all."""
        classes = np.asarray(labels)
        self.strength_ = self.strengths[len(self.strengths) // 2]
        folds = inner_folds(np.asarray(speakers), seed=self.seed, classes=classes) if len(self.strengths) > 1 else []
        if folds:
            predicted = np.concatenate([self._path(embeddings, classes, *fold) for fold in folds])
            true = np.concatenate([classes[test] for _, test in folds])
            self.strength_ = self.strengths[int(np.argmax([uar(true, column) for column in predicted.T]))]
        self._scaler, self._model = standardiser(embeddings), _logistic()
        self._model.set_params(C=self.strength_).fit(self._scaler.transform(embeddings), classes)
        self.classes_ = self._model.classes_
        return self

    def _path(self, embeddings: NDArray, classes: NDArray, train: NDArray, test: NDArray) -> NDArray:
        """Predictions (N_test, S) for each strength, each fit starting from the one before."""
        scaler, model = standardiser(embeddings[train]), _logistic()
        inputs, unseen = scaler.transform(embeddings[train]), scaler.transform(embeddings[test])
        columns = [model.set_params(C=one).fit(inputs, classes[train]).predict(unseen) for one in self.strengths]
        return np.stack(columns, axis=1)

    def predict(self, embeddings: NDArray) -> NDArray:
        """(N,) classes."""
        return self._model.predict(self._scaler.transform(embeddings))

    def log_odds(self, embeddings: NDArray) -> NDArray:
        """(N,) natural-log odds of the second of two classes, as if both were equally common: 0 is the border."""
        return self._model.decision_function(self._scaler.transform(embeddings))


class RidgeProbe:
    """Ridge regression of several labels, each with its own penalty: scikit-learn's `Ridge(alpha=strength * N)`.

    `strengths` are the penalties to choose from, per utterance. Learnt by `fit`: `strengths_` (L,).
    """

    def __init__(self, *, strengths: Sequence[float] = NUMBER_STRENGTHS, seed: int = 0) -> None:
        self.strengths = np.sort(strengths)
        self.seed = seed

    @one_thread()
    def fit(self, embeddings: NDArray, values: NDArray, speakers: ArrayLike) -> "RidgeProbe":
        """Choose each strength by the CCC of the pooled inner predictions (the strongest of equals), then fit on all.

        Values are (N, L). scikit-learn's `RidgeCV` judges each fold alone, and one strength for all labels.
        """
        chosen = np.full(values.shape[1], len(self.strengths) // 2)
        folds = inner_folds(np.asarray(speakers), seed=self.seed) if len(self.strengths) > 1 else []
        if folds:
            predicted = np.empty((len(self.strengths), *values.shape))
            for train, test in folds:
                for one, strength in zip(predicted, self.strengths, strict=True):
                    one[test] = _ridge(embeddings[train], values[train], strength)(embeddings[test])
            merits = np.array([[ccc(*pair) for pair in zip(values.T, one.T, strict=True)] for one in predicted])
            chosen = len(merits) - 1 - merits[::-1].argmax(axis=0)  # (L,)
        self.strengths_ = self.strengths[chosen]
        self._predict = _ridge(embeddings, values, self.strengths_)
        return self

    def predict(self, embeddings: NDArray) -> NDArray[np.float64]:
        """(N, L) numbers."""
        return self._predict(embeddings)


def standardiser(embeddings: NDArray) -> Any:
    """scikit-learn's `StandardScaler`, fitted on embeddings (N, D) in float64."""
    from sklearn.preprocessing import StandardScaler

    return StandardScaler().fit(np.asarray(embeddings, dtype=np.float64))


def _ridge(embeddings: NDArray, values: NDArray, strengths: Any) -> Callable[[NDArray], NDArray]:
    """Embeddings (N, D) -> numbers (N, L), learnt with one strength, or one per label."""
    from sklearn.linear_model import Ridge

    scaler = standardiser(embeddings)

    def scaled(rows: NDArray) -> NDArray:
        return scaler.transform(np.asarray(rows, dtype=np.float64))  # the solution is ill-conditioned in float32

    model = Ridge(alpha=strengths * len(embeddings)).fit(scaled(embeddings), values)
    return lambda unseen: model.predict(scaled(unseen)).reshape(len(unseen), -1)


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(class_weight="balanced", max_iter=1000, tol=1e-3, warm_start=True)
