"""The utterances that a labelled evaluation may use, and probes fitted to them fold by fold.

Used are those with all labels, a speaker, and audio that can be read; what is left out is listed. Probes are kept, so
that each can judge unheard speakers again: clean, or changed. Letters: `N` utterances, `D` embedding, `L` labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.folds import Fold, published_folds, speaker_folds
from dino_speech.data.utterances import Manifest, Skipped, list_some
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
    speakers: NDArray[np.str_]  # (N,), none blank where folds are drawn
    embeddings: Embedding  # (N, D), all finite
    skipped: list[Skipped]

    @property
    def known_speakers(self) -> NDArray[np.str_] | None:
        """(N,); None: not all are known."""
        return self.speakers if np.all(self.speakers != "") else None

    def num_folds(self, wanted: int | None) -> int:
        """The wanted number of folds; None: 5, or the number of speakers where that is smaller, but 2 at least."""
        return max(2, min(NUM_FOLDS, np.unique(self.speakers).size)) if wanted is None else wanted

    def folds(self, wanted: int | None, *, seed: int, stratified: bool) -> list[Fold]:
        """Folds that no speaker crosses; `stratified`: the classes of the first column spread as evenly as can be."""
        classes = self.values[:, 0].tolist() if stratified else None
        return speaker_folds(self.speakers.tolist(), classes, num_folds=self.num_folds(wanted), seed=seed)


def labelled_rows(manifest: Manifest, columns: Sequence[str]) -> tuple[NDArray[np.int64], list[Skipped]]:
    """Positions of the rows in which no column is blank, one at least, and the rows that are left out."""
    blank = np.array([manifest.label(column) for column in columns]).T == ""  # (M, columns)
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
    return np.flatnonzero(named), skipped


def labelled_speech(
    encoder: SpeechEncoder | None,
    manifest: Manifest,
    *,
    labels: Sequence[str],
    speaker: str,
    unknown_speakers: bool = False,
    embedded: EmbeddedManifest | None = None,
    **options: Any,
) -> LabelledSpeech:
    """Embed the utterances that have all labels (L columns) and a speaker; arguments are those of the evaluations.

    With `unknown_speakers` those without a speaker stay (""), as where no folds are drawn.
    """
    rows, skipped = labelled_rows(manifest, labels if unknown_speakers else [*labels, speaker])
    found = embed_manifest(encoder, manifest, rows=rows, embedded=embedded, **options)
    kept = rows[found.usable[rows]]
    has_speakers = not unknown_speakers or speaker in manifest.columns
    people = np.array(manifest.label(speaker) if has_speakers else [""] * len(manifest))
    values = np.array([manifest.label(column) for column in labels]).T
    return LabelledSpeech(kept, values[kept], people[kept], found.embeddings[kept], skipped + found.skipped)


@dataclass(frozen=True, eq=False)
class CrossFit:
    """One probe per fold, and what it says of the utterances that it has not heard."""

    data: LabelledSpeech
    labels: list[str]  # L columns; one of classes, or some of numbers
    classes: NDArray[np.str_]  # (C,) of which `true` and `predicted` are the numbers; empty for numbers
    true: NDArray[np.float64]  # (N, L)
    folds: Mapping[str, Fold]  # by name
    seed: int
    probes: Sequence[Any] = ()  # fitted on the training part of each fold

    @property
    def judged(self) -> NDArray[np.int64]:
        """Positions among the N of those that some fold judges; all, where the folds are drawn."""
        return np.sort(np.concatenate([test for _, test in self.folds.values()]))

    @property
    def shared_speakers(self) -> list[str]:
        """Who is on both sides of a fold, sorted; nobody, where the folds are drawn."""
        speakers = self.data.speakers
        return sorted(set().union(*(_shared(speakers, fold) for fold in self.folds.values())))

    def fitted(self, folds: Mapping[str, Fold]) -> "CrossFit":
        """The same utterances in these folds."""
        x, speakers, probes = self.data.embeddings, self.data.speakers, list[Any]()
        for train, _ in folds.values():
            if self.classes.size:
                probe: Any = LogisticProbe(seed=self.seed)
                probes.append(probe.fit(x[train], self.true[train, 0].astype(np.int64), speakers[train]))
            else:
                probes.append(RidgeProbe(seed=self.seed).fit(x[train], self.true[train], speakers[train]))
        return replace(self, folds=folds, probes=probes)

    def in_drawn_folds(self, num_folds: int | None = None) -> "CrossFit":
        """The same utterances in folds that no speaker crosses, all of them judged."""
        drawn = self.data.folds(num_folds, seed=self.seed, stratified=bool(self.classes.size))
        return self.fitted({str(number): fold for number, fold in enumerate(drawn, start=1)})

    def predict(self, embeddings: NDArray | None = None) -> NDArray[np.float64]:
        """(N, D) of the same utterances, clean (None) or changed -> (N, L); NaN: of NaN, or judged in no fold."""
        embeddings = self.data.embeddings if embeddings is None else embeddings
        found = np.full(self.true.shape, np.nan)
        usable = np.asarray(~np.isnan(embeddings).any(axis=1))
        for probe, (_, test) in zip(self.probes, self.folds.values(), strict=True):
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
    fold_column: str | None = None,
    keep_shared_speakers: bool = False,
    seed: int = 0,
    speaker: str = "speaker",
    **options: Any,
) -> CrossFit:
    """Logistic regressions of `label` (classes), or ridge regressions of `labels` (numbers), in folds of speakers.

    Arguments and errors are those of `evaluate_classification` and `evaluate_regression`.
    """
    columns = list(labels) if label is None else [label]
    if label is None:
        numbers = np.array([manifest.numbers(name) for name in labels]).T  # refused before the minutes of embedding
    if fold_column is not None:
        if num_folds is not None:
            raise InputError("give either a column of folds (fold_column) or a number of them (num_folds)")
        rows = labelled_rows(manifest, [*columns, speaker])[0]
        _check_published(manifest.subset(rows.tolist()), fold_column, label, speaker, keep_shared_speakers)
    data = labelled_speech(encoder, manifest, labels=columns, speaker=speaker, **options)
    classes: NDArray[np.str_] = np.array([], dtype=np.str_)
    if label is None:
        true = numbers[data.rows]
        refuse_constant(manifest, labels, true)
    else:
        classes, codes = np.unique(data.values[:, 0], return_inverse=True)
        true = codes[:, None].astype(np.float64)
    fit = CrossFit(data, columns, classes, true, {}, seed)
    if fold_column is None:
        return fit.in_drawn_folds(num_folds)
    return fit.fitted(published_folds(manifest.subset(data.rows.tolist()), fold_column))


def _check_published(manifest: Manifest, column: str, label: str | None, speaker: str, keep_shared: bool) -> None:
    """Refuse folds as published that cannot be learnt from, or that speakers cross and nobody said that they may."""
    speakers = np.array(manifest.label(speaker))
    for name, fold in published_folds(manifest, column).items():
        both = _shared(speakers, fold)
        if both and not keep_shared:
            problem = f"{manifest.name}: column {column!r}: {len(both)} speakers are on both sides of fold {name!r}"
            cure = "other folds, or keep_shared_speakers to judge them as published, marked as such"
            raise InputError(
                f"{problem} ({list_some(both)}); a figure would also measure how well these are known: {cure}"
            )
        found = set(np.array(manifest.label(label))[fold[0]].tolist()) if label is not None else set()
        if len(found) == 1:
            problem = f"column {column!r}: what fold {name!r} learns from is all {min(found)!r}"
            raise InputError(f"{manifest.name}: {problem}; expected two classes at least")


def _shared(speakers: NDArray[np.str_], fold: Fold) -> list[str]:
    train, test = fold
    return np.intersect1d(speakers[train], speakers[test]).tolist()


def refuse_constant(manifest: Manifest, labels: Sequence[str], true: NDArray) -> None:
    """Refuse labels (N, L) of which a column holds one number only."""
    for name, column in zip(labels, true.T, strict=True):
        if np.ptp(column) == 0:
            raise InputError(
                f"{manifest.name}: column {name!r} is {column[0]:g} in all {len(column)} usable rows; there is nothing"
                " to predict: leave this label out"
            )
