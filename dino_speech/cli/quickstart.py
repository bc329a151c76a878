"""`dino-speech quickstart`: the whole story in a few minutes."""

import argparse

from dino_speech.cli.answer import Answer, left_out
from dino_speech.cli.options import Subparsers, add_command, add_options, choose_device, chosen


def add_commands(subparsers: Subparsers) -> None:
    """Declare the commands of this file."""
    parser = add_command(
        subparsers,
        "quickstart",
        _quickstart,
        summary="pretrain and judge an encoder in a few minutes",
        details="On built-in synthetic voices, or on your own folder or manifest with --data. Writes report.md, plots.",
        example="dino-speech quickstart --data recordings/ --speaker-from-parent --output results/quickstart",
    )
    parser.add_argument("--data", metavar="DIR_OR_MANIFEST", help="your own speech (default: synthetic voices)")
    add_options(parser, "--output", default="results/quickstart", help="%(default)s")
    add_options(parser, "--seed", default=1986, help="of voices, split, weights and training (%(default)s)")
    add_options(parser, "--device", "--speaker-from-parent")


def _quickstart(arguments: argparse.Namespace) -> Answer:
    from dino_speech.quickstart.run import quickstart

    device = None if arguments.device is None else choose_device(arguments.device)
    report = quickstart(**chosen(arguments, "data", "output", "seed", "speaker_from_parent"), device=device)
    return Answer({**report.to_dict(), **left_out(report.data.skipped, tell=False)}, report.to_text())
