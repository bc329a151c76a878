"""Groups of speakers, and single speakers, compared by one figure; what `fairness.py` reports.

Groups are compared on the same labels: each utterance weighs (utterances of the smallest group with its class) / (those
of its own group), which is the mean of all ways of drawing equally many from every group. Numbers are matched in bins.
Of verification, trials within a group are compared; an EER does not depend on the share of targets.

Few utterances per speaker make figures differ even where the system treats all alike. So beside the deviation between
speakers stands the one that is left when predictions are exchanged between speakers, within one class at a time.
Letters: `N` utterances or trials.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.trials import trials_within
from dino_speech.data.utterances import Manifest
from dino_speech.errors import InputError
from dino_speech.evaluation.stress.label_and_trial_tasks import BOUNDS, METRICS, LabelTask, TrialTask
from dino_speech.intervals import PERCENT, Bounds, Interval, bootstrap_interval, bootstrap_weighted_trials
from dino_speech.metrics import RankedTrials, det_curve
from dino_speech.plain_data import PlainData

NUM_BINS = 5  # ours: of equally many utterances each, for matching numbers
Weigh = Callable[..., float]  # (how often each counts, None: once; name of the group) -> its figure
Resample = Callable[[Callable[[NDArray], float], Bounds], Interval]
NUM_EXCHANGES = 50
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class SpeakerSpread(PlainData):
    """One figure per speaker, summed up."""

    num_speakers: int  # that have a figure
    num_left_out: int  # that have too few utterances or trials for one
    mean: float
    std: float
    std_if_equal: float  # when predictions are exchanged between speakers; NaN with fewer than two
    min: float
    max: float
    worst: list[str]  # names of at most five speakers, the worst first
    share_below_chance: float  # of speakers for whom the system is no better than guessing
    values: dict[str, float] = field(repr=False)


def speaker_spread(
    measure: Callable[[Rows], float],
    owners: NDArray,
    strata: NDArray,
    *,
    chance: float,
    higher_is_better: bool = True,
    min_items: int = 5,
    seed: int = 0,
) -> SpeakerSpread:
    """One figure per speaker; without a single speaker who has enough, all figures are NaN.

    `measure` maps rows of items to a figure, or raises `InputError` where they do not suffice. `owners` (N,) are the
    speakers; those with fewer than `min_items` are left out. `strata` (N,) are kept when predictions are exchanged.
    """
    rng = np.random.default_rng(seed)
    names, codes = np.unique(owners, return_inverse=True)
    rows_of = {name: np.flatnonzero(codes == code) for code, name in enumerate(names.tolist())}
    found = dict(_figures(measure, {n: rows for n, rows in rows_of.items() if len(rows) >= min_items}))
    if not found:
        nothing = float("nan")
        return SpeakerSpread(0, len(names), nothing, nothing, nothing, nothing, nothing, [], nothing, {})
    values = np.array(list(found.values()))
    kept = {name: rows_of[name] for name in found}
    exchanged = []
    for order in (_exchange(strata, rng) for _ in range(NUM_EXCHANGES if len(found) > 1 else 0)):
        figures = _figures(measure, {name: order[rows] for name, rows in kept.items()})
        exchanged.append(np.std([figure for _, figure in figures]))
    direction = 1 if higher_is_better else -1
    ranked = np.argsort(direction * values, kind="stable")
    return SpeakerSpread(
        num_speakers=len(found),
        num_left_out=len(names) - len(found),
        mean=float(values.mean()),
        std=float(values.std()),
        std_if_equal=float(np.mean(exchanged)) if exchanged else float("nan"),
        min=float(values.min()),
        max=float(values.max()),
        worst=[list(found)[i] for i in ranked[:5]],
        share_below_chance=float(np.mean(direction * values <= direction * chance)),
        values=found,
    )


def _figures(measure: Callable[[Rows], float], rows_of: dict[str, Rows]) -> Iterator[tuple[str, float]]:
    for name, rows in rows_of.items():
        try:
            yield name, measure(rows)
        except InputError:
            continue


def _exchange(strata: NDArray, rng: np.random.Generator) -> Rows:
    """A permutation of all rows that moves each within its stratum."""
    order = np.arange(len(strata))
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        order[rows] = rng.permutation(rows)
    return order


@dataclass(frozen=True)
class Figure(PlainData):
    """A figure with its 95 % interval, over speakers; `num` utterances (or trials) by `num_speakers`."""

    value: float
    interval: Interval
    num: int
    num_speakers: int


@dataclass(frozen=True)
class GroupGap(PlainData):
    """One group's figure minus another's, both on matched labels, with its 95 % interval over speakers."""

    value: float
    interval: Interval


@dataclass(frozen=True)
class Comparison(PlainData):
    """Groups and speakers by one figure."""

    overall: float  # of everybody together
    groups: dict[str, Figure]  # as it is, labels not matched
    matched: dict[str, float]  # on matched labels
    differences: dict[str, GroupGap]  # "F - M" -> of the matched figures, for each pair
    speakers: SpeakerSpread  # one figure per speaker


def matched_weights(strata: NDArray, groups: NDArray, counts: NDArray | None = None) -> NDArray[np.float64]:
    """Weights (N,) under which every group has the same number in each stratum (N,), that of the smallest group.

    `counts` (N,): how often each is drawn; None: once.
    """
    drawn = np.ones(len(groups)) if counts is None else counts.astype(np.float64)
    kinds, which = np.unique(strata, return_inverse=True)
    names, whose = np.unique(groups, return_inverse=True)
    sizes = np.zeros((len(kinds), len(names)))
    np.add.at(sizes, (which, whose), drawn)
    share = sizes.min(axis=1, keepdims=True) / np.where(sizes > 0, sizes, 1)
    return drawn * share[which, whose]


def compare_labels(
    task: LabelTask, column: int, groups: NDArray, bootstrap: dict[str, Any], spread: dict[str, Any]
) -> Comparison:
    """Compare by one label column; `groups` (N,), "" for none; the options are those of bootstrap and spread."""
    kept = groups != ""
    groups, speakers, measure = groups[kept], task.speakers[kept], METRICS[task.metric]
    true, predicted = task.true[kept, column], task.predicted[kept, column]
    strata = true if task.metric == "uar" else _bins(true)

    def weighted(weights: NDArray) -> float:
        return measure(true, predicted, weights=weights) if weights.any() else float("nan")

    def figure(counts: NDArray | None, name: str) -> float:
        return weighted((groups == name) * (1 if counts is None else counts))

    def matched(counts: NDArray | None, name: str) -> float:
        return weighted(matched_weights(strata, groups, counts) * (groups == name))

    names = np.unique(groups).tolist()
    _refuse_one_group(names, task.manifest)
    return _compare(
        {name: speakers[groups == name] for name in names},
        figure,
        matched,
        lambda statistic, bounds: bootstrap_interval(statistic, speakers, bounds=bounds, **bootstrap),
        BOUNDS[task.metric],
        overall=measure(true, predicted),
        speakers=label_spread(task, column, kept, **spread),
    )


def label_spread(task: LabelTask, column: int, kept: NDArray | None = None, **spread: Any) -> SpeakerSpread:
    """Single speakers by one label column; `kept` (N,): which utterances count, None: all."""
    rows = np.ones(len(task.speakers), dtype=bool) if kept is None else kept
    true, predicted, measure = task.true[rows, column], task.predicted[rows, column], METRICS[task.metric]
    return speaker_spread(
        lambda some: measure(true[some], predicted[some]),
        task.speakers[rows],
        true if task.metric == "uar" else _bins(true),
        chance=1 / len(task.classes) if task.metric == "uar" else 0.0,
        **spread,
    )


def compare_trials(task: TrialTask, group: str, bootstrap: dict[str, Any], spread: dict[str, Any]) -> Comparison:
    """Compare by the EER of trials; `group` is the column."""
    groups = np.array(task.manifest.label(group))
    rows_of = trials_within(groups, task.enroll, task.test)
    _refuse_one_group(list(rows_of), task.manifest)
    enroll, test = _sides(task)
    ranked = {name: RankedTrials(task.scores[rows], task.labels[rows]) for name, rows in rows_of.items()}

    def figure(counts: NDArray | None, name: str) -> float:
        return ranked[name].curve(None if counts is None else counts[rows_of[name]][ranked[name].order]).eer()

    def resample(statistic: Callable[[NDArray], float], bounds: Bounds) -> Interval:
        return bootstrap_weighted_trials(statistic, len(enroll), enroll, test, bounds=bounds, **bootstrap)

    return _compare(
        {name: enroll[rows] for name, rows in rows_of.items()},
        figure,
        figure,
        resample,
        PERCENT,
        overall=det_curve(task.scores, task.labels).eer(),
        speakers=trial_spread(task, **spread),
    )


def _compare(
    speakers_of: dict[str, NDArray],
    figure: Weigh,
    matched: Weigh,
    resample: Resample,
    bounds: Bounds,
    *,
    overall: float,
    speakers: SpeakerSpread,
) -> Comparison:
    """Each group, whose items are by `speakers_of`, and the differences of each pair on matched labels."""

    def gap(counts: NDArray | None, pair: tuple[str, str]) -> float:
        return matched(counts, pair[0]) - matched(counts, pair[1])

    groups = {
        name: Figure(figure(None, name), resample(partial(figure, name=name), bounds), len(of), np.unique(of).size)
        for name, of in speakers_of.items()
    }
    differences = {
        f"{pair[0]} - {pair[1]}": GroupGap(gap(None, pair), resample(partial(gap, pair=pair), None))
        for pair in combinations(speakers_of, 2)
    }
    return Comparison(overall, groups, {name: matched(None, name) for name in speakers_of}, differences, speakers)


def trial_spread(task: TrialTask, **spread: Any) -> SpeakerSpread:
    """Single speakers, all of whom must be known, by the EER of the trials with their enrolment."""
    return speaker_spread(
        lambda rows: det_curve(task.scores[rows], task.labels[rows]).eer(),
        _sides(task)[0],
        task.labels,
        chance=50.0,
        higher_is_better=False,
        **spread,
    )


def _sides(task: TrialTask) -> tuple[NDArray, NDArray]:
    if task.sides is None:
        raise InputError(f"{task.manifest.name}: the column of speakers has blanks; fairness compares speakers")
    return task.sides


def _bins(values: NDArray) -> NDArray[np.int64]:
    """(N,) bin of each number, of about equally many."""
    edges = np.quantile(values, np.linspace(0, 1, NUM_BINS + 1)[1:-1])
    return np.searchsorted(np.unique(edges), values, side="right")


def _refuse_one_group(names: list[str], manifest: Manifest) -> None:
    if len(names) < 2:
        raise InputError(f"{manifest.name}: found the groups {names}; fairness compares at least two")
