"""What `python train.py hparams/RECIPE.yaml [--key value ...]` does in each folder of recipes."""

import sys
from collections.abc import Sequence
from pathlib import Path

from dino_speech.cli.answer import table
from dino_speech.cli.main import main
from dino_speech.cli.options import split_words
from dino_speech.errors import InputError
from dino_speech.recipe.load import kind_of
from dino_speech.recipe.nodes import read_tree

USAGE = "usage: python train.py RECIPE.yaml [--key value ...] [--device cpu] [--restart] [--json]"


def train(script: str, words: Sequence[str] | None = None, *, command: str | None = None) -> int:
    """Run a recipe by the command that it is for; the exit code, 2 without a recipe.

    Args:
        script: its file: `hparams/` lies beside it.
        words: what was typed behind it; None: this process's own.
        command: where a recipe could be for two commands, the one that is meant.
    """
    words = list(sys.argv[1:] if words is None else words)
    folder = Path(script).parent
    given = next((word for word in _recipe_first(words) if word.endswith((".yaml", ".yml"))), None)
    if given is None:
        asked = "--help" in words or "-h" in words
        print(_usage(folder, command), file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    place = given if Path(given).exists() else str(folder / given)
    return main([command or _command(Path(place)), place, *(word for word in words if word != given)])


def _recipe_first(words: Sequence[str]) -> list[str]:
    """The words that are neither keys of a recipe nor their values."""
    try:
        return split_words(["pretrain", *words])[0][1:]
    except InputError:
        return list(words)


def _usage(folder: Path, command: str | None) -> str:
    recipes = sorted((folder / "hparams").glob("*.yaml"))
    rows = [(str(path.relative_to(folder)), f"dino-speech {command or _command(path)}") for path in recipes]
    more = "Every value of a recipe can be given as --key value; dino-speech COMMAND --help says more."
    return f"{USAGE}\n\nRecipes of this folder, and the command that does the same:\n{table(rows)}\n\n{more}"


def _command(recipe: Path) -> str:
    try:
        return kind_of(read_tree(recipe)).commands[0]
    except InputError:
        return "pretrain"  # which says what is wrong with this file
