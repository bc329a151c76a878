"""`dino-speech evaluate` and its kinds `classification`, `regression` and `task`; the others have their own modules."""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from dino_speech.cli.answer import Answer, table
from dino_speech.cli.evaluating import clinical, stress, verification
from dino_speech.cli.evaluating.judging import add_judging, answer, judge, range_of, reading
from dino_speech.cli.options import (
    ROWS,
    Subparsers,
    add_command,
    add_manifest_of,
    add_options,
    chosen,
    load_chosen_encoder,
    read_chosen_manifest,
)
from dino_speech.errors import InputError, UsageError

if TYPE_CHECKING:
    from dino_speech.data.manifest import Manifest
    from dino_speech.evaluation.probing.regression import RegressionReport

ONLY_WITH_TEST = ("test_where", "test_columns", "test_range", "label_range")


def add_commands(subparsers: Subparsers) -> None:
    """Declare the commands of this file."""
    group = add_command(
        subparsers, "evaluate", None, "measure an encoder", example="dino-speech evaluate verification --help"
    )
    kinds = group.add_subparsers(metavar="KIND", required=True, dest="kind")
    verification.add_kind(kinds)
    parser = add_judging(
        *(kinds, "classification", _classification, "a linear probe on frozen embeddings, in speaker-disjoint folds"),
        details="Standardised embeddings, logistic regression chosen inside the training folds. With --fold-column:"
        " in the\nfolds as published; rows with `train` are learnt from in each. With --test-manifest: learnt from all"
        " of\n--manifest, judged on an official test part or another corpus.",
        example="test.csv --label emotion",
    )
    add_options(parser, "--label", required=True)
    add_options(parser.add_mutually_exclusive_group(), "--folds", "--fold-column")
    keep = "--fold-column: judge also where speakers are on both sides; speaker-disjoint folds stand beside it"
    parser.add_argument("--keep-shared-speakers", action="store_true", help=keep)
    _add_test_manifest(parser.add_argument_group("official test part, or another corpus"))
    parser = add_judging(
        *(kinds, "regression", _regression, "numbers from frozen embeddings, in speaker-disjoint folds"),
        details="Standardised embeddings, ridge regression chosen inside the training folds. CCC: concordance"
        " correlation,\n1 at best, 0 for always saying the mean. Rows where one of the columns is blank are left out"
        " and listed.\nWith --test-manifest: learnt from all of --manifest, judged on another corpus, by the columns"
        " that it has.",
        example="test.csv --labels arousal,valence",
    )
    add_options(parser, "--labels", required=True)
    add_options(parser, "--folds")
    _add_options_of_another_corpus(parser)
    clinical.add_kind(kinds)
    parser = add_judging(
        *(kinds, "task", _task, "a task by name: content, or one of a package that you installed"),
        details="Every utterance is embedded once; the task judges the embeddings. See the page Add your own.",
        example="test.csv --task retrieval --option label=speaker",
    )
    parser.add_argument("--task", metavar="NAME", required=True, help="its name")
    parser.add_argument("--option", metavar="KEY=VALUE", nargs="+", action="extend", default=[], help="for the task")
    stress.add_kinds(kinds)


def _classification(arguments: argparse.Namespace) -> Answer:
    from dino_speech import evaluate_classification

    if arguments.test_manifest:
        for name in ("folds", "fold_column", "keep_shared_speakers"):
            if getattr(arguments, name):
                problem = f"--{name.replace('_', '-')}: --test-manifest is judged as one; leave one of the two out"
                raise UsageError(problem)
        report: Any = _judged_elsewhere(arguments, label=arguments.label)
    else:
        _refuse_without_test(arguments, ("test_where",))
        options = chosen(arguments, "label", "fold_column", "keep_shared_speakers")
        report = judge(evaluate_classification, arguments, num_folds=arguments.folds, **options)
    rows: list[tuple[object, ...]] = [
        ("UAR", report.uar, f"{range_of(report.intervals['uar'])}, chance {report.chance_uar:.3f}"),
        ("micro F1", report.micro_f1, f"{range_of(report.intervals['micro_f1'])}, chance {report.chance_micro_f1:.3f}"),
        ("macro F1", report.macro_f1, range_of(report.intervals["macro_f1"])),
        *_size(report),
    ]
    if report.fold_uars:
        mean = sum(report.fold_uars.values()) / len(report.fold_uars)
        rows.insert(1, ("UAR, mean of folds", mean, "; ".join(f"{k}: {v:.3f}" for k, v in report.fold_uars.items())))
    rows += [(f"recall {name}", recall, "") for name, recall in report.recalls.items()]
    return _answer(report, rows, arguments)


def _regression(arguments: argparse.Namespace) -> Answer:
    from dino_speech import evaluate_regression

    if arguments.test_manifest:
        report = _of_another_corpus(arguments)
    else:
        _refuse_without_test(arguments, ONLY_WITH_TEST)
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
        ("speakers", report.num_speakers, _folds(report)),
    ]


def _folds(report: Any) -> str:
    if not report.num_folds or getattr(report, "fold_uars", None):
        return f"{report.num_folds} folds as published" if report.num_folds else ""
    return f"{report.num_folds} speaker-disjoint folds"


def _refuse_without_test(arguments: argparse.Namespace, names: Sequence[str]) -> None:
    for name in names:
        if getattr(arguments, name):
            raise UsageError(f"--{name.replace('_', '-')}: there is no other corpus; give --test-manifest too")


def _answer(report: Any, rows: list[tuple[object, ...]], arguments: argparse.Namespace) -> Answer:
    from dino_speech import write_results

    return answer(report, table(rows), arguments, lambda folder: write_results(folder, {arguments.encoder: report}))


def _add_test_manifest(group: argparse._ActionsContainer) -> None:
    add_manifest_of(group, "test", summary="judge on this corpus, whole; its speakers may not be in --manifest")


def _add_options_of_another_corpus(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("another corpus")
    _add_test_manifest(group)
    group.add_argument(
        "--test-columns",
        **{**ROWS, "metavar": "NAME=COLUMN", "default": [], "type": _renamed},
        help="what a label is called there, e.g. valence=sentiment",
    )
    group.add_argument("--label-range", metavar="LOW,HIGH", type=_range, help="ratings of --manifest, e.g. 1,7")
    there = "those of --test-manifest, e.g. 1,5: mapped onto the former"
    group.add_argument("--test-range", metavar="LOW,HIGH", type=_range, help=there)


def _of_another_corpus(arguments: argparse.Namespace) -> "RegressionReport":
    from dino_speech.data.derived_manifests import rename_labels, rescale_labels

    if (arguments.label_range is None) != (arguments.test_range is None):
        raise UsageError("--label-range and --test-range: give both, each corpus its own, or neither")
    if arguments.folds is not None:
        raise UsageError("--folds: another corpus is judged as one; leave it out")
    labels, own, theirs = arguments.labels, arguments.label_range, arguments.test_range

    def on_one_scale(train: "Manifest", test: "Manifest") -> tuple["Manifest", "Manifest"]:
        test = rename_labels(test, dict(arguments.test_columns))
        return rescale_labels(train, labels, own, onto=own), rescale_labels(test, labels, theirs, onto=own)

    return _judged_elsewhere(arguments, on_one_scale, labels=labels)


def _judged_elsewhere(
    arguments: argparse.Namespace,
    change: "Callable[[Manifest, Manifest], tuple[Manifest, Manifest]] | None" = None,
    **options: Any,
) -> Any:
    """The report of `--test-manifest`, learnt from `--manifest`."""
    from dino_speech import evaluate_cross_corpus

    train, test = read_chosen_manifest(arguments), read_chosen_manifest(arguments, "test")
    assert train is not None
    assert test is not None
    train, test = (train, test) if change is None else change(train, test)
    encoder = load_chosen_encoder(arguments)
    found = evaluate_cross_corpus(encoder, {"test": test}, train=train, seed=arguments.seed, **options, **reading())
    return found["test"]


def _renamed(text: str) -> tuple[str, str]:
    name, equals, column = text.partition("=")
    if not (name and equals and column):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=COLUMN, e.g. valence=sentiment")
    return name, column


def _range(text: str) -> tuple[float, float]:
    from dino_speech.data.derived_manifests import checked_range

    try:
        return checked_range(text.split(","))  # type: ignore[arg-type]
    except InputError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: expected LOW,HIGH, e.g. 1,7") from error


def _task(arguments: argparse.Namespace) -> Answer:
    from dino_speech import evaluate_task

    options = dict(text.split("=", 1) if "=" in text else (text, "") for text in arguments.option)
    report = judge(partial(evaluate_task, arguments.task), arguments, options=options)
    rows = [*report.figures.items(), ("utterances", report.num_utterances)]
    return answer(report, table([(name, value, "") for name, value in rows]), arguments, report.write)
