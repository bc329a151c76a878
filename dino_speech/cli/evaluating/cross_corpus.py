"""`dino-speech evaluate regression --test-manifest`: learnt on one corpus, judged on another."""

import argparse
from typing import TYPE_CHECKING

from dino_speech.cli.evaluating.judging import reading
from dino_speech.cli.options import add_manifest_of, load_chosen_encoder, read_chosen_manifest
from dino_speech.errors import InputError, UsageError

if TYPE_CHECKING:
    from dino_speech.evaluation.probing.regression import RegressionReport

ONLY_WITH_TEST = ("test_where", "test_columns", "test_range", "label_range")


def add_options_of_another_corpus(parser: argparse.ArgumentParser) -> None:
    """The options of another corpus to judge on."""
    group = parser.add_argument_group("another corpus")
    add_manifest_of(group, "test", summary="judge on this corpus, whole; its speakers may not be in --manifest")
    group.add_argument(
        "--test-columns",
        metavar="NAME=COLUMN",
        nargs="+",
        default=[],
        action="extend",
        type=_renamed,
        help="what a label is called there, e.g. valence=sentiment",
    )
    group.add_argument("--label-range", metavar="LOW,HIGH", type=_range, help="ratings of --manifest, e.g. 1,7")
    group.add_argument(
        "--test-range",
        metavar="LOW,HIGH",
        type=_range,
        help="those of --test-manifest, e.g. 1,5: mapped onto the former",
    )


def evaluate(arguments: argparse.Namespace) -> "RegressionReport":
    """The report of the other corpus.

    Raises:
        UsageError: one of the ranges is missing, or `--folds` was given.
        InputError: what `evaluate_cross_corpus` refuses.
    """
    from dino_speech import evaluate_cross_corpus
    from dino_speech.data.derived_manifests import rename_labels, rescale_labels
    from dino_speech.evaluation.probing.regression import RegressionReport

    if (arguments.label_range is None) != (arguments.test_range is None):
        raise UsageError("--label-range and --test-range: give both, each corpus its own, or neither")
    if arguments.folds is not None:
        raise UsageError("--folds: another corpus is judged as one; leave it out")
    train, test = read_chosen_manifest(arguments), read_chosen_manifest(arguments, "test")
    assert train is not None
    assert test is not None
    test, labels = rename_labels(test, dict(arguments.test_columns)), arguments.labels
    reports = evaluate_cross_corpus(
        load_chosen_encoder(arguments),
        {"test": rescale_labels(test, labels, arguments.test_range, onto=arguments.label_range)},
        train=rescale_labels(train, labels, arguments.label_range, onto=arguments.label_range),
        labels=labels,
        seed=arguments.seed,
        **reading(),
    )
    assert isinstance(reports["test"], RegressionReport)
    return reports["test"]


def refuse_without_test(arguments: argparse.Namespace) -> None:
    """Options of another corpus mean nothing without one.

    Raises:
        UsageError: naming the option.
    """
    for name in ONLY_WITH_TEST:
        if getattr(arguments, name):
            raise UsageError(f"--{name.replace('_', '-')}: there is no other corpus; give --test-manifest too")


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
