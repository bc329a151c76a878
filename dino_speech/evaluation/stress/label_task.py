"""What a stress test judges: labels predicted for unheard speakers, from clean speech and again from changed speech.

A task holds what is true and what was predicted from clean speech, and can predict again from speech that a transform
has changed. What is learnt is learnt from clean speech, once. Letters: `N` utterances, `L` labels, `D` embedding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.utterances import Manifest, Skipped
from dino_speech.embedding.embedded_manifest import EmbeddedManifest, embed_manifest
from dino_speech.errors import InputError
from dino_speech.evaluation.probing.crossfit import cross_fit
from dino_speech.metrics import ccc, uar
from dino_speech.models.embed_files import Transform

Numbers = NDArray[np.float64]
METRICS = {"uar": uar, "ccc": ccc}


@dataclass(frozen=True, eq=False)
class LabelTask:
    """Classes or numbers, predicted from speech of speakers that were not trained on.

    Args:
        metric: "uar" or "ccc".
        labels: the L columns; one for "uar".
        classes: of which `true` and `predicted` (N, L) are the numbers; empty for "ccc".
        manifest: where the utterances are.
        rows: (N,) their positions in it.
        speakers: (N,).
        true: (N, L).
        predicted: (N, L) from clean speech.
        num_folds: of the probes; 0: a system, to which nothing was fitted.
        skipped: utterances left out, and why.
        predict_again: transform -> (N, L) predictions, NaN where the changed speech cannot be judged, and those.
    """

    metric: str
    labels: list[str]
    classes: list[str]
    manifest: Manifest
    rows: NDArray[np.int64]
    speakers: NDArray[np.str_]
    true: Numbers
    predicted: Numbers
    num_folds: int
    skipped: list[Skipped]
    predict_again: Callable[[Transform], tuple[Numbers, list[Skipped]]] = field(repr=False)

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

    The arguments are those of `evaluate_robustness`; `model` may be None with `embedded`.

    Raises:
        InputError: both or neither of `label` and `labels`, or what the evaluations refuse.
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
