"""`dino-speech evaluate`: what an encoder is worth, on a person's own trials or labels."""

import argparse
import sys
from typing import Any

from dino_speech.cli.answer import Answer, name_skipped, table
from dino_speech.cli.evaluating import clinical, cross_corpus, stress, verification
from dino_speech.cli.parsing import (
    Subparsers,
    add_command,
    add_encoder,
    add_manifest,
    load_chosen_encoder,
    positive_int,
)

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
        "EER and minDCF on a list of trials, of cosine scores or of a back-end",
        "Trials are lines `1 enroll test` (same speaker) and `0 enroll test`, with IDs or paths of the manifest.\n"
        "EER is in percent; intervals are 95 %, by bootstrap over speakers where the manifest names them.",
        "dino-speech evaluate verification --encoder results/dino/encoder --manifest test.csv --trials trials.txt",
    )
    verification.add_options(parser)
    parser = _add_kind(
        kinds,
        "classification",
        _classification,
        "a linear probe on frozen embeddings, in speaker-disjoint folds",
        "Standardised embeddings, logistic regression chosen inside the training folds. UAR: mean of the recalls.",
        "dino-speech evaluate classification --encoder results/dino/encoder --manifest test.csv --label emotion",
    )
    parser.add_argument("--label", metavar="NAME", required=True, help="column to predict")
    parser = _add_kind(
        kinds,
        "regression",
        _regression,
        "numbers from frozen embeddings, in speaker-disjoint folds",
        "Standardised embeddings, ridge regression chosen inside the training folds. CCC: concordance correlation,\n"
        "1 at best, 0 for always saying the mean. Rows where one of the columns is blank are left out and listed.\n"
        "With --test-manifest: learnt from all of --manifest, judged on another corpus, by the columns that it has.",
        "dino-speech evaluate regression --encoder results/dino/encoder --manifest test.csv --labels arousal,valence",
    )
    parser.add_argument("--labels", metavar="A,B,C", required=True, help="columns to predict, of numbers")
    cross_corpus.add_options(parser)
    parser = _add_kind(
        kinds,
        "clinical",
        clinical.evaluate,
        "two groups of people told apart by their recordings, with the silence control",
        "Segments' log-odds are averaged by person. Beside the figures: the same on the recordings' silent parts,\n"
        "what the share of pauses and the length tell alone, age and sex. Not a diagnosis.",
        "dino-speech evaluate clinical --encoder results/dino/encoder --manifest clinic.csv --label diagnosis"
        " --positive ad --segment-s 5",
    )
    clinical.add_options(parser)
    for parser in (kinds.choices["classification"], kinds.choices["regression"]):
        parser.add_argument("--folds", type=positive_int, metavar="N", help="default: 5, or the speakers where fewer")
    stress.add_kinds(kinds)


def _add_kind(
    kinds: Subparsers, name: str, run: Any, summary: str, details: str, example: str
) -> argparse.ArgumentParser:
    parser = add_command(kinds, name, run, summary=summary, details=details, example=example)
    add_encoder(parser)
    add_manifest(parser)
    parser.add_argument("--output", metavar="DIR", help="also write report.md, report.json and a picture there")
    parser.add_argument("--seed", type=int, default=0, help="of folds and intervals (default: %(default)s)")
    return parser


def _verification(arguments: argparse.Namespace) -> Answer:
    from dino_speech import evaluate_verification, read_manifest, read_trials

    manifest = read_manifest(arguments.manifest, where=dict(arguments.where))
    report = evaluate_verification(
        load_chosen_encoder(arguments),
        manifest,
        read_trials(arguments.trials),
        **verification.system_options(arguments),
        group_by=arguments.group_by,
        seed=arguments.seed,
        num_workers=NUM_READING_THREADS,
        progress=sys.stderr.isatty(),
    )
    return _answer(report, verification.rows_of(report, _range), arguments)


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


def _regression(arguments: argparse.Namespace) -> Answer:
    from dino_speech import evaluate_regression, read_manifest

    labels = [name.strip() for name in arguments.labels.split(",") if name.strip()]
    options: dict[str, Any] = {"seed": arguments.seed, "num_workers": NUM_READING_THREADS}
    options["progress"] = sys.stderr.isatty()
    if arguments.test_manifest:
        report = cross_corpus.evaluate(arguments, labels, **options)
    else:
        cross_corpus.refuse_without_test(arguments)
        manifest = read_manifest(arguments.manifest, where=dict(arguments.where))
        encoder = load_chosen_encoder(arguments)
        report = evaluate_regression(encoder, manifest, labels=labels, num_folds=arguments.folds, **options)
    rows: list[tuple[object, ...]] = []
    for name in report.labels:
        rows += [
            (f"CCC {name}", report.ccc[name], f"{_range(report.intervals[name])}, chance {report.chance_ccc:g}"),
            (f"RMSE {name}", report.rmse[name], f"{report.deviation[name]:.3g} of always saying the mean"),
        ]
    rows += [
        ("utterances", report.num_utterances, f"{len(report.skipped)} skipped"),
        ("speakers", report.num_speakers, f"{report.num_folds} speaker-disjoint folds" if report.num_folds else ""),
    ]
    return _answer(report, rows, arguments)


def _range(interval: Any) -> str:
    return f"{interval.low:.3g} to {interval.high:.3g}"


def _answer(report: Any, rows: list[tuple[object, ...]], arguments: argparse.Namespace) -> Answer:
    from dino_speech import write_results

    name_skipped(report.skipped)
    data = {**report.to_dict(), "encoder": arguments.encoder}
    if arguments.output is None:
        return Answer(data, table(rows))
    path = write_results(arguments.output, {arguments.encoder: report})
    return Answer({**data, "report": str(path)}, f"{table(rows)}\n\nReport: {path}")
