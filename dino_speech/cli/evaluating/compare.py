"""`dino-speech compare`: several encoders, one table."""

import argparse
from pathlib import Path

from dino_speech.cli.answer import Answer, left_out
from dino_speech.cli.evaluating.judging import reading
from dino_speech.cli.options import (
    OPTIONS,
    Subparsers,
    add_command,
    add_options,
    choose_device,
    chosen,
    positive_int,
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
        subparsers,
        "compare",
        _compare,
        summary="encoders side by side: figures, robustness, fairness and cost as one table",
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
    parser.add_argument(
        "--num-resamples", type=positive_int, default=1000, metavar="N", help="of the bootstrap (%(default)s)"
    )
    add_options(parser, "--seconds")
    add_options(parser, "--num-threads", default=None, help="of the CPU, for the cost (default: as PyTorch chooses)")
    add_options(parser, "--output", required=True, help="folder of the tables and finished parts")
    add_options(parser, "--restart", help="compute finished parts anew")


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
