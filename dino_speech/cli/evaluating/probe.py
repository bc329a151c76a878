"""`dino-speech probe`: what each layer of an encoder knows."""

import argparse
import sys
from typing import Any

from dino_speech.cli.answer import Answer, name_skipped, table
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
    """Declare the command of this file."""
    parser = add_command(
        subparsers,
        "probe",
        _probe,
        summary="what each layer of an encoder knows",
        details=(
            "For every layer, each as the mean of its frames: UAR of a linear probe, CCC of ridge regression, EER of\n"
            "cosine scores, and similarity to acoustic descriptors or words by cross-validated CCA; then one layer,\n"
            "the mean and a learnt sum compared. Ask for one of them at least. Folds are disjoint by speaker."
        ),
        example="dino-speech probe --encoder results/dino/encoder --manifest test.csv --label emotion --cache layers",
    )
    add_encoder(parser)
    add_manifest(parser)
    parser.add_argument("--label", metavar="NAME", help="column of classes to predict")
    parser.add_argument("--labels", metavar="A,B,C", type=_names, default=[], help="columns of numbers to predict")
    parser.add_argument("--trials", metavar="TXT", help="list of trials, for the EER")
    parser.add_argument(
        "--descriptors",
        metavar="WHAT",
        help="egemaps (needs pip install 'dino-speech[descriptors]'), or a CSV of ID and numbers",
    )
    parser.add_argument("--transcript", metavar="COLUMN", help="column of what was said, compared with the layers")
    parser.add_argument("--layers", metavar="PATTERN", nargs="+", default=["*"], help="only these, e.g. 'layer_*'")
    parser.add_argument("--folds", type=positive_int, metavar="N", help="default: 5, or the speakers where fewer")
    parser.add_argument("--seed", type=int, default=0, help="of folds and intervals (default: %(default)s)")
    parser.add_argument("--cache", metavar="DIR", help="keep the layers here, for further questions")
    parser.add_argument("--output", metavar="DIR", help="write report.md, report.json and layers.png here")


def _names(text: str) -> list[str]:
    names = text.split(",")
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r}: expected column names, separated by commas")
    return names


def _probe(arguments: argparse.Namespace) -> Answer:
    from dino_speech import probe_layers, read_manifest, read_trials
    from dino_speech.evaluation.layers.layer_tables import write_layers

    report = probe_layers(
        load_chosen_encoder(arguments),
        read_manifest(arguments.manifest, where=dict(arguments.where)),
        label=arguments.label,
        labels=arguments.labels,
        trials=read_trials(arguments.trials) if arguments.trials else None,
        descriptors=arguments.descriptors,
        transcript=arguments.transcript,
        layers=arguments.layers,
        num_folds=arguments.folds,
        seed=arguments.seed,
        cache=arguments.cache,
        num_workers=NUM_READING_THREADS,
        progress=sys.stderr.isatty(),
    )
    name_skipped(report.skipped)
    data: dict[str, Any] = {**report.to_dict(), "encoder": arguments.encoder}
    if arguments.output:
        data["report"] = str(write_layers(arguments.output, report))
    return Answer(data, _text(report))


def _text(report: Any) -> str:
    figures = list(report.layers[0].figures())
    rows = [(layer.name, layer.width, *(layer.figures()[name] for name in figures)) for layer in report.layers]
    parts = [table(rows, header=("layer", "width", *figures))]
    for label, mixtures in report.comparison.items():
        found = [(one.name, one.value, f"{one.interval}", f"{one.gain:+.3g} ({one.gain_interval})") for one in mixtures]
        parts.append(table(found, header=(label, "value", "95 %", "gain over the last layer")))
    return "\n\n".join(parts)
