"""The utterances that a labelled evaluation may use, and probes fitted to them fold by fold.

Used are those with all labels, a speaker, and audio that can be read; what is left out is listed. Probes are kept, so
that each can judge unheard speakers again: clean, or changed. Letters: `N` utterances, `D` embedding, `L` labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.folds import Fold, speaker_folds
from dino_speech.data.utterances import Manifest, Skipped
from dino_speech.embedding.embedded_manifest import EmbeddedManifest, Embedding, embed_manifest
from dino_speech.errors import InputError
from dino_speech.evaluation.probing.probes import LogisticProbe, RidgeProbe
from dino_speech.models.encoder import SpeechEncoder

NUM_FOLDS = 5


@dataclass(frozen=True, eq=False)
class LabelledSpeech:
    """N utterances with their labels, in the order of the manifest."""

    rows: NDArray[np.int64]  # (N,) positions in the manifest
    values: NDArray[np.str_]  # (N, L) cells of the label columns, none blank
    speakers: NDArray[np.str_]  # (N,), none blank
    embeddings: Embedding  # (N, D), all finite
    skipped: list[Skipped]

    def num_folds(self, wanted: int | None) -> int:
        """The wanted number of folds; None: 5, or the number of speakers where that is smaller, but 2 at least."""
        return max(2, min(NUM_FOLDS, np.unique(self.speakers).size)) if wanted is None else wanted

    def folds(self, wanted: int | None, *, seed: int, stratified: bool) -> list[Fold]:
        """Folds that no speaker crosses; `stratified`: the classes of the first column spread as evenly as can be."""
        classes = self.values[:, 0].tolist() if stratified else None
        return speaker_folds(self.speakers.tolist(), classes, num_folds=self.num_folds(wanted), seed=seed)


def labelled_speech(
    encoder: SpeechEncoder | None,
    manifest: Manifest,
    *,
    labels: Sequence[str],
    speaker: str,
    embedded: EmbeddedManifest | None = None,
    **options: Any,
) -> LabelledSpeech:
    """Embed the utterances that have all labels (L columns) and a speaker; arguments are those of the evaluations."""
    columns = [*labels, speaker]
    cells = np.array([manifest.label(column) for column in columns]).T  # (M, L + 1)
    blank = cells == ""
    named = ~blank.any(axis=1)
    skipped = [
        Skipped(manifest[i].id, f"column {columns[int(blank[i].argmax())]!r} is blank")
        for i in np.flatnonzero(~named).tolist()
    ]
    if not named.any():
        what = " and ".join(map(repr, columns))
        raise InputError(
            f"{manifest.name}: no row has {'both' if len(columns) == 2 else 'all of'} {what}; fill these columns in"
        )
    found = embed_manifest(encoder, manifest, rows=np.flatnonzero(named), embedded=embedded, **options)
    kept = np.flatnonzero(named & found.usable)
    return LabelledSpeech(kept, cells[kept, :-1], cells[kept, -1], found.embeddings[kept], skipped + found.skipped)


@dataclass(frozen=True, eq=False)
class CrossFit:
    """One probe per fold, and what it says of the speakers that it has not heard."""

    data: LabelledSpeech
    labels: list[str]  # L columns; one of classes, or some of numbers
    classes: NDArray[np.str_]  # (C,) of which `true` and `predicted` are the numbers; empty for numbers
    true: NDArray[np.float64]  # (N, L)
    probes: Sequence[Any]  # fitted on the training part of each fold
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

    Arguments and errors are those of `evaluate_classification` and `evaluate_regression`.
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
    """Refuse labels (N, L) of which a column holds one number only."""
    for name, column in zip(labels, true.T, strict=True):
        if np.ptp(column) == 0:
            raise InputError(
                f"{manifest.name}: column {name!r} is {column[0]:g} in all {len(column)} usable rows; there is nothing"
                " to predict: leave this label out"
            )
