"""`dino-speech evaluate verification`: its options, and what a person reads of a `VerificationReport`."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dino_speech.cli.parsing import add_manifest, positive_int

if TYPE_CHECKING:
    from dino_speech.evaluation.verification.evaluate import VerificationReport


def add_options(parser: argparse.ArgumentParser) -> None:
    """Trials, and the parts of a verification system."""
    parser.add_argument("--trials", metavar="TXT", required=True, help="list of trials")
    parser.add_argument("--group-by", metavar="COLUMN", help="also one EER per value of this column (enrolment side)")
    group = parser.add_argument_group("back-end")
    group.add_argument(
        "--backend",
        choices=("cosine", "cosine_mean", "plda"),
        default="cosine",
        help="cosine_mean subtracts the mean of --train-manifest; plda learns from its `speaker` column"
        " (default: %(default)s)",
    )
    add_manifest(group, "train", summary="what the back-end is fitted on; speakers of the trials are refused in it")
    group.add_argument(
        "--lda-dim", type=positive_int, metavar="N", help="plda: dimensions kept (default: 200, or fewer)"
    )
    group = parser.add_argument_group("score normalisation")
    group.add_argument("--score-norm", choices=("z", "t", "s", "as"), help="as: adaptive S-norm")
    add_manifest(group, "cohort", summary="strangers to compare with (default: those of --train-manifest)")
    group.add_argument("--top", type=positive_int, metavar="N", help="as: nearest of the cohort (default: 300)")
    group = parser.add_argument_group("calibration")
    group.add_argument("--calibrate-trials", metavar="TXT", help="other trials, to make scores likelihood ratios")
    add_manifest(group, "calibrate", summary="manifest of these trials (default: --manifest)")
    group.add_argument(
        "--quality",
        metavar="NAME",
        nargs="+",
        default=[],
        choices=("duration", "norm", "cohort"),
        help="what the calibration weighs beside the score: duration, norm (of the embedding), cohort (mean score)",
    )
    group.add_argument(
        "--p-target",
        type=float,
        default=0.01,
        help="prior of a target, for calibration (default: %(default)s)",
    )


def system_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options as `evaluate_verification` takes them.

    Raises:
        InputError: options that need one another.
    """
    from dino_speech import PLDA, read_trials
    from dino_speech.errors import InputError

    if arguments.lda_dim is not None and arguments.backend != "plda":
        raise InputError(f"--lda-dim: only for --backend plda; found --backend {arguments.backend}")
    if arguments.calibrate_manifest and not arguments.calibrate_trials:
        raise InputError("--calibrate-manifest: give its trials, too (--calibrate-trials)")
    calibration = None
    if arguments.calibrate_trials:
        material = _read(arguments, "calibrate") or _read(arguments, "")
        calibration = read_trials(arguments.calibrate_trials), material
    return {
        "backend": arguments.backend if arguments.lda_dim is None else PLDA(lda_dim=arguments.lda_dim),
        "train": _read(arguments, "train"),
        "score_norm": arguments.score_norm,
        "cohort": _read(arguments, "cohort"),
        "top": arguments.top,
        "calibration": calibration,
        "quality": arguments.quality,
        "p_target": arguments.p_target,
    }


def _read(arguments: argparse.Namespace, role: str) -> Any:
    """The manifest of `--ROLE-manifest` and `--ROLE-where`, or None."""
    from dino_speech import read_manifest
    from dino_speech.errors import InputError

    prefix = f"{role}_" if role else ""
    paths, where = getattr(arguments, f"{prefix}manifest"), getattr(arguments, f"{prefix}where")
    if where and not paths:
        raise InputError(f"--{role}-where selects rows of --{role}-manifest, which is not given")
    return read_manifest(paths, where=dict(where)) if paths else None


def rows_of(report: "VerificationReport", show: Callable[[Any], str]) -> list[tuple[object, ...]]:
    """What a person reads; `show` makes an interval text."""
    rows: list[tuple[object, ...]] = [
        ("EER %", report.eer, show(report.eer_interval)),
        ("minDCF(0.01)", report.min_dcf, show(report.min_dcf_interval)),
        ("minDCF(0.05)", report.min_dcf_05, ""),
        ("min Cllr", report.min_cllr, ""),
    ]
    if report.calibration is not None:
        found = report.calibration
        rows += [
            ("Cllr", found["cllr"], f"{found['cllr_before']:.3g} before calibration"),
            (f"actDCF({found['p_target']:g})", found["act_dcf"], f"{found['act_dcf_before']:.3g} before calibration"),
        ]
    rows += [
        ("trials", report.num_trials, f"{report.num_targets} targets, {report.num_dropped_trials} dropped"),
        ("utterances", report.num_utterances, f"{len(report.skipped)} skipped"),
        ("back-end", report.backend["name"], _details(report.backend)),
    ]
    rows += [("score norm", report.score_norm["kind"], _details(report.score_norm))] if report.score_norm else []
    return rows + [(f"EER % {name}", eer, f"{report.group_trials[name]} trials") for name, eer in report.groups.items()]


def _details(part: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in list(part.items())[1:] if value is not None)
