"""How every subcommand is declared: its help ends with an example, and it takes `--json`."""

import argparse
from collections.abc import Callable

from dino_speech.cli.answer import Answer

Command = Callable[[argparse.Namespace], Answer]
Subparsers = argparse._SubParsersAction  # argparse has no public name for what `add_subparsers` returns

ENCODER_HELP = (
    "folder of an encoder (pretraining leaves it at OUTPUT_FOLDER/encoder), or a floor to compare with: "
    "random:NAME (untrained, seed 0; NAME e.g. ecapa_tdnn) or fbank_stats"
)


def add_command(
    subparsers: Subparsers, name: str, run: Command | None, *, summary: str, details: str = "", example: str = ""
) -> argparse.ArgumentParser:
    """A subcommand; `run` gets the parsed arguments and returns its answer (None: it only groups further ones)."""
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n\n{details}".strip(),
        epilog=f"example:\n  {example}" if example else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if run is not None:
        parser.set_defaults(run=run)
        parser.add_argument("--json", action="store_true", help="print one JSON object as the last line of stdout")
    return parser


def positive_int(text: str) -> int:
    """An argument's type: a whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number above 0")
    return value
