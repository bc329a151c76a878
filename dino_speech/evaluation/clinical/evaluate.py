"""A clinical question about people, such as Alzheimer's disease or not: the answer, and what else could explain it.

Recordings are cut into segments, a classifier learns from some people and judges the others, the log-odds of a person's
segments are averaged, their sign decides. Beside the figures stand the silence control, what the share of pauses and
the length of the recordings tell alone, and age and sex. A score is not a diagnosis: see `docs/pages/clinical.md`.
"""

from dataclasses import replace
from typing import Any

from dino_speech.audio.vad import VAD
from dino_speech.data.utterances import Manifest
from dino_speech.errors import InputError
from dino_speech.evaluation.clinical.group_balance import age_difference, fold_rows, people_table, sex_difference
from dino_speech.evaluation.clinical.report import ClinicalReport
from dino_speech.evaluation.clinical.silence_control import control_silence, cut
from dino_speech.evaluation.clinical.subject_scores import SubjectScores, score_subjects, subject_result, trivial_score
from dino_speech.evaluation.clinical.subjects import (
    EmbeddingProbe,
    SubjectClassifier,
    SubjectFold,
    Subjects,
    find_subjects,
    make_folds,
)
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.provenance import provenance


def evaluate_clinical(
    encoder: SpeechEncoder | None,
    manifest: Manifest,
    *,
    label: str,
    positive: str,
    negative: str | None = None,
    subject: str = "speaker",
    num_folds: int | None = None,
    fold_column: str | None = None,
    split: str | None = None,
    segment_s: float | None = None,
    silence_control: bool = True,
    vad: str | VAD = "energy",
    min_silence_s: float = 0.5,
    control_folder: str | None = None,
    age: str = "age",
    sex: str = "sex",
    classifier: SubjectClassifier | None = None,
    seed: int = 0,
    num_resamples: int = 1000,
    **options: Any,
) -> ClinicalReport:
    """Tell two classes of people apart by their recordings, and check whether it was their speech that told.

    Args:
        encoder: embeds the segments, frozen; None where `classifier` is given.
        manifest: recordings; rows where `label` or `subject` is blank are left out and listed.
        label: column of the classes.
        positive: the value that sensitivity, F1 and AUC speak of, told from `negative` (None: all others).
        subject: column of the people, whom no fold may split.
        num_folds: of a stratified cross-validation; None: 5, or fewer where a class has fewer people.
        fold_column: column with folds as published, instead.
        split: column with an official split ("train", "test"), instead.
        segment_s: cut recordings into segments of so many seconds; None: one segment per recording.
        silence_control: judge the non-speech parts, too.
        vad: how speech is found: "energy", "range", or a rule of your own.
        min_silence_s: recordings with less non-speech are left out of the control.
        control_folder: keep the non-speech parts here, for another encoder's turn; None: they are removed.
        age: column of the ages in years, used where it is there; likewise `sex`.
        classifier: learns and judges instead of the probe on embeddings (see `SubjectClassifier`).
        seed: of folds, probes and intervals, which rest on `num_resamples` draws.
        options: passed to `embed_files` (`batch_s`, `num_workers`, `progress`).

    Raises:
        InputError: no such column or value, a person with two classes or on both sides, or too few people.
    """
    if encoder is not None and classifier is None:
        classifier = EmbeddingProbe(encoder, subject=subject, seed=seed, **options)
    elif encoder is not None or classifier is None:
        raise InputError("give either an encoder or a classifier")
    subjects, left_out = find_subjects(manifest, label=label, positive=positive, negative=negative, subject=subject)
    folds = make_folds(subjects, num_folds=num_folds, fold_column=fold_column, split=split, seed=seed)
    control = {"folder": control_folder, "vad": vad, "min_s": min_silence_s, "progress": options.get("progress", False)}
    bootstrap = {"num_resamples": num_resamples, "seed": seed}
    found = _answers(classifier, subjects, folds, segment_s, control if silence_control else None, bootstrap)
    found |= _balance(subjects, found["scores"], {True: positive, False: negative}, age, sex)
    found |= {"provenance": provenance(seed=seed, manifest=manifest.paths), "split": split or fold_column}
    return ClinicalReport(**found, skipped=left_out + found["scores"].skipped)


def _answers(
    judge: SubjectClassifier,
    subjects: Subjects,
    folds: list[SubjectFold],
    segment_s: float | None,
    control: dict[str, Any] | None,
    bootstrap: dict[str, Any],
) -> dict[str, Any]:
    """What the recordings tell, what their silence does, and what their length does."""
    segments = replace(subjects, manifest=cut(subjects.manifest, segment_s))
    scores = score_subjects(judge, segments, folds, run="recordings")
    silence = None
    if control is not None:
        silence = control_silence(judge, subjects, folds, scores, segment_s=segment_s, bootstrap=bootstrap, **control)
    return {
        "scores": scores,
        "result": subject_result(scores, **bootstrap),
        "silence": silence,
        "duration": trivial_score(_durations(subjects), scores, **bootstrap),
        "num_folds": len(folds),
        "label": subjects.label,
        "segment_s": segment_s,
    }


def _balance(
    subjects: Subjects, scores: SubjectScores, classes: dict[bool, str | None], age: str, sex: str
) -> dict[str, Any]:
    """The names of the classes, and how these differ in age and sex, in all and in each fold."""
    people = people_table(subjects.manifest, scores.names, scores.positive, subject=subjects.column, age=age, sex=sex)
    others = sorted(set(subjects.manifest.label(subjects.label)) - {classes[True]})
    names = {True: str(classes[True]), False: classes[False] or "/".join(others)}
    return {
        "age": age_difference(people),
        "sex": sex_difference(people),
        "folds": fold_rows(people, scores.folds, names),
        "positive": names[True],
        "negative": names[False],
    }


def _durations(subjects: Subjects) -> dict[str, float]:
    """Person -> seconds of all the person's recordings."""
    found = dict.fromkeys(subjects.names, 0.0)
    for row in subjects.manifest:
        found[row.labels[subjects.column]] += row.duration
    return found
