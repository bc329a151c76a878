"""What was learnt elsewhere, judged on recordings that it has not heard: a fine-tuned system, or another corpus.

Scales of numbers are made comparable before, by `data/scales.py`. Letters: `N` recordings, `L` labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.folds import check_recordings, check_speakers, warn_once
from dino_speech.data.utterances import Manifest, Skipped, list_some
from dino_speech.errors import InputError
from dino_speech.evaluation.probing.classification import ClassificationReport, classification_report
from dino_speech.evaluation.probing.crossfit import LabelledSpeech, labelled_speech
from dino_speech.evaluation.probing.probes import LogisticProbe, RidgeProbe
from dino_speech.evaluation.probing.regression import RegressionReport, regression_report
from dino_speech.models.encoder import SpeechEncoder
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
    warnings: Sequence[str] = (),
    num_workers: int = 0,
    progress: bool = False,
) -> ClassificationReport | RegressionReport:
    """UAR, F1 and confusion, or CCC, with intervals over speakers; `num_folds` is 0: nothing is fitted here.

    Args:
        system: what `FineTuner.fit`, `load_finetuned` or `load_audio_text` gives.
        manifest: the test set; recordings that cannot be read are left out and listed.
        seed: of the bootstrap, like `num_resamples`.
        speaker: the column to resample by; where it is missing or has blanks, recordings are resampled one by one, and
            the report says so.
        warnings: what the report is to say besides, such as what `FineTuner.check_test` gave.
        num_workers: threads that read ahead.
        progress: show a bar on stderr.

    Raises:
        InputError: a label is blank, no number, or a class that the system does not know; too few recordings.
    """
    judged = judge(system, manifest, speaker=speaker, num_workers=num_workers, progress=progress)
    origin = provenance(seed=seed, manifest=manifest.paths)
    return pooled_report([judged], seed=seed, num_resamples=num_resamples, warnings=warnings, provenance=origin)


@dataclass(frozen=True, eq=False)
class Judged:
    """What a system says of N recordings, beside the truth."""

    targets: Targets
    ids: list[str]  # (N,)
    true: NDArray[Any]  # (N,) classes, or (N, L) numbers
    predicted: NDArray[Any]  # likewise
    speakers: NDArray[np.str_] | None  # (N,); None: not all are known
    skipped: list[Skipped]
    rule: str  # how a recording was decided on, in words


def judge(
    system: FineTunedSystem | AudioTextSystem,
    manifest: Manifest,
    *,
    labels: Sequence[str] | None = None,
    speaker: str = "speaker",
    **options: Any,
) -> Judged:
    """Let a system predict a test set; arguments and errors are those of `evaluate_finetuned`.

    Of a system that says dimensions, `labels` are those that are judged; None: all.
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
    speakers = None
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
    warnings: Sequence[str] = (),
) -> ClassificationReport | RegressionReport:
    """One report of what one system, or the system of each fold, said: figures are of all recordings together.

    The parts are of the same label or labels, and no recording is in two of them; `warnings` join the report's own.
    """
    targets = parts[0].targets
    true, predicted = (np.concatenate([getattr(part, name) for part in parts]) for name in ("true", "predicted"))
    known = [part.speakers for part in parts if part.speakers is not None]
    speakers = np.concatenate(known) if len(known) == len(parts) else None
    common: dict[str, Any] = {
        "num_folds": num_folds,
        "skipped": [item for part in parts for item in part.skipped],
        "provenance": {**provenance, "rule": parts[0].rule},
        "seed": seed,
        "num_resamples": num_resamples,
        "warnings": warnings,
    }
    if isinstance(targets, Classes):
        return classification_report(true, predicted, speakers, label=targets.label, strengths=[], **common)
    return regression_report(true, predicted, speakers, labels=list(targets.names), strengths={}, **common)


def evaluate_cross_corpus(
    model: SpeechEncoder | FineTunedSystem | AudioTextSystem,
    tests: Mapping[str, Manifest],
    *,
    train: Manifest | None = None,
    label: str | None = None,
    labels: Sequence[str] | None = None,
    seed: int = 0,
    speaker: str = "speaker",
    num_resamples: int = 1000,
    warnings: Mapping[str, Sequence[str]] | None = None,
    **options: Any,
) -> dict[str, RegressionReport | ClassificationReport]:
    """Judge on whole corpora, or the official test parts of one, what was learnt elsewhere.

    Args:
        model: an encoder, on whose frozen embeddings a linear probe is fitted to all of `train`; or a system, which has
            learnt already.
        tests: the other corpora by name. Of several dimensions each is judged by those that it has columns for; with
            their labels on the scale of what was learnt (see `rescale_labels`).
        train: for an encoder: what is learnt from; those whose speaker is blank count as one.
        label: for an encoder: the column of classes, or else
        labels: the columns of numbers; for a system None: all that it says.
        seed: of inner folds and intervals.
        speaker: the column to resample by (recordings, where it is missing or has blanks), and that `train` and the
            corpora may not share a value of.
        num_resamples: of the bootstrap.
        warnings: what a corpus' report is to say besides, by its name.
        options: passed to `embed_files` or `predict` (`num_workers`, `progress`).

    Returns:
        The report of each corpus; `num_folds` is 0: nothing is fitted on it.

    Raises:
        InputError: no corpus, or one without the labels, with a class that `train` has not, or with speakers or speech
            of `train`; a cell is no number.
    """
    if not tests:
        raise InputError("no corpus to judge on; give one at least, by name")
    bootstrap = {"seed": seed, "num_resamples": num_resamples}
    if isinstance(model, SpeechEncoder):
        if train is None or bool(label) == bool(labels):
            what = "its column of classes (label) or its columns of numbers (labels)"
            raise InputError(f"an encoder learns first: give train, a manifest, and {what}")
        if label:
            return _probed_classes(model, tests, train, label, bootstrap, speaker=speaker, **options)
        return _probed(model, tests, train, list(labels or []), bootstrap, speaker=speaker, **options)
    known = list(model.targets.names) if isinstance(model.targets, Dimensions) else [model.targets.label]
    chosen = known if labels is None else list(labels)
    if unknown := sorted(set(chosen) - set(known)):
        raise InputError(f"the system says {', '.join(known)}; expected only these, found {unknown[0]!r}")
    shared = {name: shared_labels(test, chosen) for name, test in tests.items()}  # refused before any is embedded
    found = {}
    for name, test in tests.items():
        judged = judge(model, test, labels=shared[name], speaker=speaker, **options)
        origin, said = provenance(seed=seed, manifest=test.paths), (warnings or {}).get(name, ())
        found[name] = pooled_report([judged], provenance=origin, warnings=said, **bootstrap)
    return found


def shared_labels(manifest: Manifest, labels: Sequence[str]) -> list[str]:
    """Those of the labels that a corpus has columns for, one at least."""
    found = [name for name in labels if name in manifest.columns]
    if not found:
        raise InputError(
            f"{manifest.name}: none of the columns {', '.join(labels)}; it has {', '.join(manifest.columns)}: say which"
            " of them is meant, such as columns: {valence: sentiment}"
        )
    return found


def _probed(
    encoder: SpeechEncoder,
    tests: Mapping[str, Manifest],
    train: Manifest,
    labels: list[str],
    bootstrap: dict[str, int],
    **options: Any,
) -> dict[str, RegressionReport | ClassificationReport]:
    """Each corpus by a ridge regression of the training corpus."""
    shared = {name: shared_labels(test, labels) for name, test in tests.items()}
    unchecked = _refuse_leaks(train, tests, labels, options["speaker"])
    numbers = np.array([train.numbers(name) for name in labels]).T
    data = labelled_speech(encoder, train, labels=labels, unknown_speakers=True, **options)
    probe = RidgeProbe(seed=bootstrap["seed"]).fit(data.embeddings, numbers[data.rows], data.speakers)
    found: dict[str, RegressionReport | ClassificationReport] = {}
    for name, test in tests.items():
        true = np.array([test.numbers(column) for column in shared[name]]).T
        judged = labelled_speech(encoder, test, labels=shared[name], unknown_speakers=True, **options)
        places = [labels.index(column) for column in shared[name]]
        found[name] = regression_report(
            true[judged.rows],
            probe.predict(judged.embeddings)[:, places],
            judged.known_speakers,
            labels=shared[name],
            strengths={labels[i]: [float(probe.strengths_[i])] for i in places},
            warnings=unchecked[name],
            **_origin(train, test, judged, bootstrap),
        )
    return found


def _probed_classes(
    encoder: SpeechEncoder,
    tests: Mapping[str, Manifest],
    train: Manifest,
    label: str,
    bootstrap: dict[str, int],
    **options: Any,
) -> dict[str, RegressionReport | ClassificationReport]:
    """Each corpus by a logistic regression of the training corpus."""
    known = set(train.label(label)) - {""}
    unchecked = _refuse_leaks(train, tests, [label], options["speaker"])
    for test in tests.values():
        if unknown := sorted(set(test.label(label)) - known - {""}):
            problem = f"{test.name}: column {label!r} has {list_some(unknown)}, which {train.name} has not"
            raise InputError(f"{problem}; select the classes that both have, such as emotion=angry,sad")
    if len(known) < 2:
        raise InputError(f"{train.name}: column {label!r} holds {sorted(known)}; expected two classes at least")
    data = labelled_speech(encoder, train, labels=[label], unknown_speakers=True, **options)
    probe = LogisticProbe(seed=bootstrap["seed"]).fit(data.embeddings, data.values[:, 0], data.speakers)
    found: dict[str, RegressionReport | ClassificationReport] = {}
    for name, test in tests.items():
        judged = labelled_speech(encoder, test, labels=[label], unknown_speakers=True, **options)
        found[name] = classification_report(
            judged.values[:, 0],
            probe.predict(judged.embeddings),
            judged.known_speakers,
            label=label,
            strengths=[probe.strength_],
            warnings=unchecked[name],
            **_origin(train, test, judged, bootstrap),
        )
    return found


def _refuse_leaks(
    train: Manifest, tests: Mapping[str, Manifest], labels: Sequence[str], speaker: str
) -> dict[str, list[str]]:
    """Refuse corpora that share speakers or speech with what is learnt from; what could not be looked at, by corpus."""
    found = {name: warn_once(check_speakers(train, test, labels, speaker=speaker)) for name, test in tests.items()}
    for test in tests.values():
        check_recordings(train, test)
    return found


def _origin(train: Manifest, test: Manifest, judged: LabelledSpeech, bootstrap: dict[str, int]) -> dict[str, Any]:
    """What a report says of where it comes from: nothing is fitted on the corpus that is judged."""
    come_from = provenance(seed=bootstrap["seed"], manifest=[*train.paths, *test.paths])
    return {"num_folds": 0, "skipped": judged.skipped, "provenance": come_from, **bootstrap}
