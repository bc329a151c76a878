"""Robustness: what becomes of predictions when the speech is changed, under named conditions of stated strength.

Whatever is learnt is learnt from clean speech of other speakers; then the very same utterances are judged clean and
changed. Of speaker verification the test side is changed, the enrolment stays clean. Each change of the figure has an
interval that resamples speakers, the same ones clean and changed. Letters: `N` utterances, `T` trials.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dino_speech.audio.decoding import StrPath
from dino_speech.data.seeds import seeded_generator
from dino_speech.data.trials import Trials
from dino_speech.data.utterances import Manifest, Skipped
from dino_speech.embedding.embedded_manifest import EmbeddedManifest
from dino_speech.errors import InputError
from dino_speech.evaluation.stress.conditions import Condition, choose_conditions, standard_conditions
from dino_speech.evaluation.stress.label_and_trial_tasks import METRICS, LabelTask, TrialTask, stress_task
from dino_speech.evaluation.verification.scoring import Backend
from dino_speech.intervals import Interval, bootstrap_interval, bootstrap_weighted_trials
from dino_speech.metrics import RankedTrials, det_curve
from dino_speech.models.embed_files import Transform
from dino_speech.plain_data import PlainData, plain
from dino_speech.provenance import provenance

NUM_RESAMPLES = 500  # ours: for each condition, of which there are some forty
UNCHANGED_WITHIN = 0.05  # of the range of the labels: audeering's ser-tests, whose labels range from 0 to 1

Figure = Callable[[NDArray | None], float]  # how often each utterance or trial counts (None: once) -> the figure


@dataclass(frozen=True)
class Change(PlainData):
    """One figure under one condition."""

    value: float  # of the changed speech
    clean: float  # of the same utterances (or trials), clean
    change: float  # value - clean; for an EER more is worse, for UAR and CCC better
    interval: Interval  # 95 % of the change
    unchanged: float  # share of predictions, or of decisions at the clean EER threshold
    num: int  # utterances or trials that this rests on


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
        num = int(kept.sum())
        options: dict[str, Any] = {"num_resamples": num_resamples, "seed": seed}
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


Judge = LabelJudge | TrialJudge


@dataclass(frozen=True)
class Outcome:
    """All figures under one condition; what could not be judged changed is `skipped`, and not in `clean` either."""

    condition: Condition
    changes: dict[str, Change]  # "uar", "eer", or a label of numbers
    skipped: list[Skipped]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        condition = {name: getattr(self.condition, name) for name in ("name", "kind", "parameters")}
        found: dict[str, Any] = plain({**condition, "changes": self.changes, "skipped": self.skipped})
        return found


@dataclass(frozen=True, eq=False)
class RobustnessReport(PlainData):
    """What `evaluate_robustness` found.

    Args:
        metric: "uar", "ccc" or "eer" (percent).
        clean: figure -> its value on clean speech.
        conditions: in the order of the list.
        num_utterances: judged clean; for trials, on either side.
        unchanged_within: how far a number may move and count as unchanged, in its own unit, for each label of numbers.
    """

    metric: str
    clean: dict[str, float]
    conditions: list[Outcome]
    num_utterances: int
    unchanged_within: dict[str, float]
    num_speakers: int | None  # None: not all are known
    resampled: str  # "speakers", or "trials" where these are not known
    warnings: list[str]
    skipped: list[Skipped]
    provenance: dict[str, Any] = field(repr=False)

    def rows(self) -> list[dict[str, Any]]:
        """A table: one row per condition and figure."""
        return [
            {
                "condition": outcome.condition.name,
                "figure": name,
                "clean": change.clean,
                "changed": change.value,
                "difference": change.change,
                "95 %": str(change.interval),
                "unchanged %": 100 * change.unchanged,
                "skipped": len(outcome.skipped),
            }
            for outcome in self.conditions
            for name, change in outcome.changes.items()
        ]


def evaluate_robustness(
    model: Any,
    manifest: Manifest,
    *,
    label: str | None = None,
    labels: Sequence[str] | None = None,
    trials: Trials | None = None,
    conditions: Sequence[Condition | str] | None = None,
    noise: StrPath | None = None,
    rir: StrPath | None = None,
    backend: Backend | None = None,
    speaker: str = "speaker",
    num_folds: int | None = None,
    label_range: tuple[float, float] | None = None,
    embedded: EmbeddedManifest | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    **options: Any,
) -> RobustnessReport:
    """Judge utterances clean and under each condition.

    Args:
        model: a `SpeechEncoder`; or a fine-tuned system, or anything else with its `predict`, `classes` and `targets`,
            which was not trained on this manifest.
        manifest: the utterances.
        label: a column of classes: UAR of a linear probe in speaker-disjoint folds, as `evaluate_classification`.
        labels: columns of numbers: CCC, as `evaluate_regression`.
        trials: EER, as `evaluate_verification`. Of these three one is given; a system may be given none.
        conditions: conditions, or names or kinds of standard ones; None: all standard ones, one pass of embedding each.
        noise: recorded backgrounds (see `standard_conditions`).
        rir: room responses, instead of synthetic rooms.
        backend: for trials, fitted on other speech; None: the cosine.
        speaker: the column that no fold splits, and that is resampled.
        num_folds: of the probes.
        label_range: lowest and highest possible number, of which a prediction may move by 5 % and count as unchanged;
            None: those that occur.
        embedded: embeddings of the clean speech that exist already.
        num_resamples: of the bootstrap, for each condition.
        seed: of folds, intervals, and with its ID of what each utterance meets, whatever else is in the manifest.
        options: passed to `embed_files` or `predict` (`batch_s`, `num_workers`, `progress`).

    Raises:
        InputError: no or several tasks, an unknown condition, or what the evaluations refuse.
    """
    chosen = chosen_conditions(conditions, noise=noise, rir=rir)
    asked: dict[str, Any] = {"label": label, "labels": labels, "trials": trials, "backend": backend, "speaker": speaker}
    folds: dict[str, Any] = {"num_folds": num_folds, "seed": seed, "embedded": embedded}
    task = stress_task(model, manifest, **asked, **folds, **options)
    judge = TrialJudge(task) if isinstance(task, TrialTask) else LabelJudge(task, label_range)
    return RobustnessReport(
        metric=judge.metric,
        clean=judge.clean,
        conditions=[judge_condition([judge], one, num_resamples=num_resamples, seed=seed)[0] for one in chosen],
        num_utterances=judge.num_utterances,
        unchanged_within=judge.within,
        **judge.task.sample,
        skipped=judge.task.skipped,
        provenance=provenance(seed=seed, manifest=manifest.paths),
    )


def judge_condition(
    judges: Sequence[Judge], condition: Condition, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> list[Outcome]:
    """What each judge finds under one condition; all of them are given the same transform of the speech."""
    transform = partial(_changed, condition, seed)
    try:
        found = [judge.changes(transform, num_resamples, seed) for judge in judges]
    except InputError as error:
        raise InputError(f"condition {condition.name}: {error}") from error
    return [Outcome(condition, changes, skipped) for changes, skipped in found]


def chosen_conditions(
    conditions: Sequence[Condition | str] | None, *, noise: StrPath | None = None, rir: StrPath | None = None
) -> list[Condition]:
    """Conditions as `evaluate_robustness` takes them, at least one, each once; None: all standard ones."""
    known = standard_conditions(noise=noise, rir=rir)
    if conditions is None:
        return known
    chosen: list[Condition] = []
    for given in conditions:
        chosen += [given] if isinstance(given, Condition) else choose_conditions(known, [given])
    names = [condition.name for condition in chosen]
    if not chosen or len(set(names)) < len(names):
        raise InputError(f"conditions: expected at least one, each once; found {', '.join(names) or 'none'}")
    return chosen


def _changed(condition: Condition, seed: int, wave: Tensor, name: str) -> Tensor:
    return condition(wave, seeded_generator(seed, condition.name, name))
