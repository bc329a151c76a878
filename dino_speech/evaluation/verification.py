"""Speaker verification: does an encoder put two utterances of one speaker closer than two of different speakers?

Each utterance of the trials is embedded once, a trial's score is a cosine, and everything reported is read off one
sorted list. Bad audio never changes a result in silence: it is listed, and so are the trials it takes along.
"""

from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.trials import Trials, resolve
from dino_speech.data.utterances import Manifest, Skipped
from dino_speech.errors import InputError
from dino_speech.evaluation.backends import EmbeddedManifest, cosine_scores, embed_manifest
from dino_speech.intervals import Interval, bootstrap_trials
from dino_speech.metrics import DetCurve, det_curve, min_cllr
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.provenance import provenance, sha256

NUM_RESAMPLES = 1000
MAX_RESAMPLED = 200_000_000  # trials times resamples: a minute or so


@dataclass(frozen=True, eq=False)
class VerificationReport:
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
        skipped: that audio, and why.
        groups: EER of the trials whose enrolment side is in each group; NaN where a group has one kind of trial only.
        group_trials: how many trials each group has.
        scores: (num_trials,) in the order of the list, dropped ones left out.
        labels: (num_trials,) 1 target, 0 non-target.
        provenance: versions, seed, manifest, trials.
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
    groups: dict[str, float]
    group_trials: dict[str, int]
    scores: NDArray[np.float32] = field(repr=False)
    labels: NDArray[np.int8] = field(repr=False)
    provenance: dict[str, Any] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the scores."""
        plain = {name: value for name, value in self.__dict__.items() if name not in ("scores", "labels")}
        return plain | {
            "eer_interval": self.eer_interval.to_dict(),
            "min_dcf_interval": self.min_dcf_interval.to_dict(),
            "skipped": [item.to_dict() for item in self.skipped],
            "groups": {name: None if np.isnan(eer) else eer for name, eer in self.groups.items()},
        }


def evaluate_verification(
    encoder: SpeechEncoder | None,
    manifest: Manifest,
    trials: Trials,
    *,
    embedded: EmbeddedManifest | None = None,
    mean: NDArray | None = None,
    group_by: str | None = None,
    num_resamples: int | None = None,
    seed: int = 0,
    **options: Any,
) -> VerificationReport:
    """Score trials by cosine and measure them.

    Args:
        encoder: embeds the utterances of the trials; None where `embedded` is given.
        manifest: names the audio. With a `speaker` column filled in for all of it, intervals resample speakers.
        trials: whose names are IDs or paths of the manifest.
        embedded: embeddings of this very manifest, to use instead of the encoder.
        mean: (D,) subtracted from every embedding; take it from other utterances, such as the training set.
        group_by: a column of the manifest, to report one EER per value of the enrolment side.
        num_resamples: of the bootstrap; None: 1000, fewer (100 at least) for lists of more than 200,000 trials.
        seed: of the bootstrap.
        options: passed to `embed_files` (`batch_s`, `num_workers`, `progress`).

    Raises:
        InputError: a name that the manifest lacks, an unknown column, or no target or no non-target left.
    """
    enroll, test = resolve(trials, manifest)
    group_of = np.array(manifest.label(group_by)) if group_by else None
    embedded = embed_manifest(encoder, manifest, rows=np.unique([enroll, test]), embedded=embedded, **options)
    kept = embedded.usable[enroll] & embedded.usable[test]
    enroll, test, labels = enroll[kept], test[kept], trials.labels[kept]
    _check_kinds(labels, trials)
    scores = cosine_scores(embedded.embeddings, enroll, test, mean=mean)
    curve = det_curve(scores, labels)
    intervals, resampled = _intervals(scores, labels, _speakers(manifest, enroll, test), num_resamples, seed)
    groups, group_trials = _by_group(scores, labels, None if group_of is None else group_of[enroll])
    return VerificationReport(
        eer=curve.eer(),
        min_dcf=curve.min_dcf(p_target=0.01),
        num_trials=len(scores),
        min_dcf_05=curve.min_dcf(p_target=0.05),
        min_cllr=min_cllr(scores, labels),
        eer_threshold=curve.eer_threshold(),
        eer_interval=intervals["eer"],
        min_dcf_interval=intervals["min_dcf"],
        resampled=resampled,
        num_targets=int(labels.sum()),
        num_utterances=np.unique([enroll, test]).size,
        num_dropped_trials=int((~kept).sum()),
        skipped=embedded.skipped,
        groups=groups,
        group_trials=group_trials,
        scores=scores,
        labels=labels,
        provenance=provenance(seed=seed, manifest=manifest.paths) | {"trials": _trials_file(trials)},
    )


def _check_kinds(labels: NDArray, trials: Trials) -> None:
    num_targets, num_others = int(labels.sum()), int((labels == 0).sum())
    if not (num_targets and num_others):
        raise InputError(
            f"{trials.path or 'trials'}: {num_targets} targets and {num_others} non-targets can be scored"
            f" ({len(trials) - len(labels)} trials need skipped audio); at least one of each is needed"
        )


def _speakers(manifest: Manifest, enroll: NDArray, test: NDArray) -> tuple[NDArray, NDArray] | None:
    """Speakers of both sides of the trials, or None where not all of them are known."""
    if "speaker" not in manifest.columns:
        return None
    speakers = np.array(manifest.label("speaker"))
    sides = speakers[enroll], speakers[test]
    return None if (sides[0] == "").any() or (sides[1] == "").any() else sides


def _intervals(
    scores: NDArray, labels: NDArray, sides: tuple[NDArray, NDArray] | None, num_resamples: int | None, seed: int
) -> tuple[dict[str, Interval], str]:
    """Intervals of EER and minDCF, and what was resampled."""
    resampled = "trials" if sides is None or np.unique(sides).size < 2 else "speakers"
    enroll, test = sides if sides is not None and resampled == "speakers" else (None, None)
    num = min(NUM_RESAMPLES, max(100, MAX_RESAMPLED // len(scores))) if num_resamples is None else num_resamples
    statistics = {"eer": DetCurve.eer, "min_dcf": DetCurve.min_dcf}
    return bootstrap_trials(statistics, scores, labels, enroll, test, num_resamples=num, seed=seed), resampled


def _by_group(scores: NDArray, labels: NDArray, groups: NDArray | None) -> tuple[dict[str, float], dict[str, int]]:
    """EER and number of trials per group; NaN where only one kind of trial is there."""
    eers: dict[str, float] = {}
    counts: dict[str, int] = {}
    for name in [] if groups is None else np.unique(groups).tolist():
        inside = groups == name
        both = labels[inside].any() and (labels[inside] == 0).any()
        eers[name] = det_curve(scores[inside], labels[inside]).eer() if both else float("nan")
        counts[name] = int(inside.sum())
    return eers, counts


def _trials_file(trials: Trials) -> dict[str, str | None]:
    return {"path": trials.path, "sha256": sha256(trials.path) if trials.path else None}


@dataclass(frozen=True, slots=True)
class VerificationDecision:
    """Cosine score in [-1, 1], and whether it reaches the threshold (None where no threshold was given)."""

    score: float
    same_speaker: bool | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"score": self.score, "same_speaker": self.same_speaker}


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
