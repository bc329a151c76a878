"""What frozen embeddings know about numbers, such as arousal, dominance and valence: judged on speakers not heard.

As in `classification.py`, with a ridge regression, and the concordance correlation coefficient (CCC).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.utterances import Manifest, Skipped
from dino_speech.embedding.embedded_manifest import EmbeddedManifest
from dino_speech.errors import InputError
from dino_speech.evaluation.probing.crossfit import cross_fit
from dino_speech.intervals import CORRELATION, Interval, sample_of, speaker_interval
from dino_speech.metrics import ccc
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.plain_data import PlainData
from dino_speech.provenance import provenance


@dataclass(frozen=True, eq=False)
class RegressionReport(PlainData):
    """What `evaluate_regression` found; the dictionaries have one entry per label.

    Args:
        ccc: concordance correlation, -1 to 1; 1 only where predictions equal the labels.
        num_utterances: predicted, by a probe that had not heard their speaker; in `num_folds` folds.
        labels: the L columns.
        chance_ccc: of always saying the mean: 0.
        intervals: 95 %, of the CCC; `num_speakers`, `resampled` and `warnings` are as of a `ClassificationReport`.
        pearson: correlation, which forgives a wrong mean and a wrong scale; NaN where all predictions are equal.
        rmse: root of the mean squared error, in the label's own unit.
        deviation: of the labels, which is the RMSE of always saying their mean.
        strengths: penalty of the ridge regression that each fold chose.
        true: (num_utterances, L), in the order of the manifest, skipped ones left out; likewise `predicted`.
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
    num_speakers: int | None
    resampled: str
    warnings: list[str]
    strengths: dict[str, list[float]]
    skipped: list[Skipped]
    true: NDArray[np.float64] = field(repr=False)
    predicted: NDArray[np.float64] = field(repr=False)
    provenance: dict[str, Any] = field(repr=False)

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Heading -> rows, for a report."""
        rows = [
            {
                "label": label,
                "CCC": self.ccc[label],
                "CCC, 95 %": self.intervals[label],
                "chance": self.chance_ccc,
                "Pearson": self.pearson[label],
                "RMSE": self.rmse[label],
                "utterances": self.num_utterances,
                "speakers": self.num_speakers,
            }
            for label in self.labels
        ]
        return {"Results": rows}


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
    """Cross-validate ridge regression on frozen embeddings; what is not said here is as of `evaluate_classification`.

    Args:
        encoder: embeds the utterances that have all labels and a speaker; None where `embedded` is given.
        manifest: the utterances.
        labels: the columns to predict, of numbers; rows where one of them is blank are left out and listed.

    Raises:
        InputError: no such column, a cell that is no number, a label that is the same everywhere, or too few speakers.
    """
    if isinstance(labels, str) or not labels or len(set(labels)) < len(labels):
        raise InputError(f"labels is {labels!r}; expected a list of different columns, such as ['arousal', 'valence']")
    fit = cross_fit(
        encoder, manifest, labels=labels, num_folds=num_folds, seed=seed, speaker=speaker, embedded=embedded, **options
    )
    strengths = np.stack([probe.strengths_ for probe in fit.probes])  # (folds, L)
    return regression_report(
        fit.true,
        fit.predict(),
        fit.data.speakers,
        labels=fit.labels,
        num_folds=len(fit.folds),
        strengths=dict(zip(labels, strengths.T.tolist(), strict=True)),
        skipped=fit.data.skipped,
        provenance=provenance(seed=seed, manifest=manifest.paths),
        num_resamples=num_resamples,
        seed=seed,
    )


def regression_report(
    true: NDArray,
    predicted: NDArray,
    speakers: NDArray[np.str_] | None,
    *,
    labels: list[str],
    num_resamples: int = 1000,
    seed: int = 0,
    warnings: Sequence[str] = (),
    **origin: Any,
) -> RegressionReport:
    """The report of predictions (N, L) beside the truth (N, L); the others as of `classification_report`."""
    columns = {name: (true[:, i], predicted[:, i]) for i, name in enumerate(labels)}
    units = np.arange(len(true)) if speakers is None else speakers

    def interval(pair: tuple[NDArray, NDArray]) -> Interval:
        options: dict[str, Any] = {"bounds": CORRELATION, "num_resamples": num_resamples, "seed": seed}
        return speaker_interval(lambda weights: ccc(*pair, weights=weights), units, **options)

    return RegressionReport(
        ccc={name: ccc(*pair) for name, pair in columns.items()},
        num_utterances=len(true),
        labels=labels,
        chance_ccc=0.0,
        intervals={name: interval(pair) for name, pair in columns.items()},
        pearson={name: float(np.corrcoef(x, y)[0, 1]) if np.ptp(y) > 0 else np.nan for name, (x, y) in columns.items()},
        rmse={name: float(np.sqrt(np.mean((x - y) ** 2))) for name, (x, y) in columns.items()},
        deviation={name: float(x.std()) for name, (x, _) in columns.items()},
        **sample_of(speakers, warnings=warnings),
        true=true,
        predicted=predicted,
        **origin,
    )
