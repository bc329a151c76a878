"""How sure a number is: bootstrap intervals that resample speakers, not files or trials.

Files of one speaker resemble each other, and trials share speakers; resampling them one by one gives intervals that
are too narrow. A resample draws as many speakers as there are, with replacement; an utterance then counts as often as
its speaker was drawn, and a trial as often as its pair was.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dino_speech.errors import InputError
from dino_speech.metrics import DetCurve, RankedTrials
from dino_speech.plain_data import PlainData

Statistic = Callable[[NDArray[np.int64]], float]  # of weights (N,): how often each utterance or trial counts
Speakers = ArrayLike | None  # (N,) of one side of the trials
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Interval(PlainData):
    """A percentile interval `[low, high]`; both are NaN where too few resamples could be evaluated."""

    low: float
    high: float
    confidence: float

    def __str__(self) -> str:
        return f"{self.low:.4g} to {self.high:.4g}" if self.is_known else "not known"

    @property
    def is_known(self) -> bool:
        """Whether there are bounds."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))


def bootstrap_interval(
    statistic: Statistic, groups: ArrayLike, *, num_resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Interval of a statistic of utterances, resampled by group (speaker).

    `statistic` is such as `lambda weights: uar(true, predicted, weights=weights)`, `groups` (N,) the speaker of each
    utterance, at least two; `num_resamples` 1000 for a report, 200 for a look. The interval leaves out
    (1 - confidence) / 2 on each side.
    """
    names, codes = np.unique(np.asarray(groups), return_inverse=True)
    draws = _draw_counts(names.size, num_resamples, seed, "speakers")
    return _percentiles([statistic(counts[codes]) for counts in draws], confidence)


def speaker_interval(
    statistic: Statistic, speakers: ArrayLike, *, num_resamples: int = 1000, seed: int = 0
) -> Interval:
    """`bootstrap_interval` over speakers, 95 %; of a single speaker it is not known, and no error."""
    if np.unique(np.asarray(speakers)).size == 1:
        return Interval(float("nan"), float("nan"), 0.95)
    return bootstrap_interval(statistic, speakers, num_resamples=num_resamples, seed=seed)


def bootstrap_trials(
    statistics: Mapping[Name, Callable[[DetCurve], float]],
    scores: ArrayLike,
    labels: ArrayLike,
    enroll_speakers: Speakers,
    test_speakers: Speakers,
    **options: Any,
) -> dict[Name, Interval]:
    """Intervals of statistics of scored trials, resampled by speaker.

    A trial counts as often as the product of its two speakers' counts, a trial within one speaker as often as that
    speaker (once, not squared). Resamples that leave no target or no non-target are left out.

    `statistics` are functions of the `DetCurve` by name, for example `{"eer": DetCurve.eer}`; scores, labels (1 target,
    0 non-target) and the speakers of both sides (N,) each. Without speakers, trials are resampled one by one. `options`
    are `num_resamples`, `confidence` and `seed`, as of `bootstrap_interval`.

    Source: Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1 (2007), with one set of speakers on both
    sides of the trials.
    """
    ranked = RankedTrials(scores, labels)

    def of_curve(weights: NDArray[np.int64]) -> list[float]:
        curve = ranked.curve(weights)
        return [statistic(curve) for statistic in statistics.values()]

    found = _resample_trials(of_curve, len(statistics), ranked.order, enroll_speakers, test_speakers, **options)
    return dict(zip(statistics, found, strict=True))


def bootstrap_weighted_trials(
    statistic: Statistic, num_trials: int, enroll_speakers: Speakers, test_speakers: Speakers, **options: Any
) -> Interval:
    """Interval of any statistic of trials, such as a difference of two EERs; drawn as in `bootstrap_trials`.

    `statistic` maps weights (N,), how often each trial counts, in the order of the list, to the number. A draw for
    which it raises `InputError` (one kind of trial only) or gives NaN is left out.
    """
    order = np.arange(num_trials)
    return _resample_trials(lambda w: [statistic(w)], 1, order, enroll_speakers, test_speakers, **options)[0]


def _resample_trials(
    statistics: Callable[[NDArray[np.int64]], list[float]],
    num_statistics: int,
    order: NDArray[np.intp],
    enroll_speakers: Speakers,
    test_speakers: Speakers,
    *,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Interval]:
    """One interval for each number that `statistics` gives of weights in the order `order`."""
    rows = []
    for weights in _trial_weights(order, enroll_speakers, test_speakers, num_resamples, seed):
        with suppress(InputError):  # this draw has one kind of trial only
            rows.append(statistics(weights))
    columns = np.array(rows, dtype=np.float64).reshape(len(rows), num_statistics).T
    return [_percentiles(found, confidence, num_resamples) for found in columns]


def _trial_weights(
    order: NDArray[np.intp], enroll: Speakers, test: Speakers, num_resamples: int, seed: int
) -> Iterator[NDArray[np.int64]]:
    """Weights (N,) in ranked order, one array per resample."""
    if enroll is None or test is None:
        yield from _draw_counts(order.size, num_resamples, seed, "trials")
        return
    names, codes = np.unique(np.concatenate([np.asarray(enroll), np.asarray(test)]), return_inverse=True)
    first, second = codes[: order.size][order], codes[order.size :][order]
    within = np.flatnonzero(first == second)
    for counts in _draw_counts(names.size, num_resamples, seed, "speakers"):
        weights = counts[first] * counts[second]
        weights[within] = counts[first[within]]
        yield weights


def _draw_counts(num_groups: int, num_resamples: int, seed: int, what: str) -> Iterator[NDArray[np.int64]]:
    """How often each group is drawn, (num_groups,), for each resample."""
    if num_groups < 2 or num_resamples < 1:
        raise InputError(f"an interval needs at least 2 {what} and 1 resample; found {num_groups} and {num_resamples}")
    rng = np.random.default_rng(seed)
    for _ in range(num_resamples):
        yield np.bincount(rng.integers(num_groups, size=num_groups), minlength=num_groups)


def _percentiles(values: ArrayLike, confidence: float, num_resamples: int = 0) -> Interval:
    if not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}; expected a number between 0 and 1")
    found = np.asarray(values, dtype=np.float64)
    found = found[np.isfinite(found)]
    if found.size == 0 or 2 * found.size < num_resamples:
        return Interval(float("nan"), float("nan"), confidence)
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high), confidence)
