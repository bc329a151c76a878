"""`dino-speech probe`: what each layer of an encoder knows."""

import argparse
from typing import Any

from dino_speech.cli.answer import Answer, table
from dino_speech.cli.evaluating.judging import add_judging, answer, judge
from dino_speech.cli.options import Subparsers, add_options, chosen


def add_commands(subparsers: Subparsers) -> None:
    """Declare the command of this file."""
    parser = add_judging(
        subparsers,
        "probe",
        _probe,
        summary="what each layer of an encoder knows",
        details=(
            "For every layer, each as the mean of its frames: UAR of a linear probe, CCC of ridge regression, EER of\n"
            "cosine scores, and similarity to acoustic descriptors or words by cross-validated CCA; then one layer,\n"
            "the mean and a learnt sum compared. Ask for one of them at least. Folds are disjoint by speaker."
        ),
        example="test.csv --label emotion --cache layers",
    )
    add_options(parser, "--label", "--labels", "--trials", "--folds")
    parser.add_argument(
        "--descriptors",
        metavar="WHAT",
        help="egemaps (needs pip install 'dino-speech[descriptors]'), or a CSV of ID and numbers",
    )
    parser.add_argument("--transcript", metavar="COLUMN", help="column of what was said, compared with the layers")
    parser.add_argument("--layers", metavar="PATTERN", nargs="+", default=["*"], help="only these, e.g. 'layer_*'")
    parser.add_argument("--cache", metavar="DIR", help="keep the layers here, for further questions")


def _probe(arguments: argparse.Namespace) -> Answer:
    from dino_speech import probe_layers, read_trials
    from dino_speech.evaluation.layers.layer_tables import write_layers

    names = ("label", "descriptors", "transcript", "layers", "cache")
    trials = read_trials(arguments.trials) if arguments.trials else None
    options = {"labels": arguments.labels or [], "trials": trials, "num_folds": arguments.folds}
    report = judge(probe_layers, arguments, **options, **chosen(arguments, *names))
    return answer(report, _text(report), arguments, lambda folder: write_layers(folder, report))


def _text(report: Any) -> str:
    figures = list(report.layers[0].figures())
    rows = [(layer.name, layer.width, *(layer.figures()[name] for name in figures)) for layer in report.layers]
    parts = [table(rows, header=("layer", "width", *figures))]
    for label, mixtures in report.comparison.items():
        found = [(one.name, one.value, f"{one.interval}", f"{one.gain:+.3g} ({one.gain_interval})") for one in mixtures]
        parts.append(table(found, header=(label, "value", "95 %", "gain over the last layer")))
    return "\n\n".join(parts)
