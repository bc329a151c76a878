"""What frozen embeddings know about a label: a linear probe, judged on speakers it has not heard.

Each utterance is predicted once, by a probe trained on other speakers; figures are of all folds' predictions together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.utterances import Manifest, Skipped
from dino_speech.embedding.embedded_manifest import EmbeddedManifest
from dino_speech.evaluation.probing.crossfit import CrossFit, cross_fit
from dino_speech.intervals import SHARE, Interval, sample_of, speaker_interval
from dino_speech.metrics import macro_f1, micro_f1, uar
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.plain_data import PlainData
from dino_speech.provenance import provenance

METRICS: dict[str, Callable[..., float]] = {"uar": uar, "micro_f1": micro_f1, "macro_f1": macro_f1}


@dataclass(frozen=True, eq=False)
class ClassificationReport(PlainData):
    """What `evaluate_classification` found; all figures are fractions from 0 to 1.

    Args:
        uar: unweighted average recall; `chance_uar`: of guessing, 1 / C.
        micro_f1: the accuracy; `chance_micro_f1`: of always saying the commonest class.
        macro_f1: mean F1 of the classes.
        num_utterances: predicted, by a probe that had not heard their speaker; in `num_folds` folds.
        label: the column; `labels`: the C classes, sorted.
        confusion: (C, C) counts, rows true, columns predicted; `recalls`: of each class.
        intervals: 95 %, for `uar`, `micro_f1`, `macro_f1`.
        num_speakers: None: not all are known.
        resampled: "speakers", or "recordings" where not all of them are known.
        warnings: what a reader must know of the intervals.
        strengths: C of the logistic regression that each fold chose.
        fold_uars: fold -> UAR of its utterances, of folds as published; many papers report the mean of these.
        num_shared_speakers: on both sides of a fold as published; where there are any, `uar_speaker_disjoint` is the
            figure in folds that no speaker crosses, with its interval beside the others.
        true: (num_utterances,) classes, in the order of the manifest, skipped ones left out; likewise `predicted`.
    """

    uar: float
    micro_f1: float
    macro_f1: float
    num_utterances: int
    num_folds: int
    label: str
    labels: list[str]
    confusion: list[list[int]]
    recalls: dict[str, float]
    chance_uar: float
    chance_micro_f1: float
    intervals: dict[str, Interval]
    num_speakers: int | None
    resampled: str
    warnings: list[str]
    strengths: list[float]
    skipped: list[Skipped]
    true: NDArray[np.str_] = field(repr=False)
    predicted: NDArray[np.str_] = field(repr=False)
    provenance: dict[str, Any] = field(repr=False)
    fold_uars: dict[str, float] = field(default_factory=dict)
    num_shared_speakers: int = 0
    uar_speaker_disjoint: float | None = None

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Heading -> rows, for a report."""
        row = {
            "UAR": self.uar,
            "UAR, 95 %": self.intervals["uar"],
            "micro F1": self.micro_f1,
            "macro F1": self.macro_f1,
            "chance UAR": self.chance_uar,
            "utterances": self.num_utterances,
            "speakers": self.num_speakers,
        }
        if self.uar_speaker_disjoint is not None:
            row["UAR, speaker-disjoint"] = self.uar_speaker_disjoint
            row["UAR, speaker-disjoint, 95 %"] = self.intervals["uar_speaker_disjoint"]
        folds = [{"fold": name, "UAR": value} for name, value in self.fold_uars.items()]
        return {"Results": [row], "Recalls": [dict(self.recalls)], "UAR by fold": folds}


def evaluate_classification(
    encoder: SpeechEncoder | None,
    manifest: Manifest,
    *,
    label: str,
    num_folds: int | None = None,
    fold_column: str | None = None,
    keep_shared_speakers: bool = False,
    seed: int = 0,
    speaker: str = "speaker",
    embedded: EmbeddedManifest | None = None,
    num_resamples: int = 1000,
    **options: Any,
) -> ClassificationReport:
    """Cross-validate a linear probe on frozen embeddings.

    Args:
        encoder: embeds the utterances that have a label and a speaker; None where `embedded` is given.
        manifest: the utterances.
        label: the column to predict; rows where it is blank are left out and listed.
        num_folds: 2 or more; None: 5, or the number of speakers where that is smaller.
        fold_column: folds as published, instead: each value is judged in turn, rows with `train` never.
        keep_shared_speakers: judge these also where a speaker is on both sides, and report that and the UAR in
            speaker-disjoint folds beside it; without it they are refused.
        seed: of folds and intervals.
        speaker: the column that no fold may split; rows where it is blank are left out and listed.
        embedded: embeddings of this very manifest, to use instead of the encoder.
        num_resamples: of the bootstrap.
        options: passed to `embed_files` (`batch_s`, `num_workers`, `progress`).

    Raises:
        InputError: no such column, or too few classes, speakers or utterances for the folds.
    """
    published = {"fold_column": fold_column, "keep_shared_speakers": keep_shared_speakers}
    folds: dict[str, Any] = {"num_folds": num_folds, "seed": seed, "speaker": speaker, **published}
    fit = cross_fit(encoder, manifest, label=label, embedded=embedded, **folds, **options)
    rows, (true, predicted) = fit.judged, _classes(fit)
    by_fold = {name: uar(true[test], predicted[test]) for name, (_, test) in fit.folds.items()}
    report = classification_report(
        true[rows],
        predicted[rows],
        fit.data.speakers[rows],
        label=label,
        num_folds=len(fit.folds),
        strengths=[probe.strength_ for probe in fit.probes],
        skipped=fit.data.skipped,
        provenance=provenance(seed=seed, manifest=manifest.paths),
        num_resamples=num_resamples,
        seed=seed,
        fold_uars={} if fold_column is None else by_fold,
    )
    return _beside_disjoint(report, fit, num_resamples) if fit.shared_speakers else report


def _classes(fit: CrossFit) -> list[NDArray[np.str_]]:
    """True and predicted classes (N,) each; what no fold judges is predicted to be anything."""
    return [fit.classes[np.nan_to_num(codes[:, 0]).astype(np.int64)] for codes in (fit.true, fit.predict())]


def _beside_disjoint(report: ClassificationReport, fit: CrossFit, num_resamples: int) -> ClassificationReport:
    """The report of folds that speakers cross, with the mark, and with the UAR where none does."""
    shared = fit.shared_speakers
    true, predicted = _classes(fit.in_drawn_folds())
    apart = classification_report(
        true,
        predicted,
        fit.data.speakers,
        label=report.label,
        num_folds=0,
        strengths=[],
        skipped=[],
        provenance={},
        num_resamples=num_resamples,
        seed=fit.seed,
    )
    interval = apart.intervals["uar"]
    warning = (
        f"{len(shared)} of {np.unique(fit.data.speakers).size} speakers are on both sides of folds as published: the"
        " figures also measure how well these speakers are known. In folds that no speaker crosses, of all"
        f" {apart.num_utterances} utterances: UAR {apart.uar:.3f} ({interval})."
    )
    return replace(
        report,
        num_shared_speakers=len(shared),
        uar_speaker_disjoint=apart.uar,
        intervals={**report.intervals, "uar_speaker_disjoint": interval},
        warnings=[warning, *report.warnings],
    )


def classification_report(
    classes: NDArray[np.str_],
    predicted: NDArray[np.str_],
    speakers: NDArray[np.str_] | None,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
    warnings: Sequence[str] = (),
    **origin: Any,
) -> ClassificationReport:
    """The report of predictions (N,) beside true classes (N,), wherever they come from.

    Speakers (N,) are resampled; None: not all are known, and recordings are. `warnings` join the report's own.
    A predicted class that is never true has no recall, but is a row of the confusion. `origin` is the other fields of
    `ClassificationReport`: label, num_folds, strengths, skipped, provenance, and those with defaults.
    """
    from sklearn.metrics import confusion_matrix

    labels = np.union1d(classes, predicted)
    confusion = confusion_matrix(classes, predicted, labels=labels)
    counts = confusion.sum(axis=1)
    recalls = {str(labels[i]): float(confusion[i, i] / counts[i]) for i in np.flatnonzero(counts)}
    figures: dict[str, Any] = {name: metric(classes, predicted) for name, metric in METRICS.items()}
    units = np.arange(len(classes)) if speakers is None else speakers
    codes = np.searchsorted(labels, classes), np.searchsorted(labels, predicted)  # numbers make a resample cheap

    def interval(metric: Callable[..., float]) -> Interval:
        options: dict[str, Any] = {"bounds": SHARE, "num_resamples": num_resamples, "seed": seed}
        return speaker_interval(lambda weights: metric(*codes, weights=weights), units, **options)

    return ClassificationReport(
        **figures,
        num_utterances=len(classes),
        labels=labels.tolist(),
        confusion=confusion.tolist(),
        recalls=recalls,
        chance_uar=1 / len(recalls),
        chance_micro_f1=float(counts.max() / counts.sum()),
        intervals={name: interval(metric) for name, metric in METRICS.items()},
        **sample_of(speakers, warnings=warnings),
        true=classes,
        predicted=predicted,
        **origin,
    )
