"""`dino-speech evaluate`: what an encoder is worth, on a person's own trials or labels."""

import argparse
import sys
from typing import Any

from dino_speech.cli.answer import Answer, table
from dino_speech.cli.parsing import Subparsers, add_command, add_encoder, load_chosen_encoder, positive_int

NUM_SHOWN = 20
NUM_READING_THREADS = 2


def add_commands(subparsers: Subparsers) -> None:
    """Declare the commands of this file."""
    group = add_command(
        subparsers, "evaluate", None, summary="measure an encoder", example="dino-speech evaluate verification --help"
    )
    kinds = group.add_subparsers(metavar="KIND", required=True, dest="kind")
    parser = _add_kind(
        kinds,
        "verification",
        _verification,
        "EER and minDCF of cosine scores on a list of trials",
        "Trials are lines `1 enroll test` (same speaker) and `0 enroll test`, with IDs or paths of the manifest.\n"
        "EER is in percent; intervals are 95 %, by bootstrap over speakers where the manifest names them.",
        "dino-speech evaluate verification --encoder results/dino/encoder --manifest test.csv --trials trials.txt",
    )
    parser.add_argument("--trials", metavar="TXT", required=True, help="list of trials")
    parser.add_argument("--group-by", metavar="COLUMN", help="also one EER per value of this column (enrolment side)")
    parser = _add_kind(
        kinds,
        "classification",
        _classification,
        "a linear probe on frozen embeddings, in speaker-disjoint folds",
        "Standardised embeddings, logistic regression chosen inside the training folds. UAR: mean of the recalls.",
        "dino-speech evaluate classification --encoder results/dino/encoder --manifest test.csv --label emotion",
    )
    parser.add_argument("--label", metavar="NAME", required=True, help="column to predict")
    parser.add_argument("--folds", type=positive_int, metavar="N", help="default: 5, or the speakers where fewer")


def _add_kind(
    kinds: Subparsers, name: str, run: Any, summary: str, details: str, example: str
) -> argparse.ArgumentParser:
    parser = add_command(kinds, name, run, summary=summary, details=details, example=example)
    add_encoder(parser)
    parser.add_argument(
        "--manifest", metavar="CSV", required=True, nargs="+", action="extend", help="one manifest or several"
    )
    parser.add_argument(
        "--where",
        metavar="COLUMN=VALUE",
        nargs="+",
        default=[],
        action="extend",
        type=_condition,
        help="only these rows; VALUE may be A,B",
    )
    parser.add_argument("--seed", type=int, default=0, help="of folds and intervals (default: %(default)s)")
    return parser


def _condition(text: str) -> tuple[str, list[str]]:
    column, equals, values = text.partition("=")
    if not (column and equals and values):
        raise argparse.ArgumentTypeError(f"{text!r}: expected COLUMN=VALUE, e.g. split=test")
    return column, values.split(",")


def _verification(arguments: argparse.Namespace) -> Answer:
    from dino_speech import evaluate_verification, read_manifest, read_trials

    manifest = read_manifest(arguments.manifest, where=dict(arguments.where))
    report = evaluate_verification(
        load_chosen_encoder(arguments),
        manifest,
        read_trials(arguments.trials),
        group_by=arguments.group_by,
        seed=arguments.seed,
        num_workers=NUM_READING_THREADS,
        progress=sys.stderr.isatty(),
    )
    rows: list[tuple[object, ...]] = [
        ("EER %", report.eer, _range(report.eer_interval)),
        ("minDCF(0.01)", report.min_dcf, _range(report.min_dcf_interval)),
        ("minDCF(0.05)", report.min_dcf_05, ""),
        ("min Cllr", report.min_cllr, ""),
        ("trials", report.num_trials, f"{report.num_targets} targets, {report.num_dropped_trials} dropped"),
        ("utterances", report.num_utterances, f"{len(report.skipped)} skipped"),
    ]
    rows += [(f"EER % {name}", eer, f"{report.group_trials[name]} trials") for name, eer in report.groups.items()]
    return _answer(report, rows, arguments)


def _classification(arguments: argparse.Namespace) -> Answer:
    from dino_speech import evaluate_classification, read_manifest

    manifest = read_manifest(arguments.manifest, where=dict(arguments.where))
    report = evaluate_classification(
        load_chosen_encoder(arguments),
        manifest,
        label=arguments.label,
        num_folds=arguments.folds,
        seed=arguments.seed,
        num_workers=NUM_READING_THREADS,
        progress=sys.stderr.isatty(),
    )
    rows: list[tuple[object, ...]] = [
        ("UAR", report.uar, f"{_range(report.intervals['uar'])}, chance {report.chance_uar:.3f}"),
        ("micro F1", report.micro_f1, f"{_range(report.intervals['micro_f1'])}, chance {report.chance_micro_f1:.3f}"),
        ("macro F1", report.macro_f1, _range(report.intervals["macro_f1"])),
        ("utterances", report.num_utterances, f"{len(report.skipped)} skipped"),
        ("speakers", report.num_speakers, f"{report.num_folds} speaker-disjoint folds"),
    ]
    rows += [(f"recall {name}", recall, "") for name, recall in report.recalls.items()]
    return _answer(report, rows, arguments)


def _range(interval: Any) -> str:
    return f"{interval.low:.3g} to {interval.high:.3g}"


def _answer(report: Any, rows: list[tuple[object, ...]], arguments: argparse.Namespace) -> Answer:
    for item in report.skipped[:NUM_SHOWN]:
        print(f"skipped {item.name}: {item.reason}", file=sys.stderr)
    return Answer({**report.to_dict(), "encoder": arguments.encoder}, table(rows))
