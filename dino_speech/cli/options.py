"""The options of the commands, each declared once, and a command line's words before they are parsed."""

import argparse
import logging
import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from dino_speech.cli.answer import Answer
from dino_speech.errors import UsageError

if TYPE_CHECKING:
    from dino_speech.data.manifest import Manifest
    from dino_speech.models.encoder import SpeechEncoder

Command = Callable[[argparse.Namespace], Answer]
Subparsers = argparse._SubParsersAction  # argparse has no public name for what `add_subparsers` returns
NUM_READING_THREADS = 2


class MisuseError(UsageError):
    """A command line that cannot be parsed, with the usage of the command."""

    def __init__(self, message: str, usage: str) -> None:
        super().__init__(message)
        self.usage = usage


class Parser(argparse.ArgumentParser):
    """A parser that raises what is wrong, so that it can be told as JSON, too."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        raise MisuseError(message, self.format_usage())


class _Names(argparse.Action):
    """Names, separated by commas or as words of their own, of one option or several."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        names = [name.strip() for value in values for name in value.split(",")]
        if not all(names):
            raise argparse.ArgumentError(self, f"{','.join(values)!r}: expected names, separated by commas")
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or []), *names])


def positive_int(text: str) -> int:
    """An argument's type: a whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number above 0")
    return value


class OutputFolder(str):
    """An argument's type: a folder that results go to, looked at before the command begins (`main.py`)."""

    __slots__ = ()
    is_file = False


class OutputFile(OutputFolder):
    """The same for a file."""

    __slots__ = ()
    is_file = True


def _column_and_values(text: str) -> tuple[str, list[str]]:
    column, equals, values = text.partition("=")
    if not (column and equals and values):
        raise argparse.ArgumentTypeError(f"{text!r}: expected COLUMN=VALUE, e.g. split=test")
    return column, values.split(",")


MANIFESTS: dict[str, Any] = {"metavar": "CSV", "nargs": "+", "action": "extend"}
ROWS: dict[str, Any] = {"metavar": "COLUMN=VALUE", "nargs": "+", "action": "extend", "type": _column_and_values}
NAMES: dict[str, Any] = {"metavar": "A,B", "nargs": "+", "action": _Names}
OPTIONS: dict[str, dict[str, Any]] = {
    "--allow-urls": {"action": "store_true", "help": "fetch from any host that a manifest or a recipe names"},
    "--conditions": {**NAMES, "help": "names or kinds, such as gain,white_noise_10db (default: all)"},
    "--device": {"help": "cpu, cuda, cuda:N (default: a GPU where there is one)"},
    "--encoder": {
        "metavar": "DIR",
        "required": True,
        "help": "folder of an encoder (pretraining leaves it at OUTPUT_FOLDER/encoder), or a floor to compare with: "
        "random:NAME (untrained, seed 0; NAME e.g. ecapa_tdnn), untrained:DIR (the same network untrained), "
        "fbank_stats, or egemaps, compare2016 (opensmile: research only)",
    },
    "--folds": {"type": positive_int, "metavar": "N", "help": "default: 5, or the speakers where fewer"},
    "--fold-column": {"metavar": "COLUMN", "help": "folds as published: one per value"},
    "--group": {"metavar": "COLUMN", "help": "column of groups (default: sex, where there is one)"},
    "--json": {"action": "store_true", "help": "print one JSON object as the last line of stdout"},
    "--label": {"metavar": "NAME", "help": "column of classes, to be predicted: UAR"},
    "--labels": {**NAMES, "help": "columns of numbers, to be predicted: CCC"},
    "--manifest": {**MANIFESTS, "required": True, "help": "one manifest or several"},
    "--noise": {"metavar": "DIR", "help": "folder or manifest of recorded noise, music, speech to add"},
    "--num-threads": {"type": positive_int, "metavar": "N", "default": 4, "help": "files at a time (%(default)s)"},
    "--num-resamples": {
        "type": positive_int,
        "metavar": "N",
        "default": 1000,
        "help": "of bootstraps (%(default)s)",
    },
    "--output": {
        "metavar": "DIR",
        "type": OutputFolder,
        "help": "also write report.md, report.json and pictures there",
    },
    "--restart": {"action": "store_true", "help": "delete what a former run left instead of going on with it"},
    "--rir": {"metavar": "DIR", "help": "folder or manifest of room responses (default: synthetic rooms)"},
    "--seconds": {"type": float, "metavar": "S", "default": 10.0, "help": "length of a timed wave (%(default)s)"},
    "--seed": {"type": int, "metavar": "N", "default": 0, "help": "of folds, intervals, conditions (%(default)s)"},
    "--speaker-from-parent": {"action": "store_true", "help": "of a folder: the folder of a file is its speaker"},
    "--trials": {"metavar": "TXT", "help": "list of trials: EER of cosine scores"},
    "--vad": {
        "choices": ("energy", "range"),
        "default": "energy",
        "help": "energy: Kaldi's rule; range: against the recording's own floor, for noisy ones (%(default)s)",
    },
    "--where": {**ROWS, "default": [], "help": "only these rows; VALUE may be A,B"},
}


def add_options(parser: argparse._ActionsContainer, *names: str, **changes: Any) -> None:
    """Options of the table; `changes` say what is different here."""
    for name in names:
        parser.add_argument(name, **OPTIONS[name] | changes)


def add_command(
    subparsers: Subparsers, name: str, run: Command | None, summary: str, *, details: str = "", example: str = ""
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
        add_options(parser, "--json", "--allow-urls")
    return parser


def add_manifest_of(parser: argparse._ActionsContainer, role: str, *, summary: str) -> None:
    """The options `--ROLE-manifest` and `--ROLE-where`, for a manifest beside `--manifest`."""
    parser.add_argument(f"--{role}-manifest", **MANIFESTS, help=summary)
    parser.add_argument(f"--{role}-where", **ROWS, default=[], help=f"only these rows of --{role}-manifest")


def read_chosen_manifest(arguments: argparse.Namespace, role: str = "") -> "Manifest | None":
    """The manifest of `--manifest` and `--where`, or of those of a role; None where none is given."""
    from dino_speech import read_manifest

    prefix = f"{role}_" if role else ""
    paths, where = getattr(arguments, f"{prefix}manifest"), getattr(arguments, f"{prefix}where")
    if where and not paths:
        dashed = f"--{role}-" if role else "--"
        raise UsageError(f"{dashed}where selects rows of {dashed}manifest, which is not given")
    return read_manifest(paths, where=dict(where)) if paths else None


def load_chosen_encoder(arguments: argparse.Namespace) -> "SpeechEncoder":
    """The encoder that `--encoder` names, on `--device`."""
    from dino_speech import load_encoder

    return load_encoder(arguments.encoder, device=choose_device(arguments.device))


def choose_device(device: str | None) -> str:
    """The device that `--device` names; None: a GPU where there is one. A `UsageError` where there is none such."""
    import torch

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"--device {device}: cannot be used here ({reason}); see dino-speech doctor") from error
    return device


def chosen(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The arguments of these names, to be passed on."""
    return {name: getattr(arguments, name) for name in names}


OPTION = re.compile(r"--[A-Za-z_][\w.-]*")
FORMER = {
    "--group-by": "--group",
    "--threads": "--num-threads",
    "--num-workers": "--num-threads",
    "--perturbations": "--conditions",
    "--num-folds": "--folds",
}
RECIPE_COMMANDS = ("pretrain", "finetune", "train-supervised", "pseudo-label", "study", "adapt", "distill")
OF_THE_COMMAND = ("--help", "--json", "--device", "--restart", "--trust-recipe", "--allow-urls")  # all others: keys
logger = logging.getLogger(__name__)


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words for the parser, and the options of a recipe, each as `--key=value`.

    Example:
        >>> split_words(["pretrain", "--trainer.lr", "0.1", "small.yaml", "--seed=3", "--trust_recipe"])
        (['pretrain', 'small.yaml', '--trust-recipe'], ['--trainer.lr=0.1', '--seed=3'])
    """
    if not words or words[0] not in RECIPE_COMMANDS:
        return [_present_name(word) for word in words], []
    ours: list[str] = []
    keys: list[str] = []
    waiting = deque(words)
    while waiting:
        word = waiting.popleft()
        name, equals, _ = word.partition("=")
        if not OPTION.fullmatch(name) or _dashed(name) in OF_THE_COMMAND:
            ours.append(_dashed(word))
        elif equals:
            keys.append(word)
        elif waiting and not waiting[0].startswith("--"):
            keys.append(f"{word}={waiting.popleft()}")
        else:
            raise UsageError(f"{word}: expected a value of the recipe, {word} VALUE or {word}=VALUE")
    return ours, keys


def _present_name(word: str) -> str:
    word = _dashed(word)
    name, equals, value = word.partition("=")
    if name not in FORMER:
        return word
    logger.warning("%s: now called %s; the former name goes with the next version", name, FORMER[name])
    return f"{FORMER[name]}{equals}{value}"


def _dashed(word: str) -> str:
    """An option with `-` in its name, whatever its value; another word as it is."""
    name, equals, value = word.partition("=")
    return f"{name.replace('_', '-')}{equals}{value}" if OPTION.fullmatch(name) else word
