"""Numbers such as arousal and valence across corpora: learnt on one, judged on others that were recorded elsewhere.

Scales are made comparable before, by `data/scales.py`. Letters: `N` utterances, `D` embedding, `L` labels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dino_speech.data.utterances import Manifest
from dino_speech.errors import InputError
from dino_speech.evaluation.probing.classification import ClassificationReport
from dino_speech.evaluation.probing.finetuned import judge, pooled_report
from dino_speech.evaluation.probing.labelled_speech import labelled_speech
from dino_speech.evaluation.probing.probes import RidgeProbe
from dino_speech.evaluation.probing.regression import RegressionReport, regression_report
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.provenance import provenance
from dino_speech.transfer.audio_text.system import AudioTextSystem
from dino_speech.transfer.system import FineTunedSystem
from dino_speech.transfer.targets import Dimensions, check_speakers


def evaluate_cross_corpus(
    model: SpeechEncoder | FineTunedSystem | AudioTextSystem,
    tests: Mapping[str, Manifest],
    *,
    train: Manifest | None = None,
    labels: Sequence[str] | None = None,
    seed: int = 0,
    speaker: str = "speaker",
    num_resamples: int = 1000,
    **options: Any,
) -> dict[str, RegressionReport | ClassificationReport]:
    """Judge on whole corpora what was learnt on another one.

    Args:
        model: an encoder, on whose frozen embeddings a ridge regression is fitted to all of `train`; or a system, which
            has learnt already.
        tests: the other corpora by name. Of several dimensions each is judged by those that it has columns for; with
            their labels on the scale of what was learnt (see `rescale_labels`).
        train: for an encoder: what is learnt from.
        labels: for an encoder: the columns of numbers; for a system None: all that it says.
        seed: of inner folds and intervals.
        speaker: the column to resample by.
        num_resamples: of the bootstrap.
        options: passed to `embed_files` or `predict` (`num_workers`, `progress`).

    Returns:
        The report of each corpus; `num_folds` is 0: nothing is fitted on it.

    Raises:
        InputError: a corpus has none of the labels, or speakers of `train`; a cell is no number; what is missing here.
    """
    if not tests:
        raise InputError("no corpus to judge on; give one at least, by name")
    bootstrap = {"seed": seed, "num_resamples": num_resamples}
    if isinstance(model, SpeechEncoder):
        if train is None or not labels:
            raise InputError("an encoder learns first: give train, a manifest, and labels, its columns of numbers")
        return _probed(model, tests, train, list(labels), bootstrap, speaker=speaker, **options)
    known = list(model.targets.names) if isinstance(model.targets, Dimensions) else [model.targets.label]
    chosen = known if labels is None else list(labels)
    if unknown := sorted(set(chosen) - set(known)):
        raise InputError(f"the system says {', '.join(known)}; expected only these, found {unknown[0]!r}")
    shared = {name: shared_labels(test, chosen) for name, test in tests.items()}  # refused before any is embedded
    found = {}
    for name, test in tests.items():
        judged = judge(model, test, labels=shared[name], speaker=speaker, **options)
        found[name] = pooled_report([judged], provenance=provenance(seed=seed, manifest=test.paths), **bootstrap)
    return found


def shared_labels(manifest: Manifest, labels: Sequence[str]) -> list[str]:
    """Those of the labels that a corpus has columns for.

    Raises:
        InputError: it has none.
    """
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
    for test in tests.values():
        check_speakers(train, test, labels)
    numbers = np.array([train.numbers(name) for name in labels]).T
    data = labelled_speech(encoder, train, labels=labels, **options)
    probe = RidgeProbe(seed=bootstrap["seed"]).fit(data.embeddings, numbers[data.rows], data.speakers)
    found: dict[str, RegressionReport | ClassificationReport] = {}
    for name, test in tests.items():
        true = np.array([test.numbers(column) for column in shared[name]]).T
        judged = labelled_speech(encoder, test, labels=shared[name], **options)
        places = [labels.index(column) for column in shared[name]]
        found[name] = regression_report(
            true[judged.rows],
            probe.predict(judged.embeddings)[:, places],
            judged.speakers,
            labels=shared[name],
            num_folds=0,
            strengths={labels[i]: [float(probe.strengths_[i])] for i in places},
            skipped=judged.skipped,
            provenance=provenance(seed=bootstrap["seed"], manifest=[*train.paths, *test.paths]),
            **bootstrap,
        )
    return found
