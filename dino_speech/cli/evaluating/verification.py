"""`dino-speech evaluate verification`: cosine scores or a back-end on a list of trials."""

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_speech.cli.answer import Answer, table
from dino_speech.cli.evaluating.judging import add_judging, answer, judge, range_of
from dino_speech.cli.options import (
    MANIFESTS,
    OutputFile,
    Subparsers,
    add_manifest_of,
    add_options,
    chosen,
    positive_int,
    read_chosen_manifest,
)
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
    parser.add_argument(
        "--trials", **{**MANIFESTS, "metavar": "TXT"}, required=True, help="one list of trials or several"
    )
    models = "lines `model utterance ...`: the enrolment side of the trials names models, the mean of their utterances"
    parser.add_argument("--enrolment", metavar="TXT", help=models)
    scores = "also write each trial's score there (CSV: enroll, test, score, label)"
    parser.add_argument("--scores", type=OutputFile, metavar="CSV", help=scores)
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
    from dino_speech import read_trials, write_results
    from dino_speech.evaluation.verification.enrolment import read_enrolment
    from dino_speech.evaluation.verification.several_lists import evaluate_trial_lists, write_scores

    lists = {name: read_trials(path) for name, path in _by_name(arguments.trials).items()}
    enrolment = None if arguments.enrolment is None else read_enrolment(arguments.enrolment)
    options = {"group_by": arguments.group, "enrolment": enrolment, **_system_options(arguments)}
    reports: dict[str, VerificationReport] = judge(evaluate_trial_lists, arguments, lists, **options)
    if arguments.scores is not None:
        write_scores(reports, arguments.scores)
    first = next(iter(reports.values()))
    if len(reports) == 1:
        write = partial(write_results, reports={arguments.encoder: first})
        return answer(first, table(_rows(first)), arguments, write)
    text = "\n\n".join(f"{name}\n{table(_rows(report))}" for name, report in reports.items())
    return answer(_Lists(reports), text, arguments, partial(write_results, reports=reports))


def _by_name(paths: Sequence[str]) -> dict[str, str]:
    """Name of each list, that of its file, -> its path."""
    names = {Path(path).stem: path for path in paths}
    if len(names) < len(paths):
        raise UsageError(f"--trials: {len(paths)} lists, of which two have the same file name; give each its own")
    return names


class _Lists:
    """The reports of several lists, as one answer."""

    def __init__(self, reports: "Mapping[str, VerificationReport]") -> None:
        self.reports = reports
        self.skipped = list({item.name: item for one in reports.values() for item in one.skipped}.values())
        self.warnings = list(dict.fromkeys(text for one in reports.values() for text in one.warnings))

    def to_dict(self) -> dict[str, Any]:
        return {"lists": {name: report.to_dict() for name, report in self.reports.items()}}


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
