"""`dino-speech quickstart`: the whole story in a few minutes."""

import argparse

from dino_speech.cli.answer import Answer
from dino_speech.cli.parsing import Subparsers, add_command


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
    parser.add_argument("--output", metavar="DIR", default="results/quickstart", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=1986, help="default: %(default)s")
    parser.add_argument(
        "--speaker-from-parent", action="store_true", help="with --data FOLDER: a file's folder is its speaker"
    )


def _quickstart(arguments: argparse.Namespace) -> Answer:
    from dino_speech.quickstart.run import quickstart

    report = quickstart(
        data=arguments.data,
        output=arguments.output,
        seed=arguments.seed,
        speaker_from_parent=arguments.speaker_from_parent,
    )
    return Answer(report.to_dict(), report.to_text())
