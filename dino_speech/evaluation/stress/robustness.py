"""Robustness: what becomes of predictions when the speech is changed, under named conditions of stated strength.

Whatever is learnt is learnt from clean speech of other speakers; then the very same utterances are judged clean and
changed. Of speaker verification the test side is changed, the enrolment stays clean. Each change of the figure has an
interval that resamples speakers, the same ones clean and changed. Letters: `N` utterances, `T` trials.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor

from dino_speech.audio.decoding import StrPath
from dino_speech.data.seeds import seeded_generator
from dino_speech.data.trials import Trials
from dino_speech.data.utterances import Manifest, Skipped
from dino_speech.embedding.embedded_manifest import EmbeddedManifest
from dino_speech.errors import InputError
from dino_speech.evaluation.stress.conditions import Condition, choose_conditions, standard_conditions
from dino_speech.evaluation.stress.paired_changes import Change, LabelJudge, TrialJudge
from dino_speech.evaluation.stress.trial_task import TrialTask, stress_task
from dino_speech.evaluation.verification.scoring import Backend
from dino_speech.plain_data import PlainData
from dino_speech.provenance import provenance

NUM_RESAMPLES = 500  # ours: for each condition, of which there are some forty
Judge = LabelJudge | TrialJudge


@dataclass(frozen=True)
class Outcome:
    """All figures under one condition.

    Attributes:
        condition: what was done to the speech.
        changes: figure ("uar", "eer", or a label of numbers) -> what became of it.
        skipped: utterances that could not be judged changed (too short after a cut, say), and why; they do not count in
            `clean` either.
    """

    condition: Condition
    changes: dict[str, Change]
    skipped: list[Skipped]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "name": self.condition.name,
            "kind": self.condition.kind,
            "parameters": dict(self.condition.parameters),
            "changes": {name: change.to_dict() for name, change in self.changes.items()},
            "skipped": [item.to_dict() for item in self.skipped],
        }


@dataclass(frozen=True, eq=False)
class RobustnessReport(PlainData):
    """What `evaluate_robustness` found.

    Attributes:
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
        skipped=judge.task.skipped,
        provenance=provenance(seed=seed, manifest=manifest.paths),
    )


def judge_condition(
    judges: Sequence[Judge], condition: Condition, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> list[Outcome]:
    """What each judge finds under one condition; all of them are given the same transform of the speech.

    Raises:
        InputError: nothing can be judged any more; the condition is named.
    """
    transform = partial(_changed, condition, seed)
    try:
        found = [judge.changes(transform, num_resamples, seed) for judge in judges]
    except InputError as error:
        raise InputError(f"condition {condition.name}: {error}") from error
    return [Outcome(condition, changes, skipped) for changes, skipped in found]


def chosen_conditions(
    conditions: Sequence[Condition | str] | None, *, noise: StrPath | None = None, rir: StrPath | None = None
) -> list[Condition]:
    """Conditions as `evaluate_robustness` takes them; None: all standard ones.

    Raises:
        InputError: an unknown name, none at all, or one twice.
    """
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
