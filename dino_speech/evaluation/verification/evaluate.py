"""Speaker verification: does an encoder put two utterances of one speaker closer than two of different speakers?

Each utterance of the trials is embedded once, a trial's score is a cosine (or what a back-end learnt from other speech
makes of it: see `fitted_backend.py`), and everything reported is read off one sorted list. Bad audio never changes a
result in silence: it is listed, and so are the trials it takes along.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.trials import Trials, known_sides, trials_within
from dino_speech.data.utterances import Manifest
from dino_speech.embedding.embedded_manifest import EmbeddedManifest, embed_manifest
from dino_speech.evaluation.verification.calibration import P_TARGET
from dino_speech.evaluation.verification.enrolment import Models, enrolled, heard_rows, with_models
from dino_speech.evaluation.verification.fitted_backend import (
    BackendOptions,
    FittedBackend,
    Material,
    calibrated,
    fit_backend,
    manifest_of,
    refuse_shared,
    usable_trials,
)
from dino_speech.evaluation.verification.report import VerificationReport
from dino_speech.evaluation.verification.scoring import Backend
from dino_speech.intervals import PERCENT, SHARE, Bounds, bootstrap_trials, sample_of
from dino_speech.metrics import DetCurve, det_curve, min_cllr
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.provenance import provenance, sha256

NUM_RESAMPLES = 1000
MAX_RESAMPLED = 200_000_000  # trials times resamples: a minute or so


def evaluate_verification(
    encoder: SpeechEncoder | None,
    manifest: Manifest,
    trials: Trials,
    *,
    enrolment: Models | None = None,
    embedded: EmbeddedManifest | None = None,
    mean: NDArray | None = None,
    backend: str | Backend = "cosine",
    train: Material | None = None,
    score_norm: str | None = None,
    cohort: Material | None = None,
    top: int | None = None,
    calibration: tuple[Trials, Material] | None = None,
    quality: Sequence[str] = (),
    p_target: float = P_TARGET,
    group_by: str | None = None,
    num_resamples: int | None = None,
    seed: int = 0,
    **options: Any,
) -> VerificationReport:
    """Score trials and measure them.

    Args:
        encoder: embeds the utterances of the trials; None where `embedded`, embeddings of this manifest, is given.
        manifest: names the audio; with a `speaker` for all of it, intervals resample speakers.
        trials: whose names are IDs or paths of the manifest.
        enrolment: model -> its utterances; the enrolment side of the trials then names models (see `enrolment.py`).
        mean: (D,) subtracted from every embedding; take it from other utterances, such as the training set.
        backend: "cosine"; "cosine_mean", less the mean of `train`; "plda"; or a back-end: a `PLDA`, fitted or not.
        train: utterances (or their embeddings) to fit the back-end on; for PLDA with the column `speaker`.
        score_norm: None, or "z", "t", "s", "as" (see `scoring.py`).
        cohort: utterances of strangers for it, averaged by `speaker` where these are known; None: `train`.
        top: speakers of the cohort, for "as"; None: 300.
        calibration: trials and their utterances, from which scores become log-likelihood ratios.
        quality: what it weighs beside the score: "duration", "norm" (of the embedding), "cohort" (mean cohort score).
        p_target: prior of a target for the calibration and its `act_dcf`.
        group_by: a column, to report one EER per value, of the trials with both sides in it.
        num_resamples: of the bootstrap, as `seed`; None: 1000, fewer (100 at least) beyond 200,000 trials.
        options: of `embed_files` (`batch_s`, `num_workers`, `progress`).

    Raises:
        InputError: unknown names or columns, trials of one kind only, options that do not fit, or a leak of speakers.
    """
    chosen = BackendOptions(backend, mean, train, score_norm, cohort, top, calibration, quality, p_target)
    _ = None if group_by is None else manifest.label(group_by)  # refused before the minutes of embedding
    models, rows = heard_rows(enrolment, trials, manifest)
    unknown = refuse_shared(manifest.subset(rows.tolist()), chosen)
    embedded = with_models(embed_manifest(encoder, manifest, rows=rows, embedded=embedded, **options), models)
    enroll, test, labels, kept = usable_trials(trials if models is None else enrolled(trials), embedded)
    fitted = fit_backend(chosen, lambda material, rows: _embed(encoder, material, rows, options))
    scores, found = calibrated(fitted, fitted.score(embedded, enroll, test), labels)
    return VerificationReport(
        **_figures(scores, labels, enroll, test, trials, kept),
        **_spreads(scores, labels, (embedded.manifest, enroll, test), fitted, found, unknown, num_resamples, seed),
        **_by_group(scores, labels, embedded.manifest, group_by, enroll, test),
        **fitted.describe(),
        skipped=[*embedded.skipped, *fitted.skipped],
        provenance=_origin(seed, manifest, trials, chosen),
    )


def _embed(
    encoder: SpeechEncoder | None, material: Material, rows: NDArray | None, options: dict[str, Any]
) -> EmbeddedManifest:
    known = material if isinstance(material, EmbeddedManifest) else None
    return embed_manifest(encoder, manifest_of(material), rows=rows, embedded=known, **options)


def _figures(
    scores: NDArray, labels: NDArray, enroll: NDArray, test: NDArray, given: Trials, kept: NDArray
) -> dict[str, Any]:
    """What is read off the one sorted list, and how much was heard of what was given."""
    curve = det_curve(scores, labels)
    return {
        "eer": curve.eer(),
        "min_dcf": curve.min_dcf(p_target=0.01),
        "num_trials": len(scores),
        "min_dcf_05": curve.min_dcf(p_target=0.05),
        "min_cllr": min_cllr(scores, labels),
        "eer_threshold": curve.eer_threshold(),
        "num_targets": int(labels.sum()),
        "scores": scores,
        "labels": labels,
        "num_utterances": np.unique([enroll, test]).size,
        "num_dropped_trials": len(given) - len(labels),
        "trials": given.subset(kept.tolist()),
    }


def _spreads(
    scores: NDArray,
    labels: NDArray,
    trials: tuple[Manifest, NDArray, NDArray],
    fitted: FittedBackend,
    calibration: dict[str, Any] | None,
    unknown: list[str],
    num_resamples: int | None,
    seed: int,
) -> dict[str, Any]:
    """Intervals of EER and minDCF, and of what judges the calibration, which gets them; and what was resampled."""
    judge = {} if fitted.calibration is None else fitted.calibration.statistics()
    known = known_sides(*trials)
    num = min(NUM_RESAMPLES, max(100, MAX_RESAMPLED // len(scores))) if num_resamples is None else num_resamples
    statistics: dict[tuple[str, bool], Callable[[DetCurve], float]] = {
        **{("eer", False): DetCurve.eer, ("min_dcf", False): DetCurve.min_dcf},
        **{(name, True): statistic for name, statistic in judge.items()},
    }
    sides = (None, None) if known is None else known[1:]
    bounds: dict[tuple[str, bool], Bounds] = {name: SHARE for name in statistics if name[0] == "min_dcf"}
    bounds["eer", False] = PERCENT
    if calibration:  # decisions made at a fixed point can cost more than deciding blindly
        bounds["act_dcf", True] = (0.0, 1 / min(calibration["p_target"], 1 - calibration["p_target"]))
    options: dict[str, Any] = {"bounds": bounds, "num_resamples": num, "seed": seed}
    found = bootstrap_trials(statistics, scores, labels, *sides, **options)
    speakers = None if known is None else known[0][np.unique(known[1:])]
    return {
        "eer_interval": found["eer", False],
        "min_dcf_interval": found["min_dcf", False],
        **sample_of(speakers, unknown="trials", warnings=unknown),
        "calibration": calibration and {**calibration, "intervals": {name: found[name, True] for name in judge}},
    }


def _by_group(
    scores: NDArray, labels: NDArray, manifest: Manifest, column: str | None, *sides: NDArray
) -> dict[str, Any]:
    """EER and number of trials per group; NaN where they are of one kind."""
    inside = {} if column is None else trials_within(np.array(manifest.label(column)), *sides)
    eers = {
        name: det_curve(scores[rows], labels[rows]).eer() if np.unique(labels[rows]).size == 2 else float("nan")
        for name, rows in inside.items()
    }
    return {"groups": eers, "group_trials": {name: rows.size for name, rows in inside.items()}}


def _origin(seed: int, manifest: Manifest, trials: Trials, options: BackendOptions) -> dict[str, Any]:
    paths = dict.fromkeys([*manifest.paths, *(p for other in options.materials().values() for p in other.paths)])
    lists = {"trials": trials} | ({"calibration_trials": options.calibration[0]} if options.calibration else {})
    return provenance(seed=seed, manifest=list(paths)) | {
        name: {"path": one.path, "sha256": sha256(one.path) if one.path else None} for name, one in lists.items()
    }
