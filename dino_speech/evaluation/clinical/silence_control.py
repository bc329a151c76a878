"""The silence control: the same classifier, folds and figures on the parts of the recordings in which nobody speaks.

There is nothing of an illness in silence, but there is the room, the microphone, the noise removal and the cutting. On
the Pitt corpus silence alone tells nearly everything (arXiv 2406.07410). Letters: `P` people.
"""

import math
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dino_speech.audio.vad import VAD, build_vad
from dino_speech.data.derived_manifests import segment_manifest
from dino_speech.data.silence import SpeechParts, write_nonspeech
from dino_speech.data.utterances import Manifest
from dino_speech.errors import InputError
from dino_speech.evaluation.clinical.subject_scores import (
    SubjectResult,
    SubjectScores,
    TrivialScore,
    score_subjects,
    subject_result,
    trivial_score,
)
from dino_speech.evaluation.clinical.subjects import SubjectClassifier, SubjectFold, Subjects, can_learn
from dino_speech.plain_data import PlainData

MIN_PEOPLE = 5  # ours: of each class; fewer say nothing even where they are told apart without an error


@dataclass(frozen=True)
class SilenceControl(PlainData):
    """What the recordings tell without the voice; pairs of numbers are (positive, negative) people."""

    result: SubjectResult | None  # on the non-speech parts; None: not possible
    same_people: SubjectResult | None  # of the recordings themselves, on the people of `result`
    reason: str  # why there is no result
    num_people: tuple[int, int]
    num_missing: tuple[int, int]  # people without enough non-speech
    missing_p: float  # Fisher's exact test of whether that differs between the classes
    nonspeech_fraction: TrivialScore | None  # the share of non-speech time alone as a score
    vad: dict[str, Any]  # how speech was found

    @property
    def above_chance(self) -> bool:
        """Whether silence alone tells the classes apart: the interval of its AUC lies above 0.5."""
        return self.result is not None and self.result.intervals["auc"].low > 0.5

    @property
    def same_auc(self) -> float:
        """AUC of the recordings on the people of `result`; NaN where there is none."""
        return math.nan if self.same_people is None else self.same_people.figures["auc"]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"possible": self.result is not None, "above_chance": self.above_chance, **super().to_dict()}


def control_silence(
    classifier: SubjectClassifier,
    subjects: Subjects,
    folds: Sequence[SubjectFold],
    scores: SubjectScores,
    *,
    bootstrap: dict[str, Any],
    folder: str | None = None,
    vad: str | VAD = "energy",
    min_s: float = 0.5,
    segment_s: float | None = None,
    progress: bool = False,
) -> SilenceControl:
    """Judge the same people in the same folds by their silence; people without any are left out.

    `classifier`, `folds` and `scores` are those of the main result, `subjects` its recordings, not cut into segments;
    `folder`, `vad` and `min_s` are `evaluate_clinical`'s, `bootstrap` is `num_resamples` and `seed`.
    """
    from scipy.stats import fisher_exact

    detector = build_vad(vad)
    used = frozenset().union(*(fold.train | fold.test for fold in folds))
    with tempfile.TemporaryDirectory(prefix="silence-") if folder is None else nullcontext(folder) as place:
        parts = write_nonspeech(
            subjects.rows_of(used), Path(place, "nonspeech"), vad=detector, min_s=min_s, progress=progress
        )
        present = frozenset(row.labels[subjects.column] for row in parts.manifest)
        people, missing, left = (_by_class(some, subjects) for some in (used, used - present, used & present))
        found, reason = None, _why_not(people, left, detector)
        if not reason:
            silent = replace(subjects, manifest=cut(parts.manifest, segment_s))
            found, reason = _judge(classifier, silent, folds, present)
    return SilenceControl(
        result=None if found is None else subject_result(found, **bootstrap),
        same_people=None if found is None else subject_result(scores.select(found.names), **bootstrap),
        reason=reason,
        num_people=people,
        num_missing=missing,
        missing_p=float(fisher_exact([left, missing]).pvalue),
        nonspeech_fraction=trivial_score(nonspeech_fractions(parts, subjects.column), scores, **bootstrap),
        vad=detector.to_dict(),
    )


def cut(manifest: Manifest, segment_s: float | None) -> Manifest:
    """The recordings in segments, or as they are."""
    return manifest if segment_s is None else segment_manifest(manifest, segment_s=segment_s)


def nonspeech_fractions(parts: SpeechParts, column: str) -> dict[str, float]:
    """Person -> share of non-speech in all of the person's recordings."""
    people = {row.id: row.labels[column] for row in parts.source}
    seconds: dict[str, list[float]] = {}
    for recording in parts.recordings:
        both = seconds.setdefault(people[recording.id], [0.0, 0.0])
        both[0] += recording.total_s - recording.speech_s
        both[1] += recording.total_s
    return {person: silent_s / total_s for person, (silent_s, total_s) in seconds.items()}


def _judge(
    classifier: SubjectClassifier, silent: Subjects, folds: Sequence[SubjectFold], present: frozenset[str]
) -> tuple[SubjectScores | None, str]:
    """Decisions on the people who have silence, or why there are none."""
    left = [SubjectFold(fold.name, fold.train & present, fold.test & present) for fold in folds]
    try:
        found = score_subjects(
            classifier, silent, [fold for fold in left if fold.test and can_learn(fold, silent)], run="silence"
        )
    except InputError as error:
        return None, f"not possible: {error}"
    judged = _by_class(found.names, silent)
    if min(judged) < MIN_PEOPLE:
        return None, (
            f"not possible: only {judged[0]} positive and {judged[1]} negative people can be judged by their silence;"
            f" {MIN_PEOPLE} of each are needed"
        )
    return found, ""


def _by_class(people: "Sequence[str] | frozenset[str]", subjects: Subjects) -> tuple[int, int]:
    """How many are positive and negative."""
    classes = [subjects.classes[name] for name in people]
    return sum(classes), len(classes) - sum(classes)


def _why_not(people: tuple[int, int], present: tuple[int, int], vad: VAD) -> str:
    if min(present) >= MIN_PEOPLE:
        return ""
    name = vad.to_dict().get("name")
    hint = "; in noisy recordings the vad 'range' finds more" if name == "EnergyVAD" else ""
    return (
        f"not possible: enough non-speech in only {present[0]} of {people[0]} positive and {present[1]} of {people[1]}"
        f" negative people ({name}); {MIN_PEOPLE} of each are needed{hint}"
    )
