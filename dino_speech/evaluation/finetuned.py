"""A fine-tuned system judged on recordings that it was not trained on: in the reports of frozen embeddings."""

from typing import Any

import numpy as np

from dino_speech.data.utterances import Manifest
from dino_speech.errors import InputError
from dino_speech.evaluation.classification import ClassificationReport, classification_report
from dino_speech.evaluation.regression import RegressionReport, regression_report
from dino_speech.provenance import provenance
from dino_speech.transfer.system import FineTunedSystem
from dino_speech.transfer.targets import Classes
from dino_speech.transfer.validation import true_labels


def evaluate_finetuned(
    system: FineTunedSystem,
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
        system: what `FineTuner.fit` or `load_finetuned` gives.
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
    targets = system.targets
    targets.of_rows(manifest)  # refused before the minutes of embedding
    predictions = system.predict(manifest, num_workers=num_workers, progress=progress)
    if len(predictions.ids) < 2:
        reasons = "; ".join(item.reason for item in predictions.skipped[:3])
        num_read = len(predictions.ids)
        raise InputError(f"{manifest.name}: {num_read} of {len(manifest)} recordings can be read ({reasons})")
    positions = manifest.by_id()
    speakers = np.array(predictions.ids)
    if speaker in manifest.columns and all(manifest.label(speaker)):
        speakers = np.array(manifest.label(speaker))[[positions[name] for name in predictions.ids]]
    true = true_labels(predictions, manifest, targets)
    common: dict[str, Any] = {
        "num_folds": 0,
        "skipped": predictions.skipped,
        "provenance": provenance(seed=seed, manifest=manifest.paths) | {"rule": predictions.rule},
        "seed": seed,
        "num_resamples": num_resamples,
    }
    if isinstance(targets, Classes):
        predicted = predictions.predicted
        return classification_report(true, predicted, speakers, label=targets.label, strengths=[], **common)
    return regression_report(
        true, predictions.values.astype(np.float64), speakers, labels=list(targets.names), strengths={}, **common
    )
