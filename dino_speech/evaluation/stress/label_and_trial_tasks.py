"""What a stress test judges: labels or trials, from clean speech and again from speech that a transform has changed.

What is learnt is learnt from clean speech, once; of trials only the test sides are changed. Letters: `N` utterances,
`L` labels, `D` embedding, `T` trials.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.trials import Trials, known_sides, resolve
from dino_speech.data.utterances import Manifest, Skipped
from dino_speech.embedding.embedded_manifest import EmbeddedManifest, embed_manifest
from dino_speech.errors import InputError
from dino_speech.evaluation.probing.crossfit import cross_fit
from dino_speech.evaluation.verification.fitted_backend import usable_trials
from dino_speech.evaluation.verification.scoring import Backend, CosineBackend
from dino_speech.intervals import CORRELATION, PERCENT, SHARE, sample_of
from dino_speech.metrics import ccc, uar
from dino_speech.models.embed_files import Transform

Numbers = NDArray[np.float64]
METRICS = {"uar": uar, "ccc": ccc}
BOUNDS = {"uar": SHARE, "ccc": CORRELATION, "eer": PERCENT}


@dataclass(frozen=True, eq=False)
class LabelTask:
    """Classes or numbers, predicted from speech of speakers that were not trained on."""

    metric: str  # "uar" or "ccc"
    labels: list[str]  # L columns; one for "uar"
    classes: list[str]  # of which `true` and `predicted` are the numbers; empty for "ccc"
    manifest: Manifest
    rows: NDArray[np.int64]  # (N,) positions in the manifest
    speakers: NDArray[np.str_]
    true: Numbers  # (N, L)
    predicted: Numbers  # (N, L) from clean speech
    num_folds: int  # of the probes; 0: a system, to which nothing was fitted
    skipped: list[Skipped]
    predict_again: Callable[[Transform], tuple[Numbers, list[Skipped]]] = field(repr=False)

    @property
    def sample(self) -> dict[str, Any]:
        """Whom the intervals rest on, for a report."""
        return sample_of(self.speakers)

    @property
    def figures(self) -> list[str]:
        """Names of the figures: "uar", or the labels."""
        return ["uar"] if self.metric == "uar" else self.labels

    def column(self, name: str) -> NDArray[np.str_]:
        """(N,) one more column of the manifest."""
        return np.array(self.manifest.label(name))[self.rows]


def label_task(
    model: Any,
    manifest: Manifest,
    *,
    label: str | None = None,
    labels: Sequence[str] | None = None,
    speaker: str = "speaker",
    num_folds: int | None = None,
    seed: int = 0,
    embedded: EmbeddedManifest | None = None,
    **options: Any,
) -> LabelTask:
    """Labels of a manifest, predicted by linear probes in speaker-disjoint folds, or by a fine-tuned system.

    Arguments and errors are those of `evaluate_robustness`; `model` may be None with `embedded`.
    """
    if hasattr(model, "predict"):
        return _of_system(model, manifest, label, labels, speaker, options)
    if (label is None) == (labels is None):
        raise InputError("give either a label (classes) or labels (numbers)")
    folds: dict[str, Any] = {"speaker": speaker, "num_folds": num_folds, "seed": seed, "embedded": embedded}
    fit = cross_fit(model, manifest, label=label, labels=labels or (), **folds, **options)

    def predict_again(transform: Transform) -> tuple[Numbers, list[Skipped]]:
        changed = embed_manifest(model, manifest, rows=fit.data.rows, transform=transform, **options)
        return fit.predict(changed.embeddings[fit.data.rows]), changed.skipped

    return LabelTask(
        metric="ccc" if label is None else "uar",
        labels=fit.labels,
        classes=fit.classes.tolist(),
        manifest=manifest,
        rows=fit.data.rows,
        speakers=fit.data.speakers,
        true=fit.true,
        predicted=fit.predict(),
        num_folds=len(fit.folds),
        skipped=fit.data.skipped,
        predict_again=predict_again,
    )


def _of_system(
    system: Any, manifest: Manifest, label: str | None, labels: Sequence[str] | None, speaker: str, options: Any
) -> LabelTask:
    """The task of a fine-tuned system: nothing is fitted."""
    categorical = bool(system.classes)
    known = [system.targets.label] if categorical else list(system.targets.names)
    columns = [label] if label is not None else known if labels is None else list(labels)
    if set(columns) - set(known):
        raise InputError(f"the system predicts {', '.join(known)}; expected only these, found {', '.join(columns)}")
    cells = np.array([manifest.label(name) for name in [*columns, speaker]]).T
    named = (cells != "").all(axis=1)
    skipped = [Skipped(manifest[i].id, "a label or the speaker is blank") for i in np.flatnonzero(~named).tolist()]
    positions = manifest.by_id()
    classes = sorted({*system.classes, *cells[named, 0].tolist()}) if categorical else []
    numbers = None if categorical else np.array([manifest.numbers(name) for name in columns]).T

    def predict(transform: Transform | None) -> tuple[Numbers, list[Skipped]]:
        found = system.predict(manifest.subset(np.flatnonzero(named).tolist()), transform=transform, **options)
        predicted = np.full((len(manifest), len(columns)), np.nan)
        heard = [positions[name] for name in found.ids]
        if categorical:
            predicted[heard, 0] = np.searchsorted(classes, found.labels)
        else:
            predicted[heard] = found.values[:, [found.dimensions.index(name) for name in columns]]
        return predicted, found.skipped

    clean, failures = predict(None)
    rows = np.flatnonzero(named & ~np.isnan(clean).any(axis=1))
    if rows.size < 2:
        raise InputError(f"{manifest.name}: {rows.size} of {len(manifest)} recordings have labels and can be read")

    def predict_again(transform: Transform) -> tuple[Numbers, list[Skipped]]:
        changed, unread = predict(transform)
        return changed[rows], unread

    true = np.searchsorted(classes, cells[rows, :1]).astype(np.float64) if numbers is None else numbers[rows]
    return LabelTask(
        metric="uar" if categorical else "ccc",
        labels=columns,
        classes=classes,
        manifest=manifest,
        rows=rows,
        speakers=cells[rows, -1],
        true=true,
        predicted=clean[rows],
        num_folds=0,
        skipped=skipped + failures,
        predict_again=predict_again,
    )


@dataclass(frozen=True, eq=False)
class TrialTask:
    """Trials of speaker verification."""

    manifest: Manifest
    enroll: NDArray[np.int64]  # (T,) positions of the enrolment sides in the manifest
    test: NDArray[np.int64]  # (T,) of the test sides
    labels: NDArray[np.int8]  # (T,) 1 target, 0 non-target
    sides: tuple[NDArray, NDArray] | None  # (T,) speakers of both; None: not all are known
    scores: NDArray[np.float32]  # (T,) from clean speech
    skipped: list[Skipped]
    score_again: Callable[[Transform], tuple[NDArray[np.float32], list[Skipped]]] = field(repr=False)
    metric = "eer"

    @property
    def sample(self) -> dict[str, Any]:
        """Whom the intervals rest on, for a report."""
        return sample_of(None if self.sides is None else np.concatenate(self.sides), unknown="trials")


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

    Arguments and errors are those of `evaluate_robustness`; of a fine-tuned system the encoder is taken.
    """
    encoder = getattr(model, "encoder", model)
    scorer = CosineBackend() if backend is None else backend
    rows = np.unique(resolve(trials, manifest))
    clean = embed_manifest(encoder, manifest, rows=rows, embedded=embedded, **options)
    enroll, test, labels, _ = usable_trials(trials, clean)

    def score(changed: NDArray) -> NDArray[np.float32]:
        both = scorer.project(np.concatenate([clean.embeddings, changed]))
        return both.score_pairs(enroll, test + len(manifest))

    def score_again(transform: Transform) -> tuple[NDArray[np.float32], list[Skipped]]:
        changed = embed_manifest(encoder, manifest, rows=np.unique(test), transform=transform, **options)
        return score(changed.embeddings), changed.skipped

    known = known_sides(manifest, enroll, test, speaker=speaker)
    return TrialTask(
        manifest=manifest,
        enroll=enroll,
        test=test,
        labels=labels,
        sides=None if known is None else (known[0][known[1]], known[0][known[2]]),
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
    """What a stress test judges: trials, or labels."""
    if sum(given is not None for given in (label, labels, trials)) > 1:
        raise InputError("give one of label (classes), labels (numbers) and trials")
    if trials is not None:
        return trial_task(model, manifest, trials, backend=backend, **options)
    return label_task(model, manifest, label=label, labels=labels, num_folds=num_folds, seed=seed, **options)
