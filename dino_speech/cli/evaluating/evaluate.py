"""`dino-speech evaluate` and its kinds `classification` and `regression`; the other kinds have modules of their own."""

import argparse
from typing import Any

from dino_speech.cli.answer import Answer, table
from dino_speech.cli.evaluating import added_task, clinical, cross_corpus, stress, verification
from dino_speech.cli.evaluating.judging import add_judging, answer, judge, range_of
from dino_speech.cli.options import Subparsers, add_command, add_options


def add_commands(subparsers: Subparsers) -> None:
    """Declare the commands of this file."""
    group = add_command(
        subparsers, "evaluate", None, summary="measure an encoder", example="dino-speech evaluate verification --help"
    )
    kinds = group.add_subparsers(metavar="KIND", required=True, dest="kind")
    verification.add_kind(kinds)
    parser = add_judging(
        kinds,
        "classification",
        _classification,
        summary="a linear probe on frozen embeddings, in speaker-disjoint folds",
        details="Standardised embeddings, logistic regression chosen inside the training folds.",
        example="test.csv --label emotion",
    )
    add_options(parser, "--label", required=True)
    add_options(parser, "--folds")
    parser = add_judging(
        kinds,
        "regression",
        _regression,
        summary="numbers from frozen embeddings, in speaker-disjoint folds",
        details="Standardised embeddings, ridge regression chosen inside the training folds. CCC: concordance"
        " correlation,\n1 at best, 0 for always saying the mean. Rows where one of the columns is blank are left out"
        " and listed.\nWith --test-manifest: learnt from all of --manifest, judged on another corpus, by the columns"
        " that it has.",
        example="test.csv --labels arousal,valence",
    )
    add_options(parser, "--labels", required=True)
    add_options(parser, "--folds")
    cross_corpus.add_options_of_another_corpus(parser)
    clinical.add_kind(kinds)
    added_task.add_kind(kinds)
    stress.add_kinds(kinds)


def _classification(arguments: argparse.Namespace) -> Answer:
    from dino_speech import evaluate_classification

    report = judge(evaluate_classification, arguments, label=arguments.label, num_folds=arguments.folds)
    rows: list[tuple[object, ...]] = [
        ("UAR", report.uar, f"{range_of(report.intervals['uar'])}, chance {report.chance_uar:.3f}"),
        ("micro F1", report.micro_f1, f"{range_of(report.intervals['micro_f1'])}, chance {report.chance_micro_f1:.3f}"),
        ("macro F1", report.macro_f1, range_of(report.intervals["macro_f1"])),
        *_size(report),
    ]
    rows += [(f"recall {name}", recall, "") for name, recall in report.recalls.items()]
    return _answer(report, rows, arguments)


def _regression(arguments: argparse.Namespace) -> Answer:
    from dino_speech import evaluate_regression

    if arguments.test_manifest:
        report = cross_corpus.evaluate(arguments)
    else:
        cross_corpus.refuse_without_test(arguments)
        report = judge(evaluate_regression, arguments, labels=arguments.labels, num_folds=arguments.folds)
    rows: list[tuple[object, ...]] = []
    for name in report.labels:
        chance = f"{range_of(report.intervals[name])}, chance {report.chance_ccc:g}"
        rows += [
            (f"CCC {name}", report.ccc[name], chance),
            (f"RMSE {name}", report.rmse[name], f"{report.deviation[name]:.3g} of always saying the mean"),
        ]
    return _answer(report, [*rows, *_size(report)], arguments)


def _size(report: Any) -> list[tuple[object, ...]]:
    return [
        ("utterances", report.num_utterances, f"{len(report.skipped)} skipped"),
        ("speakers", report.num_speakers, f"{report.num_folds} speaker-disjoint folds" if report.num_folds else ""),
    ]


def _answer(report: Any, rows: list[tuple[object, ...]], arguments: argparse.Namespace) -> Answer:
    from dino_speech import write_results

    return answer(report, table(rows), arguments, lambda folder: write_results(folder, {arguments.encoder: report}))
