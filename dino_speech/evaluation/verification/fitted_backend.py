"""A whole back-end: projection, score normalisation and calibration, each learnt from speech not judged.

Material is refused, with names, where it shares a speaker or a recording with the trials. Letters: `T` trials.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.folds import SPEAKER, overlapping, unknown_speakers, warn_once
from dino_speech.data.trials import Trials, resolve
from dino_speech.data.utterances import Manifest, Skipped, list_some
from dino_speech.embedding.embedded_manifest import EmbeddedManifest
from dino_speech.errors import InputError
from dino_speech.evaluation.speaker_means import speaker_means
from dino_speech.evaluation.verification.calibration import Calibration, check_measures, trial_quality
from dino_speech.evaluation.verification.plda import PLDA
from dino_speech.evaluation.verification.scoring import NORMS, Backend, CohortStatistics, CosineBackend, ScoreNorm
from dino_speech.metrics import det_curve

BACKENDS = ("cosine", "cosine_mean", "plda")
CALIBRATION = "calibration manifest"
BEFORE = ("cllr", "act_dcf")  # also judged before the calibration, where the scores are likelihood ratios then
Material = Manifest | EmbeddedManifest
Scored = tuple[NDArray[np.float32], NDArray[np.float64] | None]  # (T,), and the inputs (T, Q) of the calibration
Embed = Callable[[Material, NDArray | None], EmbeddedManifest]  # the second: the rows that are needed, None: all


@dataclass(frozen=True, eq=False)
class BackendOptions:
    """What a back-end is made of; see `evaluate_verification`, whose options these are."""

    backend: str | Backend = "cosine"
    mean: NDArray | None = None
    train: Material | None = None
    score_norm: str | None = None
    cohort: Material | None = None
    top: int | None = None
    calibration: tuple[Trials, Material] | None = None
    quality: Sequence[str] = ()
    p_target: float = 0.01

    def __post_init__(self) -> None:
        if isinstance(self.backend, str) and self.backend not in BACKENDS:
            raise InputError(f"backend is {self.backend!r}; expected one of {', '.join(BACKENDS)}, or a back-end")
        if self.needs_training and self.train is None:
            raise InputError("this back-end is learnt from other utterances; give them as `train` (--train-manifest)")
        if self.mean is not None and self.backend != "cosine":
            raise InputError("`mean` is for the back-end 'cosine'; the others take a mean from `train`")
        if self.score_norm is not None and self.score_norm not in NORMS:
            raise InputError(f"score_norm is {self.score_norm!r}; expected one of {', '.join(NORMS)}, or None")
        if self.score_norm is not None and self.cohort is None and self.train is None:
            raise InputError(
                "score normalisation compares with other utterances; give them as cohort (--cohort-manifest)"
            )
        if self.score_norm is None and (self.top is not None or self.cohort is not None):
            raise InputError("a cohort or top is given, but no score_norm; give score_norm 'z', 't', 's' or 'as'")
        if self.calibration is None and self.quality:
            raise InputError("quality measures are weighed by the calibration; give calibration trials, too")
        if "cohort" in check_measures(self.quality) and self.score_norm is None:
            raise InputError("the quality measure 'cohort' is the mean cohort score; give score_norm and a cohort")

    @property
    def needs_training(self) -> bool:
        """Whether the back-end must still be fitted."""
        if isinstance(self.backend, PLDA):
            return not hasattr(self.backend, "ratio_")
        return self.backend in ("cosine_mean", "plda")

    def materials(self) -> dict[str, Manifest]:
        """Role -> the utterances that are learnt from."""
        given = {"training manifest": self.train, "cohort": self.cohort}
        found = {role: manifest_of(material) for role, material in given.items() if material is not None}
        if self.calibration is not None:
            trials, manifest = self.calibration[0], manifest_of(self.calibration[1])
            found[CALIBRATION] = manifest.subset(np.unique(resolve(trials, manifest)).tolist())
        return found


@dataclass(frozen=True, eq=False)
class FittedBackend:
    """A fitted back-end."""

    backend: Backend  # maps embeddings so that pairs can be scored
    norm: ScoreNorm | None = None
    measures: tuple[str, ...] = ()  # names of the quality measures
    calibration: Calibration | None = None  # learnt from scores of this very back-end
    skipped: tuple[Skipped, ...] = ()  # audio of what it was learnt from

    def score(self, embedded: EmbeddedManifest, enroll: NDArray, test: NDArray) -> Scored:
        """Scores of the trials between rows `enroll` (T,) and `test` (T,), before calibration."""
        projected = self.backend.project(embedded.embeddings)
        scores = projected.score_pairs(enroll, test)
        statistics = None
        if self.norm is not None:
            statistics = self.norm.statistics(projected, np.unique([enroll, test]))
            scores = self.norm.normalize(scores, enroll, test, statistics)
        return scores, trial_quality(_measure(self.measures, embedded, statistics), enroll, test)

    @property
    def gives_ratios(self) -> bool:
        """Whether the scores are likelihood ratios before calibration: PLDA's are, cosines are not."""
        return self.norm is None and isinstance(self.backend, PLDA)

    def describe(self) -> dict[str, Any]:
        """What was used, as plain data: `backend`, `score_norm`."""
        return {"backend": self.backend.describe(), "score_norm": self.norm.describe() if self.norm else None}


def fit_backend(options: BackendOptions, embed: Embed) -> FittedBackend:
    """Fit projection, cohort and calibration, in this order; `embed` is asked once for each manifest."""
    known: dict[int, EmbeddedManifest] = {}

    def once(material: Material, rows: NDArray | None = None) -> EmbeddedManifest:
        if id(material) not in known:
            known[id(material)] = embed(material, rows)
        return known[id(material)]

    backend, norm, calibration = _fit_projection(options, once), None, None
    cohort = options.cohort if options.cohort is not None else options.train
    if options.score_norm is not None and cohort is not None:
        vectors, sizes = _cohort_vectors(once(cohort))
        norm = ScoreNorm(options.score_norm, backend.project(vectors), top=options.top, sizes=sizes)
    fitted = FittedBackend(backend, norm, tuple(options.quality))
    if options.calibration is not None:
        trials, material = options.calibration
        rows = np.unique(resolve(trials, manifest_of(material)))
        embedded = once(material, rows)  # last, because it may be some rows only
        enroll, test, labels, _ = usable_trials(trials, embedded)
        scores, quality = fitted.score(embedded, enroll, test)
        calibration = Calibration(p_target=options.p_target).fit(scores, labels, quality)
    skipped = tuple(item for embedded in known.values() for item in embedded.skipped)
    return replace(fitted, calibration=calibration, skipped=skipped)


def _fit_projection(options: BackendOptions, embed: Callable[[Material], EmbeddedManifest]) -> Backend:
    """The back-end that the options name, fitted where it needs to be."""
    if not options.needs_training or options.train is None:
        return CosineBackend(options.mean) if isinstance(options.backend, str) else options.backend
    embedded = embed(options.train)
    if options.backend == "cosine_mean":
        return CosineBackend(embedded.embeddings[embedded.usable].mean(axis=0))
    plda = deepcopy(options.backend) if isinstance(options.backend, PLDA) else PLDA()
    speakers = np.array(embedded.manifest.label("speaker"))
    kept = embedded.usable & (speakers != "")
    try:
        return plda.fit(embedded.embeddings[kept], speakers[kept])
    except InputError as error:
        raise InputError(f"{embedded.manifest.name}: {error}") from error


def _cohort_vectors(cohort: EmbeddedManifest) -> tuple[NDArray, NDArray[np.int64]]:
    """Means of the speakers, (C, D), and how many utterances each has; one whose speaker is not known stands alone.

    Of utterances one talkative speaker could be all of somebody's nearest.
    """
    named = "speaker" in cohort.manifest.columns
    speakers = [name or f"\0{i}" for i, name in enumerate(cohort.manifest.label("speaker"))] if named else []
    names = np.array(speakers or range(len(cohort.manifest)))[cohort.usable]
    means, codes = speaker_means(cohort.embeddings[cohort.usable], names)
    return means, np.bincount(codes)


def calibrated(fitted: FittedBackend, scored: Scored, labels: NDArray) -> tuple[NDArray, dict[str, Any] | None]:
    """Scores after calibration, and what it did to decisions on these trials; unchanged and None without one."""
    if fitted.calibration is None:
        return scored[0], None
    ratios, judge = fitted.calibration.apply(*scored), fitted.calibration.statistics()
    curves = {"": det_curve(ratios, labels)} | (
        {"_before": det_curve(scored[0], labels)} if fitted.gives_ratios else {}
    )
    figures: dict[str, Any] = {name: statistic(curves[""]) for name, statistic in judge.items()}
    figures |= {f"{name}_before": judge[name](curves["_before"]) if fitted.gives_ratios else None for name in BEFORE}
    return ratios, fitted.calibration.describe() | {"quality": list(fitted.measures)} | figures


def usable_trials(trials: Trials, embedded: EmbeddedManifest) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Rows of both sides, labels and positions of the trials whose audio could be embedded; some of each kind."""
    enroll, test = resolve(trials, embedded.manifest)
    kept = embedded.usable[enroll] & embedded.usable[test]
    labels = trials.labels[kept]
    num_targets, num_others = int(labels.sum()), int((labels == 0).sum())
    if not (num_targets and num_others):
        raise InputError(
            f"{trials.path or 'trials'}: {num_targets} targets and {num_others} non-targets can be scored"
            f" ({len(trials) - len(labels)} trials need skipped audio); at least one of each is needed"
        )
    return enroll[kept], test[kept], labels, np.flatnonzero(kept)


def manifest_of(material: Material) -> Manifest:
    """The manifest, embedded or not."""
    return material.manifest if isinstance(material, EmbeddedManifest) else material


def refuse_leaks(
    judged: Manifest, materials: dict[str, Manifest], *, where: str = "the trials", speaker: str = SPEAKER
) -> list[str]:
    """Refuse material that shares a speaker, or speech, with the utterances of the trials, and name these.

    Speakers are compared by the column `speaker`; where one is not known, a sentence says that it was not compared.
    """
    for role, manifest in materials.items():
        speakers = sorted(_speakers(judged, speaker) & _speakers(manifest, speaker))
        for what, shared in (("speakers", speakers), ("recordings", overlapping(judged, manifest))):
            if shared:
                raise InputError(
                    f"{role} {manifest.name}: {len(shared)} {what} also stand in {where} ({list_some(shared)}); a"
                    " result would be too good: remove them from it, or use other material"
                )
    return unknown_speakers([judged, *materials.values()], speaker) if materials else []


def refuse_shared(judged: Manifest, options: BackendOptions) -> list[str]:
    """Refuse leaks into the trials, and into those of the calibration: their scores would be too good to learn from.

    Gives what `refuse_leaks` does, and logs it.
    """
    materials = options.materials()
    unknown = refuse_leaks(judged, materials)
    calibration = materials.pop(CALIBRATION, None)
    if calibration is not None:
        refuse_leaks(calibration, materials, where="the calibration trials")
    return warn_once(unknown)


def _speakers(manifest: Manifest, speaker: str) -> set[str]:
    return set(manifest.label(speaker)) - {""} if speaker in manifest.columns else set()


def _measure(
    names: Sequence[str], embedded: EmbeddedManifest, statistics: CohortStatistics | None
) -> dict[str, NDArray[np.float64]]:
    """Quality measures (N,) of the utterances: ln of the seconds, ln of the embedding's length, mean cohort score."""
    found: dict[str, NDArray[np.float64]] = {}
    for name in names:
        if name == "duration":
            found[name] = np.log([utterance.duration for utterance in embedded.manifest])
        elif name == "norm":
            lengths = np.linalg.norm(embedded.embeddings.astype(np.float64), axis=1)
            found[name] = np.log(np.maximum(lengths, 1e-12))
        elif statistics is not None:
            found[name] = statistics.mean
    return found
