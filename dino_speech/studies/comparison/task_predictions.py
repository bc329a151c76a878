"""What one encoder predicts in a task, beside the truth, and how its figures differ from another encoder's."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.evaluation.stress.label_and_trial_tasks import BOUNDS, LabelTask, TrialTask
from dino_speech.evaluation.verification.evaluate import MAX_RESAMPLED
from dino_speech.intervals import Bounds, Interval, bootstrap_interval, bootstrap_weighted_trials
from dino_speech.metrics import RankedTrials, ccc, uar

MEAN = "ccc_mean"
MIN_RESAMPLES = 100
SystemRow = Mapping[str, Any]  # of a comparison, plain data, as `EncoderComparison` describes it
Statistic = Callable[[NDArray[Any] | None], float]  # how often each counts, None: once


@dataclass(frozen=True, eq=False)
class TaskPredictions:
    """N predictions of L labels: classes as numbers, or numbers; of trials scores (N, 1) beside targets.

    `speakers` is (N, 1) of utterances, (N, 2) of trials, (N, 0) of trials whose speakers are not all known; `names` are
    the figures of the columns: "eer", "uar", or one "ccc_LABEL" each.
    """

    true: NDArray[np.float64]
    said: NDArray[np.float64]
    speakers: NDArray[np.str_]
    names: NDArray[np.str_]

    @classmethod
    def of_task(cls, task: LabelTask | TrialTask) -> "TaskPredictions":
        """From a task that was carried out on clean speech."""
        if isinstance(task, TrialTask):
            sides = np.stack(task.sides, axis=1) if task.sides else np.zeros((len(task.scores), 0), dtype=np.str_)
            scores = task.scores[:, None].astype(np.float64)
            return cls(task.labels[:, None].astype(np.float64), scores, sides, np.array(["eer"]))
        return cls(task.true, task.predicted, task.speakers[:, None], np.array(figure_names(task)))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For a file; the constructor takes them back."""
        return dict(self.__dict__)

    def statistics(self) -> dict[str, Statistic]:
        """Figure -> how it follows from how often each answer counts; with several labels also their mean."""
        columns = zip(self.names.tolist(), self.true.T, self.said.T, strict=True)
        single = {name: _statistic(name, true, said) for name, true, said in columns}
        if not any(name.startswith("ccc_") for name in single):
            return single
        return {MEAN: lambda counts: float(np.mean([one(counts) for one in single.values()])), **single}

    def interval(self, statistic: Statistic, bounds: Bounds, *, num_resamples: int, seed: int) -> Interval:
        """95 %, resampling speakers; trials one by one where their speakers are not known."""
        if self.names[0] != "eer":
            drawn: dict[str, Any] = {"num_resamples": num_resamples, "seed": seed}
            return bootstrap_interval(statistic, self.speakers[:, 0], bounds=bounds, **drawn)
        num = len(self.said)
        sides = tuple(self.speakers.T) if self.speakers.size else (None, None)
        num_resamples = min(num_resamples, max(MIN_RESAMPLES, MAX_RESAMPLED // num))
        drawn = {"num_resamples": num_resamples, "seed": seed}
        return bootstrap_weighted_trials(statistic, num, *sides, bounds=bounds, **drawn)


def figure_names(task: LabelTask | TrialTask) -> list[str]:
    """The figures of a task as a comparison calls them, in the order of the task's own."""
    if isinstance(task, TrialTask) or task.metric == "uar":
        return [task.metric]
    return [f"ccc_{label}" for label in task.labels]


def figures_with_differences(
    predictions: TaskPredictions, floor: TaskPredictions | None, *, num_resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """By figure `value`, `interval`, and `difference` from the floor (None: it is it) with `difference_interval`.

    For the difference the same speakers are drawn on both sides.
    """
    others: Mapping[str, Statistic] = {} if floor is None else floor.statistics()
    found: dict[str, dict[str, Any]] = {}
    for name, own in predictions.statistics().items():
        parts: Sequence[tuple[str, Statistic]] = [("", own)]
        if name in others:
            parts = [*parts, ("difference", _difference(own, others[name]))]
        found[name] = {"difference": None, "difference_interval": None}
        for part, statistic in parts:
            bounds = None if part else BOUNDS[name.partition("_")[0]]
            interval = predictions.interval(statistic, bounds, num_resamples=num_resamples, seed=seed)
            found[name] |= {part or "value": statistic(None), f"{part}_interval".lstrip("_"): interval.to_dict()}
    return found


def _difference(one: Statistic, other: Statistic) -> Statistic:
    return lambda counts: one(counts) - other(counts)


def _statistic(name: str, true: NDArray, said: NDArray) -> Statistic:
    if name != "eer":
        measure = uar if name == "uar" else ccc
        return lambda counts: measure(true, said, weights=counts)
    ranked = RankedTrials(said, true)
    return lambda counts: ranked.curve(None if counts is None else counts[ranked.order]).eer()


def title_of(figure: str) -> str:
    """A figure's name for people."""
    known = {"uar": "UAR", "eer": "EER in %", MEAN: "mean CCC"}
    return known.get(figure, f"CCC {figure.removeprefix('ccc_')}")


def is_headline(figure: str) -> bool:
    """Whether it stands for its task: the CCC of single labels does not."""
    return figure in ("uar", "eer", MEAN)


def is_known(value: Any) -> bool:
    """Whether it is a number."""
    return value is not None and math.isfinite(value)
