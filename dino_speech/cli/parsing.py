"""What the subcommands share: help that ends with an example, `--json`, `--encoder`, `--device`."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from dino_speech.cli.answer import Answer

if TYPE_CHECKING:
    from dino_speech.models.encoder import SpeechEncoder

Command = Callable[[argparse.Namespace], Answer]
Subparsers = argparse._SubParsersAction  # argparse has no public name for what `add_subparsers` returns

ENCODER_HELP = (
    "folder of an encoder (pretraining leaves it at OUTPUT_FOLDER/encoder), or a floor to compare with: "
    "random:NAME (untrained, seed 0; NAME e.g. ecapa_tdnn), untrained:DIR (the same network untrained) or fbank_stats"
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
        parser.add_argument(
            "--allow-urls",
            action="store_true",
            help="fetch from any host that a manifest or a recipe names",
        )
    return parser


def add_encoder(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """The options `--encoder`, which may be given several times, and `--device`."""
    action = "append" if several else "store"
    parser.add_argument("--encoder", metavar="DIR", required=True, action=action, help=ENCODER_HELP)
    parser.add_argument("--device", help="cpu, cuda, cuda:N (default: a GPU where there is one)")


def add_manifest(
    parser: argparse._ActionsContainer, role: str = "", *, summary: str = "one manifest or several"
) -> None:
    """The options `--manifest` and `--where`; of a role such as "train": `--train-manifest` and `--train-where`."""
    prefix = f"--{role}-" if role else "--"
    parser.add_argument(f"{prefix}manifest", metavar="CSV", required=not role, nargs="+", action="extend", help=summary)
    parser.add_argument(
        f"{prefix}where",
        metavar="COLUMN=VALUE",
        nargs="+",
        default=[],
        action="extend",
        type=_condition,
        help=f"only these rows{f' of {prefix}manifest' if role else ''}; VALUE may be A,B",
    )


def _condition(text: str) -> tuple[str, list[str]]:
    column, equals, values = text.partition("=")
    if not (column and equals and values):
        raise argparse.ArgumentTypeError(f"{text!r}: expected COLUMN=VALUE, e.g. split=test")
    return column, values.split(",")


def load_chosen_encoder(arguments: argparse.Namespace) -> "SpeechEncoder":
    """The encoder that `--encoder` names, on `--device`.

    Raises:
        InputError: there is no such encoder or no such device.
    """
    from dino_speech import load_encoder

    return load_encoder(arguments.encoder, device=choose_device(arguments.device))


def choose_device(device: str | None) -> str:
    """The device that `--device` names; None: a GPU where there is one.

    Raises:
        InputError: there is no such device.
    """
    import torch

    from dino_speech.errors import InputError

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"--device {device}: cannot be used here ({reason}); see dino-speech doctor") from error
    return device


def positive_int(text: str) -> int:
    """An argument's type: a whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number above 0")
    return value
