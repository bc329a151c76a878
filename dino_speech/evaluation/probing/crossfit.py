"""Probes fitted fold by fold and kept, so that each can judge unheard speakers again: clean, or changed.

Letters: `N` utterances, `D` embedding, `L` labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.folds import Fold
from dino_speech.data.utterances import Manifest
from dino_speech.errors import InputError
from dino_speech.evaluation.probing.labelled_speech import LabelledSpeech, labelled_speech
from dino_speech.evaluation.probing.probes import LogisticProbe, RidgeProbe
from dino_speech.models.encoder import SpeechEncoder


@dataclass(frozen=True, eq=False)
class CrossFit:
    """One probe per fold, and what it says of the speakers that it has not heard.

    Args:
        data: the utterances.
        labels: the L columns; one of classes, or some of numbers.
        classes: (C,) of which `true` and `predicted` are the numbers; empty for numbers.
        true: (N, L).
        probes: fitted on the training part of each fold.
        folds: (train, test) positions, disjoint by speaker.
    """

    data: LabelledSpeech
    labels: list[str]
    classes: NDArray[np.str_]
    true: NDArray[np.float64]
    probes: Sequence[Any]
    folds: Sequence[Fold]

    def predict(self, embeddings: NDArray | None = None) -> NDArray[np.float64]:
        """(N, D) of the same utterances, clean (None) or changed -> (N, L); a row of NaN stays one."""
        embeddings = self.data.embeddings if embeddings is None else embeddings
        found = np.full(self.true.shape, np.nan)
        usable = np.asarray(~np.isnan(embeddings).any(axis=1))
        for probe, (_, test) in zip(self.probes, self.folds, strict=True):
            rows = test[usable[test]]
            if rows.size:
                found[rows] = probe.predict(embeddings[rows]).reshape(rows.size, -1)
        return found


def cross_fit(
    encoder: SpeechEncoder | None,
    manifest: Manifest,
    *,
    label: str | None = None,
    labels: Sequence[str] = (),
    num_folds: int | None = None,
    seed: int = 0,
    **options: Any,
) -> CrossFit:
    """Logistic regressions of `label` (classes), or ridge regressions of `labels` (numbers), in folds of speakers.

    The arguments are those of `evaluate_classification` and `evaluate_regression`.

    Raises:
        InputError: as these.
    """
    if label is None:
        numbers = np.array([manifest.numbers(name) for name in labels]).T  # refused before the minutes of embedding
    columns = list(labels) if label is None else [label]
    data = labelled_speech(encoder, manifest, labels=columns, **options)
    x, speakers = data.embeddings, data.speakers
    if label is None:
        true = numbers[data.rows]
        refuse_constant(manifest, labels, true)
        folds = data.folds(num_folds, seed=seed, stratified=False)
        ridges = [RidgeProbe(seed=seed).fit(x[train], true[train], speakers[train]) for train, _ in folds]
        return CrossFit(data, columns, np.array([], dtype=np.str_), true, ridges, folds)
    classes, codes = np.unique(data.values[:, 0], return_inverse=True)
    folds = data.folds(num_folds, seed=seed, stratified=True)
    probes = [LogisticProbe(seed=seed).fit(x[train], codes[train], speakers[train]) for train, _ in folds]
    return CrossFit(data, columns, classes, codes[:, None].astype(np.float64), probes, folds)


def refuse_constant(manifest: Manifest, labels: Sequence[str], true: NDArray) -> None:
    """Refuse labels (N, L) of which a column holds one number only.

    Raises:
        InputError: naming it.
    """
    for name, column in zip(labels, true.T, strict=True):
        if np.ptp(column) == 0:
            raise InputError(
                f"{manifest.name}: column {name!r} is {column[0]:g} in all {len(column)} usable rows; there is nothing"
                " to predict: leave this label out"
            )
