"""A fine-tuned system judged on recordings that it was not trained on: in the reports of frozen embeddings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.utterances import Manifest, Skipped
from dino_speech.errors import InputError
from dino_speech.evaluation.probing.classification import ClassificationReport, classification_report
from dino_speech.evaluation.probing.regression import RegressionReport, regression_report
from dino_speech.provenance import provenance
from dino_speech.transfer.audio_text.system import AudioTextSystem
from dino_speech.transfer.system import FineTunedSystem
from dino_speech.transfer.targets import Classes, Dimensions, Targets
from dino_speech.transfer.validation import true_labels


def evaluate_finetuned(
    system: FineTunedSystem | AudioTextSystem,
    manifest: Manifest,
    *,
    seed: int = 0,
    speaker: str = "speaker",
    num_resamples: int = 1000,
    num_workers: int = 0,
    progress: bool = False,
) -> ClassificationReport | RegressionReport:
    """UAR, F1 and confusion, or CCC, with intervals over speakers; `num_folds` is 0: nothing is fitted here.

    Args:
        system: what `FineTuner.fit`, `load_finetuned` or `load_audio_text` gives.
        manifest: the test set; recordings that cannot be read are left out and listed.
        seed: of the bootstrap.
        speaker: the column to resample by; where it is missing or has blanks, recordings are resampled one by one, and
            the intervals are too narrow.
        num_resamples: of the bootstrap.
        num_workers: threads that read ahead.
        progress: show a bar on stderr.

    Raises:
        InputError: a label is blank, no number, or a class that the system does not know; too few recordings.
    """
    judged = judge(system, manifest, speaker=speaker, num_workers=num_workers, progress=progress)
    return pooled_report(
        [judged], seed=seed, num_resamples=num_resamples, provenance=provenance(seed=seed, manifest=manifest.paths)
    )


@dataclass(frozen=True, eq=False)
class Judged:
    """What a system says of N recordings, beside the truth.

    Args:
        targets: what the system was trained to say.
        ids: (N,) names.
        true: (N,) classes, or (N, L) numbers.
        predicted: likewise.
        speakers: (N,); the names, where the speakers are not known.
        skipped: recordings left out, and why.
        rule: how a recording was decided on, in words.
    """

    targets: Targets
    ids: list[str]
    true: NDArray[Any]
    predicted: NDArray[Any]
    speakers: NDArray[np.str_]
    skipped: list[Skipped]
    rule: str


def judge(
    system: FineTunedSystem | AudioTextSystem,
    manifest: Manifest,
    *,
    labels: Sequence[str] | None = None,
    speaker: str = "speaker",
    **options: Any,
) -> Judged:
    """Let a system predict a test set; the arguments are those of `evaluate_finetuned`.

    Of a system that says dimensions, `labels` are those that are judged; None: all.

    Raises:
        InputError: a label is blank, no number, or a class that the system does not know; too few recordings.
    """
    targets = system.targets
    if labels is not None and isinstance(targets, Dimensions):
        targets = targets.only(labels)
    targets.of_rows(manifest)  # refused before the minutes of embedding
    predictions = system.predict(manifest, **options)
    if len(predictions.ids) < 2:
        reasons = "; ".join(item.reason for item in predictions.skipped[:3])
        num_read = len(predictions.ids)
        raise InputError(f"{manifest.name}: {num_read} of {len(manifest)} recordings can be read ({reasons})")
    positions = manifest.by_id()
    speakers = np.array(predictions.ids)
    if speaker in manifest.columns and all(manifest.label(speaker)):
        speakers = np.array(manifest.label(speaker))[[positions[name] for name in predictions.ids]]
    predicted: NDArray[Any] = predictions.predicted
    if isinstance(targets, Dimensions):
        places = [predictions.dimensions.index(name) for name in targets.names]
        predicted = predictions.values[:, places].astype(np.float64)
    return Judged(
        targets=targets,
        ids=predictions.ids,
        true=true_labels(predictions, manifest, targets),
        predicted=predicted,
        speakers=speakers,
        skipped=predictions.skipped,
        rule=predictions.rule,
    )


def pooled_report(
    parts: Sequence[Judged],
    *,
    provenance: Mapping[str, Any],
    num_folds: int = 0,
    num_resamples: int = 1000,
    seed: int = 0,
) -> ClassificationReport | RegressionReport:
    """One report of what one system, or the system of each fold, said: figures are of all recordings together.

    Args:
        parts: of the same label or labels, at least one; no recording in two of them.
        provenance: versions, seed, manifest.
        num_folds: 0: one system, nothing was fitted here.
        num_resamples: of the bootstrap, like `seed`.
        seed: see there.
    """
    targets = parts[0].targets
    true, predicted, speakers = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("true", "predicted", "speakers")
    )
    common: dict[str, Any] = {
        "num_folds": num_folds,
        "skipped": [item for part in parts for item in part.skipped],
        "provenance": {**provenance, "rule": parts[0].rule},
        "seed": seed,
        "num_resamples": num_resamples,
    }
    if isinstance(targets, Classes):
        return classification_report(true, predicted, speakers, label=targets.label, strengths=[], **common)
    return regression_report(true, predicted, speakers, labels=list(targets.names), strengths={}, **common)
