"""Probes fitted fold by fold and kept, so that each can judge unheard speakers again: clean, or changed.

Letters: `N` utterances, `D` embedding, `L` labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.folds import Fold, speaker_disjoint_folds, speaker_folds
from dino_speech.evaluation.probing.labelled_speech import LabelledSpeech
from dino_speech.evaluation.probing.probes import LogisticProbe, RidgeProbe


@dataclass(frozen=True, eq=False)
class CrossFit:
    """One probe per fold.

    Args:
        probes: fitted on the training part of each fold.
        folds: (train, test) positions.
        num_labels: L.
    """

    probes: Sequence[Any]
    folds: Sequence[Fold]
    num_labels: int

    def predict(self, embeddings: NDArray) -> NDArray[np.float64]:
        """(N, D) of the utterances that it was fitted on, clean or changed -> (N, L); a row of NaN stays one."""
        found = np.full((len(embeddings), self.num_labels), np.nan)
        usable = ~np.isnan(embeddings).any(axis=1)
        for probe, (_, test) in zip(self.probes, self.folds, strict=True):
            rows = test[usable[test]]
            if rows.size:
                found[rows] = probe.predict(embeddings[rows]).reshape(rows.size, self.num_labels)
        return found


def fit_classifiers(data: LabelledSpeech, codes: NDArray, *, num_folds: int, seed: int) -> CrossFit:
    """Logistic regressions of the first label, whose classes are numbered by `codes` (N,).

    Raises:
        InputError: the speakers or classes do not suffice for the folds.
    """
    classes, speakers = data.values[:, 0].tolist(), data.speakers
    folds = speaker_disjoint_folds(classes, speakers.tolist(), num_folds=num_folds, seed=seed)
    probes = [LogisticProbe(seed=seed).fit(data.embeddings[a], codes[a], speakers[a]) for a, _ in folds]
    return CrossFit(probes, folds, 1)


def fit_regressions(data: LabelledSpeech, values: NDArray, *, num_folds: int, seed: int) -> CrossFit:
    """Ridge regressions of values (N, L).

    Raises:
        InputError: too few speakers for the folds.
    """
    folds = speaker_folds(data.speakers.tolist(), num_folds=num_folds, seed=seed)
    probes = [RidgeProbe(seed=seed).fit(data.embeddings[a], values[a], data.speakers[a]) for a, _ in folds]
    return CrossFit(probes, folds, values.shape[1])
