"""Decisions on people and how good they are: a person is one thing to be right or wrong about.

The log-odds of a person's segments are averaged, the sign decides, and intervals resample people. Letters: `N`
segments, `P` people.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.utterances import Manifest, Skipped
from dino_speech.errors import InputError
from dino_speech.evaluation.clinical.subjects import TARGET, SubjectClassifier, SubjectFold, Subjects
from dino_speech.intervals import SHARE, Interval, bootstrap_interval
from dino_speech.metrics import auc
from dino_speech.plain_data import PlainData

THRESHOLD = 0.0  # of the log-odds: both classes equally common, both errors equally dear
FIGURES = ("accuracy", "uar", "f1", "sensitivity", "specificity", "auc")


@dataclass(frozen=True, eq=False)
class SubjectScores:
    """A decision on each person that was judged."""

    names: list[str]
    positive: NDArray[np.bool_]  # (P,) the truth
    log_odds: NDArray[np.float64]  # (P,) mean over the person's segments
    folds: list[str]  # (P,) name of the fold that judged the person
    num_segments: int  # judged
    skipped: list[Skipped] = field(default_factory=list)  # segments that could not be used

    def select(self, names: Sequence[str]) -> "SubjectScores":
        """Some of the people, in this object's order."""
        kept = [i for i, name in enumerate(self.names) if name in set(names)]
        return replace(
            self,
            names=[self.names[i] for i in kept],
            positive=self.positive[kept],
            log_odds=self.log_odds[kept],
            folds=[self.folds[i] for i in kept],
        )


def score_subjects(
    classifier: SubjectClassifier, subjects: Subjects, folds: Sequence[SubjectFold], *, run: str
) -> SubjectScores:
    """Judge every person of the folds' test parts by a classifier that has not heard them.

    `run` says what the segments are of ("recordings", "silence"): the beginning of the classifier's `run`.
    """
    odds: dict[str, list[float]] = {}
    judged: dict[str, str] = {}
    skipped: dict[str, Skipped] = {}
    for fold in folds:
        train, test = subjects.rows_of(fold.train), subjects.rows_of(fold.test)
        answer = classifier(train, _blind(test, subjects.label), run=f"{run}/{fold.name}")
        if len(answer.log_odds) != len(test):
            raise InputError(f"the classifier gave {len(answer.log_odds)} log-odds for {len(test)} segments")
        skipped |= {item.name: item for item in answer.skipped}
        for person, value in zip(test.label(subjects.column), np.asarray(answer.log_odds).tolist(), strict=True):
            if np.isfinite(value):
                odds.setdefault(person, []).append(value)
                judged[person] = fold.name
    if not odds:
        raise InputError(f"{subjects.manifest.name}: nobody could be judged; see dino-speech check")
    names = [name for name in subjects.names if name in odds]
    return SubjectScores(
        names,
        np.array([subjects.classes[name] for name in names]),
        np.array([np.mean(odds[name]) for name in names]),
        [judged[name] for name in names],
        sum(len(values) for values in odds.values()),
        list(skipped.values()),
    )


def _blind(test: Manifest, label: str) -> Manifest:
    """The segments to be judged, without what is to be found out."""
    rows = (
        replace(row, labels={name: value for name, value in row.labels.items() if name not in (label, TARGET)})
        for row in test
    )
    return Manifest(rows, paths=test.paths, columns=[name for name in test.columns if name not in (label, TARGET)])


def subject_figure(
    name: str, log_odds: NDArray, positive: NDArray[np.bool_], *, weights: NDArray | None = None
) -> float:
    """One of `FIGURES`, a fraction; F1, sensitivity and so on are of the positive class, called from `THRESHOLD` on.

    Log-odds and truth are (P,); `weights` (P,) say how often each person counts. NaN where there is nothing to count.
    """
    counts = np.ones(len(positive)) if weights is None else np.asarray(weights, dtype=np.float64)
    if name == "auc":
        both = counts[positive].any() and counts[~positive].any()
        return auc(log_odds, positive, weights=counts) if both else float("nan")
    called = np.asarray(log_odds) >= THRESHOLD
    hits, misses = counts[called & positive].sum(), counts[~called & positive].sum()
    alarms, passes = counts[called & ~positive].sum(), counts[~called & ~positive].sum()
    shares = {
        "accuracy": [(hits + passes, counts.sum())],
        "uar": [(hits, hits + misses), (passes, passes + alarms)],
        "f1": [(2 * hits, 2 * hits + misses + alarms)],
        "sensitivity": [(hits, hits + misses)],
        "specificity": [(passes, passes + alarms)],
    }
    return float(np.mean([part / whole if whole > 0 else np.nan for part, whole in shares[name]]))


@dataclass(frozen=True)
class TrivialScore(PlainData):
    """How well one number per person, looked at alone, tells the classes apart."""

    auc: float  # as a score for the positive class; 0.2 tells as much as 0.8
    interval: Interval  # 95 %, resampling people
    means: dict[str, float]  # class ("positive", "negative") -> mean of the number
    num_subjects: int  # of whom it is known
    tells: bool  # the interval leaves out 0.5


def trivial_score(values: dict[str, float], scores: SubjectScores, **bootstrap: Any) -> TrivialScore | None:
    """One number per person against the truth, for the people who were judged; None where one class is left."""
    known = scores.select(list(values))
    if known.positive.all() or not known.positive.any():
        return None
    numbers = np.array([values[name] for name in known.names])
    interval = _interval("auc", numbers, known, bootstrap)
    means = {"positive": float(numbers[known.positive].mean()), "negative": float(numbers[~known.positive].mean())}
    tells = bool(interval.low > 0.5 or interval.high < 0.5)
    return TrivialScore(auc(numbers, known.positive), interval, means, len(known.names), tells)


@dataclass(frozen=True)
class SubjectResult(PlainData):
    """The figures of one set of decisions."""

    figures: dict[str, float]  # of `FIGURES`; fractions
    intervals: dict[str, Interval]  # 95 %, resampling people
    num_subjects: int
    num_positive: int
    num_segments: int

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON: the figures by their names."""
        found = super().to_dict()
        return {**found.pop("figures"), **found}


def subject_result(scores: SubjectScores, **bootstrap: Any) -> SubjectResult:
    """Figures and intervals; the bootstrap takes `num_resamples` and `seed`."""
    return SubjectResult(
        {name: subject_figure(name, scores.log_odds, scores.positive) for name in FIGURES},
        {name: _interval(name, scores.log_odds, scores, bootstrap) for name in FIGURES},
        len(scores.names),
        int(scores.positive.sum()),
        scores.num_segments,
    )


def _interval(name: str, values: NDArray, scores: SubjectScores, bootstrap: dict[str, Any]) -> Interval:
    """95 % interval of a figure, resampling people; what other people to learn from would change is not in it."""
    return bootstrap_interval(
        lambda weights: subject_figure(name, values, scores.positive, weights=weights),
        scores.names,
        bounds=SHARE,
        **bootstrap,
    )
