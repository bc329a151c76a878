"""What becomes of a figure when the speech is changed: the same utterances or trials, clean and changed, in pairs.

An interval of a change resamples speakers, the same ones clean and changed. Letters: `N` utterances, `T` trials.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.utterances import Skipped
from dino_speech.evaluation.stress.label_task import METRICS, LabelTask
from dino_speech.evaluation.stress.trial_task import TrialTask
from dino_speech.intervals import Interval, bootstrap_interval, bootstrap_weighted_trials
from dino_speech.metrics import RankedTrials, det_curve
from dino_speech.models.embed_files import Transform
from dino_speech.plain_data import PlainData

UNCHANGED_WITHIN = 0.05  # of the range of the labels: audeering's ser-tests, whose labels range from 0 to 1

Figure = Callable[[NDArray | None], float]  # how often each utterance or trial counts (None: once) -> the figure


@dataclass(frozen=True)
class Change(PlainData):
    """One figure under one condition.

    Attributes:
        value: of the changed speech.
        clean: of the same utterances (or trials), clean.
        change: value - clean; for an EER more is worse, for UAR and CCC better.
        interval: 95 % of the change.
        unchanged: share of the predictions, or of the decisions at the clean EER threshold, that stay what they were.
        num: utterances or trials that this rests on.
    """

    value: float
    clean: float
    change: float
    interval: Interval
    unchanged: float
    num: int


class LabelJudge:
    """Figures of predicted labels."""

    def __init__(self, task: LabelTask, label_range: tuple[float, float] | None) -> None:
        self.task = task
        self.metric = task.metric
        self.num_utterances = len(task.rows)
        self.names = task.figures
        measure = METRICS[task.metric]
        columns = zip(self.names, task.true.T, task.predicted.T, strict=True)
        self.clean = {name: measure(true, predicted) for name, true, predicted in columns}
        self.within: dict[str, float] = {}
        if task.metric == "ccc":
            span = np.ptp(task.true, axis=0) if label_range is None else np.ptp(label_range)
            within = np.broadcast_to(UNCHANGED_WITHIN * span, len(self.names)).tolist()
            self.within = dict(zip(self.names, within, strict=True))

    def changes(self, transform: Transform, num_resamples: int, seed: int) -> tuple[dict[str, Change], list[Skipped]]:
        """What becomes of each figure."""
        found, skipped = self.task.predict_again(transform)
        kept = np.asarray(~np.isnan(found).any(axis=1))
        measure, speakers = METRICS[self.metric], self.task.speakers[kept]
        changes = {}
        for name, *columns in zip(self.names, self.task.true.T, self.task.predicted.T, found.T, strict=True):
            true, before, after = (column[kept] for column in columns)
            moved, within = np.abs(after - before), self.within.get(name)
            changes[name] = _change(
                partial(_measured, measure, true, before),
                partial(_measured, measure, true, after),
                lambda statistic: bootstrap_interval(statistic, speakers, num_resamples=num_resamples, seed=seed),
                moved == 0 if within is None else moved < within,
            )
        return changes, skipped


class TrialJudge:
    """The EER of scored trials, in percent."""

    metric = "eer"
    within: dict[str, float] = {}  # noqa: RUF012 (always empty)

    def __init__(self, task: TrialTask) -> None:
        self.task = task
        curve = det_curve(task.scores, task.labels)
        self.clean, self.threshold = {"eer": curve.eer()}, curve.eer_threshold()
        self.num_utterances = int(np.unique([task.enroll, task.test]).size)

    def changes(self, transform: Transform, num_resamples: int, seed: int) -> tuple[dict[str, Change], list[Skipped]]:
        """What becomes of the EER."""
        found, skipped = self.task.score_again(transform)
        kept = ~np.isnan(found)
        before, after = (RankedTrials(scores[kept], self.task.labels[kept]) for scores in (self.task.scores, found))

        def eer(ranked: RankedTrials, weights: NDArray | None) -> float:
            return ranked.curve(None if weights is None else weights[ranked.order]).eer()

        sides = (None, None) if self.task.sides is None else tuple(side[kept] for side in self.task.sides)
        num, options = int(kept.sum()), {"num_resamples": num_resamples, "seed": seed}
        decisions = [scores[kept] >= self.threshold for scores in (self.task.scores, found)]
        change = _change(
            partial(eer, before),
            partial(eer, after),
            lambda statistic: bootstrap_weighted_trials(statistic, num, *sides, **options),
            decisions[0] == decisions[1],
        )
        return {"eer": change}, skipped


def _change(before: Figure, after: Figure, resample: Callable[[Figure], Interval], unchanged: NDArray) -> Change:
    value, clean = after(None), before(None)
    interval = resample(lambda weights: after(weights) - before(weights))
    return Change(value, clean, value - clean, interval, float(np.mean(unchanged)), len(unchanged))


def _measured(
    measure: Callable[..., float], true: NDArray, predicted: NDArray, weights: NDArray | None = None
) -> float:
    return measure(true, predicted, weights=weights)
