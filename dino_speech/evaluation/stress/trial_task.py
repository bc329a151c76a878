"""Scored trials as a stress test judges them: clean, and again with the test sides changed. Letters: `T` trials."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.trials import Trials, resolve
from dino_speech.data.utterances import Manifest, Skipped
from dino_speech.embedding.embedded_manifest import EmbeddedManifest, embed_manifest
from dino_speech.errors import InputError
from dino_speech.evaluation.stress.label_task import LabelTask, label_task
from dino_speech.evaluation.verification.evaluate import known_sides
from dino_speech.evaluation.verification.fitted_backend import usable_trials
from dino_speech.evaluation.verification.scoring import Backend, CosineBackend
from dino_speech.models.embed_files import Transform


@dataclass(frozen=True, eq=False)
class TrialTask:
    """Trials of speaker verification.

    Args:
        manifest: where the utterances are.
        enroll: (T,) positions of the enrolment sides in it.
        test: (T,) positions of the test sides.
        labels: (T,) 1 target, 0 non-target.
        sides: (T,) speakers of both sides, or None where not all are known.
        scores: (T,) from clean speech.
        skipped: utterances left out, and why.
        score_again: transform of the test sides -> (T,) scores, NaN where one cannot be judged, and those.
    """

    manifest: Manifest
    enroll: NDArray[np.int64]
    test: NDArray[np.int64]
    labels: NDArray[np.int8]
    sides: tuple[NDArray, NDArray] | None
    scores: NDArray[np.float32]
    skipped: list[Skipped]
    score_again: Callable[[Transform], tuple[NDArray[np.float32], list[Skipped]]] = field(repr=False)

    @property
    def metric(self) -> str:
        """Always "eer"."""
        return "eer"


def trial_task(
    model: Any,
    manifest: Manifest,
    trials: Trials,
    *,
    backend: Backend | None = None,
    speaker: str = "speaker",
    embedded: EmbeddedManifest | None = None,
    **options: Any,
) -> TrialTask:
    """Trials, scored by a fitted back-end (None: the cosine); only the test sides will be changed.

    The arguments are those of `evaluate_robustness`; of a fine-tuned system the encoder is taken.

    Raises:
        InputError: a name that the manifest lacks, or no target or no non-target left.
    """
    encoder = getattr(model, "encoder", model)
    scorer = CosineBackend() if backend is None else backend
    rows = np.unique(resolve(trials, manifest))
    clean = embed_manifest(encoder, manifest, rows=rows, embedded=embedded, **options)
    enroll, test, labels = usable_trials(trials, clean)

    def score(changed: NDArray) -> NDArray[np.float32]:
        both = scorer.project(np.concatenate([clean.embeddings, changed]))
        return both.score_pairs(enroll, test + len(manifest))

    def score_again(transform: Transform) -> tuple[NDArray[np.float32], list[Skipped]]:
        changed = embed_manifest(encoder, manifest, rows=np.unique(test), transform=transform, **options)
        return score(changed.embeddings), changed.skipped

    return TrialTask(
        manifest=manifest,
        enroll=enroll,
        test=test,
        labels=labels,
        sides=known_sides(manifest, enroll, test, speaker=speaker),
        scores=score(clean.embeddings),
        skipped=clean.skipped,
        score_again=score_again,
    )


def stress_task(
    model: Any,
    manifest: Manifest,
    *,
    label: str | None,
    labels: Sequence[str] | None,
    trials: Trials | None,
    backend: Backend | None,
    num_folds: int | None,
    seed: int,
    **options: Any,
) -> LabelTask | TrialTask:
    """What a stress test judges: trials, or labels.

    Raises:
        InputError: several of `label`, `labels` and `trials`, or what the evaluations refuse.
    """
    if sum(given is not None for given in (label, labels, trials)) > 1:
        raise InputError("give one of label (classes), labels (numbers) and trials")
    if trials is not None:
        return trial_task(model, manifest, trials, backend=backend, **options)
    return label_task(model, manifest, label=label, labels=labels, num_folds=num_folds, seed=seed, **options)
