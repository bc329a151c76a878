"""Speaker verification: does an encoder put two utterances of one speaker closer than two of different speakers?

Each utterance of the trials is embedded once, a trial's score is a cosine (or what a back-end learnt from other speech
makes of it: see `fitted_backend.py`), and everything reported is read off one sorted list. Bad audio never changes a
result in silence: it is listed, and so are the trials it takes along.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.trials import Trials, resolve
from dino_speech.data.utterances import Manifest, Skipped
from dino_speech.embedding.embedded_manifest import EmbeddedManifest, embed_manifest
from dino_speech.evaluation.verification.calibration import P_TARGET
from dino_speech.evaluation.verification.fitted_backend import (
    BackendOptions,
    Material,
    calibrated,
    fit_backend,
    manifest_of,
    refuse_leaks,
    usable_trials,
)
from dino_speech.evaluation.verification.scoring import Backend, cosine_scores
from dino_speech.intervals import Interval, bootstrap_trials
from dino_speech.metrics import DetCurve, det_curve, min_cllr
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.plain_data import PlainData
from dino_speech.provenance import provenance, sha256

NUM_RESAMPLES = 1000
MAX_RESAMPLED = 200_000_000  # trials times resamples: a minute or so


@dataclass(frozen=True, eq=False)
class VerificationReport(PlainData):
    """What `evaluate_verification` found. `eer` and its intervals are in percent; min_dcf is normalised.

    Args:
        eer: equal error rate.
        min_dcf: at p_target = 0.01, costs 1 and 1.
        num_trials: trials that were scored.
        min_dcf_05: at p_target = 0.05.
        min_cllr: bits; 1 is useless.
        eer_threshold: accept at or above it to work near the EER; chosen on these trials, so only a starting point.
        eer_interval: 95 %.
        min_dcf_interval: 95 %.
        resampled: "speakers", or "trials" where the manifest does not name all speakers (then too narrow).
        num_targets: of the scored trials.
        num_utterances: embedded.
        num_dropped_trials: not scored, because audio on one side was skipped.
        skipped: that audio, and why; also audio of the training, cohort and calibration material.
        backend: what made the scores: `name`, and what it was fitted on.
        score_norm: `kind`, `num_cohort` and `top`, or None.
        calibration: None, or `p_target`, `weights` (of the score and the quality inputs), `offset`, `quality`, and
            `cllr`, `act_dcf`, `cllr_before`, `act_dcf_before` on these trials. The scores are then natural-log
            likelihood ratios.
        groups: EER of the trials whose enrolment side is in each group; NaN where a group has one kind of trial only.
        group_trials: how many trials each group has.
        scores: (num_trials,) in the order of the list, dropped ones left out.
        labels: (num_trials,) 1 target, 0 non-target.
    """

    eer: float
    min_dcf: float
    num_trials: int
    min_dcf_05: float
    min_cllr: float
    eer_threshold: float
    eer_interval: Interval
    min_dcf_interval: Interval
    resampled: str
    num_targets: int
    num_utterances: int
    num_dropped_trials: int
    skipped: list[Skipped]
    backend: dict[str, Any]
    score_norm: dict[str, Any] | None
    calibration: dict[str, Any] | None
    groups: dict[str, float]
    group_trials: dict[str, int]
    scores: NDArray[np.float32] = field(repr=False)
    labels: NDArray[np.int8] = field(repr=False)
    provenance: dict[str, Any] = field(repr=False)

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Heading -> rows, for a report."""
        row = {
            "EER in %": self.eer,
            "EER, 95 %": self.eer_interval,
            "minDCF(0.01)": self.min_dcf,
            "minDCF(0.05)": self.min_dcf_05,
            "min Cllr": self.min_cllr,
            "trials": self.num_trials,
            "back-end": self.backend["name"],
            "score norm": self.score_norm["kind"] if self.score_norm else None,
            **({key: self.calibration[key] for key in ("cllr", "act_dcf")} if self.calibration else {}),
        }
        groups = [{"group": k, "EER in %": eer, "trials": self.group_trials[k]} for k, eer in self.groups.items()]
        return {"Results": [row], "By group": groups}


def evaluate_verification(
    encoder: SpeechEncoder | None,
    manifest: Manifest,
    trials: Trials,
    *,
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
        encoder: embeds the utterances of the trials; None where `embedded` is given.
        manifest: names the audio; with a `speaker` for all of it, intervals resample speakers.
        trials: whose names are IDs or paths of the manifest.
        embedded: embeddings of this very manifest, to use instead of the encoder.
        mean: (D,) subtracted from every embedding; take it from other utterances, such as the training set.
        backend: "cosine"; "cosine_mean", less the mean of `train`; "plda", learnt from the `speaker` column of `train`;
            or a back-end: a fitted `PLDA`, or one to be fitted.
        train: utterances (or their embeddings) to fit the back-end on.
        score_norm: None, or "z", "t", "s", "as" (see `score_norm.py`).
        cohort: utterances of strangers for it; None: `train`.
        top: of the cohort, for "as"; None: 300.
        calibration: trials and their utterances, from which scores become log-likelihood ratios.
        quality: what it weighs beside the score: "duration", "norm" (of the embedding), "cohort" (mean cohort score).
        p_target: prior of a target for the calibration and its `act_dcf`.
        group_by: a column, to report one EER per value of the enrolment side.
        num_resamples: of the bootstrap, as `seed`; None: 1000, fewer (100 at least) beyond 200,000 trials.
        options: passed to `embed_files` (`batch_s`, `num_workers`, `progress`).

    Raises:
        InputError: unknown names or columns, trials of one kind only, options that do not fit, or a leak of speakers.
    """
    chosen = BackendOptions(backend, mean, train, score_norm, cohort, top, calibration, quality, p_target)
    groups = None if group_by is None else np.array(manifest.label(group_by))  # refused before the minutes of embedding
    rows = np.unique(resolve(trials, manifest))
    refuse_leaks(manifest.subset(rows.tolist()), chosen.materials())
    embedded = embed_manifest(encoder, manifest, rows=rows, embedded=embedded, **options)
    enroll, test, labels = usable_trials(trials, embedded)
    fitted = fit_backend(chosen, lambda material, rows: _embed(encoder, material, rows, options))
    scores, calibration_figures = calibrated(fitted, fitted.score(embedded, enroll, test), labels)
    return VerificationReport(
        **_figures(scores, labels, enroll, test, len(trials)),
        **_spreads(scores, labels, known_sides(manifest, enroll, test), num_resamples, seed),
        **_by_group(scores, labels, None if groups is None else groups[enroll]),
        **fitted.describe(),
        skipped=[*embedded.skipped, *fitted.skipped],
        calibration=calibration_figures,
        provenance=_origin(seed, manifest, trials, chosen),
    )


def _embed(
    encoder: SpeechEncoder | None, material: Material, rows: NDArray | None, options: dict[str, Any]
) -> EmbeddedManifest:
    known = material if isinstance(material, EmbeddedManifest) else None
    return embed_manifest(encoder, manifest_of(material), rows=rows, embedded=known, **options)


def _figures(scores: NDArray, labels: NDArray, enroll: NDArray, test: NDArray, num_given: int) -> dict[str, Any]:
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
        "num_dropped_trials": num_given - len(labels),
    }


def known_sides(
    manifest: Manifest, enroll: NDArray, test: NDArray, *, speaker: str = "speaker"
) -> tuple[NDArray, NDArray] | None:
    """Speakers of both sides of the trials, or None where not all of them are known, or all are one."""
    if speaker not in manifest.columns:
        return None
    speakers = np.array(manifest.label(speaker))
    sides = speakers[enroll], speakers[test]
    return sides if (sides[0] != "").all() and (sides[1] != "").all() and np.unique(sides).size > 1 else None


def _spreads(
    scores: NDArray, labels: NDArray, sides: tuple[NDArray, NDArray] | None, num_resamples: int | None, seed: int
) -> dict[str, Any]:
    """Intervals of EER and minDCF, and what was resampled."""
    num = min(NUM_RESAMPLES, max(100, MAX_RESAMPLED // len(scores))) if num_resamples is None else num_resamples
    statistics = {"eer": DetCurve.eer, "min_dcf": DetCurve.min_dcf}
    found = bootstrap_trials(statistics, scores, labels, *(sides or (None, None)), num_resamples=num, seed=seed)
    resampled = "trials" if sides is None else "speakers"
    return {"eer_interval": found["eer"], "min_dcf_interval": found["min_dcf"], "resampled": resampled}


def _by_group(scores: NDArray, labels: NDArray, groups: NDArray | None) -> dict[str, Any]:
    """EER and number of trials per group; NaN where only one kind of trial is there."""
    inside = {} if groups is None else {name: groups == name for name in np.unique(groups).tolist()}
    eers = {
        name: det_curve(scores[rows], labels[rows]).eer() if np.unique(labels[rows]).size == 2 else float("nan")
        for name, rows in inside.items()
    }
    return {"groups": eers, "group_trials": {name: int(rows.sum()) for name, rows in inside.items()}}


def _origin(seed: int, manifest: Manifest, trials: Trials, options: BackendOptions) -> dict[str, Any]:
    paths = dict.fromkeys([*manifest.paths, *(p for other in options.materials().values() for p in other.paths)])
    lists = {"trials": trials} | ({"calibration_trials": options.calibration[0]} if options.calibration else {})
    return provenance(seed=seed, manifest=list(paths)) | {
        name: {"path": one.path, "sha256": sha256(one.path) if one.path else None} for name, one in lists.items()
    }


@dataclass(frozen=True, slots=True)
class VerificationDecision(PlainData):
    """Cosine score in [-1, 1], and whether it reaches the threshold (None where no threshold was given)."""

    score: float
    same_speaker: bool | None


class Verifier:
    """Compares two files.

    Args:
        encoder: embeds them.
        threshold: accept where score >= threshold. There is no default: it depends on the encoder and on what a wrong
            decision costs; `VerificationReport.eer_threshold` on the person's own trials is a start.
        mean: (D,) subtracted from both embeddings, as in `evaluate_verification`.
    """

    def __init__(self, encoder: SpeechEncoder, threshold: float | None = None, *, mean: NDArray | None = None) -> None:
        self.encoder = encoder
        self.threshold = threshold
        self.mean = mean

    def compare_files(self, first: str | PathLike[str], second: str | PathLike[str]) -> VerificationDecision:
        """Score two files.

        Raises:
            AudioError: one of them cannot be read.
        """
        embeddings = np.stack([self.encoder.embed_file(path).cpu().numpy() for path in (first, second)])
        score = float(cosine_scores(embeddings, np.array([0]), np.array([1]), mean=self.mean)[0])
        return VerificationDecision(score, None if self.threshold is None else score >= self.threshold)
