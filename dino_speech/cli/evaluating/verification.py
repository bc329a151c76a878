"""`dino-speech evaluate verification`: cosine scores or a back-end on a list of trials."""

import argparse
from typing import TYPE_CHECKING, Any

from dino_speech.cli.answer import Answer, table
from dino_speech.cli.evaluating.judging import add_judging, answer, judge, range_of
from dino_speech.cli.options import Subparsers, add_manifest_of, add_options, chosen, positive_int, read_chosen_manifest
from dino_speech.errors import UsageError

if TYPE_CHECKING:
    from dino_speech.evaluation.verification.report import VerificationReport


def add_kind(kinds: Subparsers) -> None:
    """Declare the command: trials, and the parts of a verification system."""
    parser = add_judging(
        *(
            kinds,
            "verification",
            _verification,
            "EER and minDCF on a list of trials, of cosine scores or of a back-end",
        ),
        details="Trials are lines `1 enroll test` (same speaker) and `0 enroll test`, with IDs or paths of the"
        " manifest.\nEER is in percent; intervals are 95 %, by bootstrap over speakers where the manifest names them.",
        example="test.csv --trials trials.txt",
    )
    add_options(parser, "--trials", required=True, help="list of trials")
    add_options(parser, "--group", help="also one EER per value of this column (both sides in it)")
    group = parser.add_argument_group("back-end")
    group.add_argument(
        "--backend",
        choices=("cosine", "cosine_mean", "plda"),
        default="cosine",
        help="cosine_mean subtracts the mean of --train-manifest; plda learns from its `speaker` column (%(default)s)",
    )
    add_manifest_of(group, "train", summary="what the back-end is fitted on; speakers of the trials are refused in it")
    lda = "plda: dimensions kept (default: 200, or fewer)"
    group.add_argument("--lda-dim", type=positive_int, metavar="N", help=lda)
    group = parser.add_argument_group("score normalisation")
    group.add_argument("--score-norm", choices=("z", "t", "s", "as"), help="as: adaptive S-norm")
    add_manifest_of(group, "cohort", summary="strangers to compare with (default: those of --train-manifest)")
    group.add_argument(
        "--top", type=positive_int, metavar="N", help="as: nearest speakers of the cohort (default: 300)"
    )
    group = parser.add_argument_group("calibration")
    group.add_argument("--calibrate-trials", metavar="TXT", help="other trials, to make scores likelihood ratios")
    add_manifest_of(group, "calibrate", summary="manifest of these trials (default: --manifest)")
    group.add_argument(
        "--quality",
        metavar="NAME",
        nargs="+",
        default=[],
        choices=("duration", "norm", "cohort"),
        help="what the calibration weighs beside the score: duration, norm (of the embedding), cohort (mean score)",
    )
    group.add_argument("--p-target", type=float, default=0.01, help="prior of a target, for calibration (%(default)s)")


def _verification(arguments: argparse.Namespace) -> Answer:
    from dino_speech import evaluate_verification, read_trials, write_results

    trials, options = read_trials(arguments.trials), _system_options(arguments)
    report = judge(evaluate_verification, arguments, trials, group_by=arguments.group, **options)
    text = table(_rows(report))
    return answer(report, text, arguments, lambda folder: write_results(folder, {arguments.encoder: report}))


def _system_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options as `evaluate_verification` takes them; a `UsageError` for those that need one another."""
    from dino_speech import PLDA, read_trials

    if arguments.lda_dim is not None and arguments.backend != "plda":
        raise UsageError(f"--lda-dim: only for --backend plda; found --backend {arguments.backend}")
    if arguments.calibrate_manifest and not arguments.calibrate_trials:
        raise UsageError("--calibrate-manifest: give its trials, too (--calibrate-trials)")
    calibration = None
    if arguments.calibrate_trials:
        material = read_chosen_manifest(arguments, "calibrate") or read_chosen_manifest(arguments)
        calibration = read_trials(arguments.calibrate_trials), material
    return {
        "backend": arguments.backend if arguments.lda_dim is None else PLDA(lda_dim=arguments.lda_dim),
        "train": read_chosen_manifest(arguments, "train"),
        "cohort": read_chosen_manifest(arguments, "cohort"),
        "calibration": calibration,
        **chosen(arguments, "score_norm", "top", "quality", "p_target"),
    }


def _rows(report: "VerificationReport") -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = [
        ("EER %", report.eer, range_of(report.eer_interval)),
        ("minDCF(0.01)", report.min_dcf, range_of(report.min_dcf_interval)),
        ("minDCF(0.05)", report.min_dcf_05, ""),
        ("min Cllr", report.min_cllr, ""),
    ]
    if report.calibration is not None:
        found, at = report.calibration, f"({report.calibration['p_target']:g})"
        names = {"Cllr": "cllr", "min Cllr": "min_cllr", f"actDCF{at}": "act_dcf", f"minDCF{at}": "min_dcf"}
        ranges = {name: range_of(found["intervals"][name]) for name in names.values()}
        rows += [(f"calibrated: {title}", found[name], ranges[name]) for title, name in names.items()]
        before = {name: found[f"{name}_before"] for name in ("cllr", "act_dcf")}
        rows += [(f"before: {name}", value, "") for name, value in before.items() if value is not None]
    rows += [
        ("trials", report.num_trials, f"{report.num_targets} targets, {report.num_dropped_trials} dropped"),
        ("utterances", report.num_utterances, f"{len(report.skipped)} skipped"),
        ("back-end", report.backend["name"], _details(report.backend)),
    ]
    rows += [("score norm", report.score_norm["kind"], _details(report.score_norm))] if report.score_norm else []
    return rows + [(f"EER % {name}", eer, f"{report.group_trials[name]} trials") for name, eer in report.groups.items()]


def _details(part: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in list(part.items())[1:] if value is not None)
