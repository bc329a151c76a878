"""`dino-speech compare`, several encoders in one table, and `probe`: what each layer of one knows."""

import argparse
from pathlib import Path
from typing import Any

from dino_speech.cli.answer import Answer, left_out, table
from dino_speech.cli.evaluating.judging import add_judging, answer, judge, reading
from dino_speech.cli.options import (
    OPTIONS,
    OutputFolder,
    Subparsers,
    add_command,
    add_options,
    choose_device,
    chosen,
    read_chosen_manifest,
)

CHOICES = ("all", "quick", "none")
CONDITIONS = (
    f"{', '.join(CHOICES)}; or names or kinds, such as gain,white_noise_10db (default: all, some forty passes over the"
    " audio; quick: six)"
)


def add_commands(subparsers: Subparsers) -> None:
    """Declare the commands of this file."""
    parser = add_command(
        *(subparsers, "compare", _compare, "encoders side by side: figures, robustness, fairness, cost as one table"),
        details=(
            "One row per encoder, on the same utterances and folds, held against a floor. Writes table.md, table.csv,\n"
            "report.md, report.json and a picture to OUTPUT. Finished parts are kept: the same command goes on where\n"
            "it was stopped, and with more encoders or conditions computes only what is new."
        ),
        example="dino-speech compare --encoder results/dino/encoder results/xvector/encoder fbank_stats"
        " --manifest labelled.csv --label emotion --output results/comparison",
    )
    named = f"{OPTIONS['--encoder']['help']}; named by their folders where no NAME is given"
    add_options(parser, "--encoder", metavar="[NAME=]DIR", nargs="+", action="extend", help=named)
    add_options(parser, "--device", "--manifest", "--where", "--label", "--labels", "--trials", "--group")
    parser.add_argument("--floor", metavar="NAME", default="fbank_stats", help="row to hold against (%(default)s)")
    add_options(parser, "--conditions", help=CONDITIONS)
    add_options(parser, "--noise", "--rir", "--folds", "--seed")
    add_options(parser, "--num-resamples", "--seconds")
    add_options(parser, "--num-threads", default=None, help="of the CPU, for the cost (default: as PyTorch chooses)")
    add_options(parser, "--output", required=True, help="folder of the tables and finished parts")
    add_options(parser, "--restart", help="compute finished parts anew")
    parser = add_judging(
        *(subparsers, "probe", _probe, "what each layer of an encoder knows"),
        details=(
            "For every layer, each as the mean of its frames: UAR of a linear probe, CCC of ridge regression, EER of\n"
            "cosine scores, and similarity to acoustic descriptors or words by cross-validated CCA; then one layer,\n"
            "the mean and a learnt sum compared. Ask for one of them at least. Folds are disjoint by speaker."
        ),
        example="test.csv --label emotion --cache layers",
    )
    add_options(parser, "--label", "--labels", "--trials", "--folds")
    descriptors = "egemaps (needs pip install 'dino-speech[descriptors]'), or a CSV of ID and numbers"
    parser.add_argument("--descriptors", metavar="WHAT", help=descriptors)
    parser.add_argument("--transcript", metavar="COLUMN", help="column of what was said, compared with the layers")
    parser.add_argument("--layers", metavar="PATTERN", nargs="+", default=["*"], help="only these, e.g. 'layer_*'")
    parser.add_argument("--cache", type=OutputFolder, metavar="DIR", help="keep the layers here, for further questions")


def _compare(arguments: argparse.Namespace) -> Answer:
    from dino_speech import compare_encoders

    given = arguments.conditions or ["all"]
    task = chosen(arguments, "label", "trials", "group", "floor", "noise", "rir")
    cost = chosen(arguments, "num_resamples", "seconds", "num_threads", "seed")
    found = compare_encoders(
        arguments.encoder,
        read_chosen_manifest(arguments),
        output_folder=arguments.output,
        labels=arguments.labels or [],
        perturbations=given[0] if len(given) == 1 and given[0] in CHOICES else given,
        num_folds=arguments.folds,
        device=choose_device(arguments.device),
        resume=not arguments.restart,
        **task,
        **cost,
        **reading(),
    )
    where = "\n".join(f"{name}: {path}" for name, path in found.files.items())
    text = Path(found.files["table"]).read_text(encoding="utf-8")
    return Answer({**found.to_dict(), **left_out(found.skipped)}, f"{text}\n{where}")


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
