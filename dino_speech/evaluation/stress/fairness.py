"""Fairness: does a system serve groups of people, and single people, equally well?

Groups are compared on matched labels (see `group_differences.py`): without that, a group rated within a narrower range
has a lower CCC from the very same system.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dino_speech.data.trials import Trials
from dino_speech.data.utterances import Manifest, Skipped
from dino_speech.embedding.embedded_manifest import EmbeddedManifest
from dino_speech.evaluation.stress.group_differences import Comparison, compare_labels, compare_trials
from dino_speech.evaluation.stress.label_and_trial_tasks import LabelTask, TrialTask, stress_task
from dino_speech.evaluation.verification.scoring import Backend
from dino_speech.plain_data import PlainData
from dino_speech.provenance import provenance


@dataclass(frozen=True, eq=False)
class FairnessReport(PlainData):
    """What `evaluate_fairness` found."""

    metric: str  # "uar", "ccc" or "eer" (percent; there, less is better)
    group: str  # the column
    figures: dict[str, Comparison]  # "uar", "eer" or each label of numbers -> comparison
    num_speakers: int | None  # None: not all are known
    resampled: str  # "speakers", or "trials" where these are not known
    warnings: list[str]
    skipped: list[Skipped]
    provenance: dict[str, Any] = field(repr=False)

    def rows(self) -> list[dict[str, Any]]:
        """A table of the groups and their differences."""
        rows: list[dict[str, Any]] = []
        for name, found in self.figures.items():
            for group, figure in found.groups.items():
                rows.append(
                    {"figure": name, "group": group, "value": figure.value, "95 %": str(figure.interval)}
                    | {"matched": found.matched[group], "speakers": figure.num_speakers, "num": figure.num}
                )
            rows += [
                {"figure": name, "group": pair, "95 %": str(difference.interval), "matched": difference.value}
                for pair, difference in found.differences.items()
            ]
        return rows

    def speaker_rows(self) -> list[dict[str, Any]]:
        """A table of the spread between speakers."""
        names = ("num_speakers", "mean", "std", "std_if_equal", "min", "max", "share_below_chance")
        return [
            {"figure": name}
            | {key: getattr(found.speakers, key) for key in names}
            | {"worst": ", ".join(found.speakers.worst[:1])}
            for name, found in self.figures.items()
        ]


def evaluate_fairness(
    model: Any,
    manifest: Manifest,
    *,
    group: str = "sex",
    label: str | None = None,
    labels: Sequence[str] | None = None,
    trials: Trials | None = None,
    backend: Backend | None = None,
    speaker: str = "speaker",
    num_folds: int | None = None,
    min_items: int = 5,
    embedded: EmbeddedManifest | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
    **options: Any,
) -> FairnessReport:
    """Compare groups of speakers, and single speakers; what is not said here is as of `evaluate_robustness`.

    Args:
        model: a `SpeechEncoder`, or a fine-tuned system that was not trained on this manifest.
        manifest: the utterances.
        group: the column of groups; utterances where it is blank are left out and listed, of trials both sides must be
            in the group.
        label: a column of classes: UAR. Classes that a group lacks count in no group's matched figure.
        labels: columns of numbers: CCC.
        trials: EER. Of these three one is given; a system may be given none.
        min_items: speakers with fewer utterances (or trials with their enrolment) have no figure of their own.

    Raises:
        InputError: no or several tasks, fewer than two groups, or what the evaluations refuse.
    """
    manifest.label(group)  # refused before the minutes of embedding
    asked: dict[str, Any] = {"label": label, "labels": labels, "trials": trials, "backend": backend, "speaker": speaker}
    folds: dict[str, Any] = {"num_folds": num_folds, "seed": seed, "embedded": embedded}
    task = stress_task(model, manifest, **asked, **folds, **options)
    figures, unknown = compare_groups(task, group, min_items=min_items, num_resamples=num_resamples, seed=seed)
    return FairnessReport(
        metric=task.metric,
        group=group,
        figures=figures,
        **task.sample,
        skipped=task.skipped + unknown,
        provenance=provenance(seed=seed, manifest=manifest.paths),
    )


def compare_groups(
    task: LabelTask | TrialTask, group: str, *, min_items: int = 5, num_resamples: int = 1000, seed: int = 0
) -> tuple[dict[str, Comparison], list[Skipped]]:
    """The comparison of each figure of a task, and the utterances of no group; arguments as of `evaluate_fairness`."""
    spread = {"min_items": min_items, "seed": seed}
    bootstrap = {"num_resamples": num_resamples, "seed": seed}
    if isinstance(task, TrialTask):
        return {"eer": compare_trials(task, group, bootstrap, spread)}, []
    groups = task.column(group)
    unknown = [Skipped(task.manifest[i].id, f"column {group!r} is blank") for i in task.rows[groups == ""].tolist()]
    return {name: compare_labels(task, i, groups, bootstrap, spread) for i, name in enumerate(task.figures)}, unknown
