"""What frozen embeddings know about numbers, such as arousal, dominance and valence: judged on speakers not heard.

Each utterance is predicted once, by a ridge regression trained on other speakers; the predictions of all folds together
give the concordance correlation coefficient (CCC), and resampling speakers gives its interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.utterances import Manifest, Skipped
from dino_speech.embedding.embedded_manifest import EmbeddedManifest
from dino_speech.errors import InputError
from dino_speech.evaluation.probing.crossfit import fit_regressions
from dino_speech.evaluation.probing.labelled_speech import labelled_speech
from dino_speech.intervals import Interval, speaker_interval
from dino_speech.metrics import ccc
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.plain_data import PlainData
from dino_speech.provenance import provenance


@dataclass(frozen=True, eq=False)
class RegressionReport(PlainData):
    """What `evaluate_regression` found; the dictionaries have one entry per label.

    Args:
        ccc: concordance correlation, -1 to 1; 1 only where predictions equal the labels.
        num_utterances: predicted, all of them by a probe that had not heard their speaker.
        num_folds: speaker-disjoint folds.
        labels: the L columns.
        chance_ccc: of always saying the mean: 0.
        intervals: 95 %, resampling speakers, of the CCC.
        pearson: correlation, which forgives a wrong mean and a wrong scale; NaN where all predictions are equal.
        rmse: root of the mean squared error, in the label's own unit.
        deviation: of the labels, which is the RMSE of always saying their mean.
        num_speakers: of the utterances.
        strengths: penalty of the ridge regression that each fold chose.
        skipped: utterances left out, and why (a blank cell, audio that cannot be read).
        true: (num_utterances, L) numbers, in the order of the manifest, skipped ones left out.
        predicted: (num_utterances, L) numbers.
        provenance: versions, seed, manifest.
    """

    ccc: dict[str, float]
    num_utterances: int
    num_folds: int
    labels: list[str]
    chance_ccc: float
    intervals: dict[str, Interval]
    pearson: dict[str, float]
    rmse: dict[str, float]
    deviation: dict[str, float]
    num_speakers: int
    strengths: dict[str, list[float]]
    skipped: list[Skipped]
    true: NDArray[np.float64] = field(repr=False)
    predicted: NDArray[np.float64] = field(repr=False)
    provenance: dict[str, Any] = field(repr=False)


def evaluate_regression(
    encoder: SpeechEncoder | None,
    manifest: Manifest,
    *,
    labels: Sequence[str],
    num_folds: int | None = None,
    seed: int = 0,
    speaker: str = "speaker",
    embedded: EmbeddedManifest | None = None,
    num_resamples: int = 1000,
    **options: Any,
) -> RegressionReport:
    """Cross-validate ridge regression on frozen embeddings.

    Args:
        encoder: embeds the utterances that have all labels and a speaker; None where `embedded` is given.
        manifest: the utterances.
        labels: the columns to predict, of numbers; rows where one of them is blank are left out and listed.
        num_folds: 2 or more; None: 5, or the number of speakers where that is smaller.
        seed: of folds and intervals.
        speaker: the column that no fold may split; rows where it is blank are left out and listed.
        embedded: embeddings of this very manifest, to use instead of the encoder.
        num_resamples: of the bootstrap.
        options: passed to `embed_files` (`batch_s`, `num_workers`, `progress`).

    Raises:
        InputError: no such column, a cell that is no number, a label that is the same everywhere, or too few speakers.
    """
    if isinstance(labels, str) or not labels or len(set(labels)) < len(labels):
        raise InputError(f"labels is {labels!r}; expected a list of different columns, such as ['arousal', 'valence']")
    numbers = np.array([manifest.numbers(name) for name in labels]).T  # refused before the minutes of embedding
    data = labelled_speech(encoder, manifest, labels=labels, speaker=speaker, embedded=embedded, **options)
    true = numbers[data.rows]
    refuse_constant(manifest, labels, true)
    num_folds = data.num_folds(num_folds)
    probes = fit_regressions(data, true, num_folds=num_folds, seed=seed)
    strengths = np.stack([probe.strengths_ for probe in probes.probes])  # (folds, L)
    return regression_report(
        true,
        probes.predict(data.embeddings),
        data.speakers,
        labels=list(labels),
        num_folds=num_folds,
        strengths={name: strengths[:, i].tolist() for i, name in enumerate(labels)},
        skipped=data.skipped,
        provenance=provenance(seed=seed, manifest=manifest.paths),
        num_resamples=num_resamples,
        seed=seed,
    )


def regression_report(
    true: NDArray,
    predicted: NDArray,
    speakers: NDArray[np.str_],
    *,
    labels: list[str],
    num_resamples: int = 1000,
    seed: int = 0,
    **origin: Any,
) -> RegressionReport:
    """The report of predictions, wherever they come from.

    Args:
        true: (N, L) numbers.
        predicted: (N, L).
        speakers: (N,) who is resampled.
        labels: the L columns.
        num_resamples: of the bootstrap.
        seed: of the bootstrap.
        origin: the other fields of `RegressionReport`: num_folds, strengths, skipped, provenance.
    """
    columns = {name: (true[:, i], predicted[:, i]) for i, name in enumerate(labels)}
    return RegressionReport(
        ccc={name: ccc(*pair) for name, pair in columns.items()},
        num_utterances=len(true),
        labels=labels,
        chance_ccc=0.0,
        intervals={name: _interval(*pair, speakers, num_resamples, seed) for name, pair in columns.items()},
        pearson={name: _pearson(*pair) for name, pair in columns.items()},
        rmse={name: float(np.sqrt(np.mean((x - y) ** 2))) for name, (x, y) in columns.items()},
        deviation={name: float(x.std()) for name, (x, _) in columns.items()},
        num_speakers=int(np.unique(speakers).size),
        true=true,
        predicted=predicted,
        **origin,
    )


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


def _interval(true: NDArray, predicted: NDArray, speakers: NDArray, num_resamples: int, seed: int) -> Interval:
    return speaker_interval(
        lambda weights: ccc(true, predicted, weights=weights), speakers, num_resamples=num_resamples, seed=seed
    )


def _pearson(true: NDArray, predicted: NDArray) -> float:
    return float(np.corrcoef(true, predicted)[0, 1]) if np.ptp(predicted) > 0 else float("nan")
