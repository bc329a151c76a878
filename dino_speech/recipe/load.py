"""From a recipe's file and the options of a command line to its finished values.

Which keys a recipe may hold says `kinds.py`; to state only a difference from another recipe it has `base`. Any further
key must be read by some `!ref`: a key that nothing reads is a misspelt one.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dino_speech.errors import RecipeError, UsageError
from dino_speech.recipe.construct import construct_tree
from dino_speech.recipe.kinds import kind_of
from dino_speech.recipe.nodes import read_tree
from dino_speech.recipe.references import referenced_keys, resolve, weigh
from dino_speech.recipe.safety import check_complete, check_names, check_tree
from dino_speech.recipe.yaml_text import to_text


class Recipe(dict[str, Any]):
    """The values of a recipe, by key.

    Attributes:
        path: the file.
        text: the recipe as it was used, with its base and the options of the command line, as YAML.
    """

    path: Path
    text: str


def load_recipe(
    path: str | Path, overrides: Iterable[str] = (), *, trust: bool = False, command: str | None = None
) -> Recipe:
    r"""Read a recipe; everything in it is checked before anything in it is constructed.

    Args:
        path: a HyperPyYAML file.
        overrides: texts `--key=value` or `--key.subkey=value`, as on the command line; checked like the file. `-` and
            `_` are alike in keys.
        trust: let the recipe name any Python object, and leave the reading to `hyperpyyaml`. Like running a program.
        command: the command that will run it; None: any.

    Raises:
        RecipeError: a key is unknown, a name not allowed, a value missing, or a constructor refuses its arguments.
        UsageError: this is a recipe for another command.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "small.yaml")
        >>> _ = file.write_text("seed: 1986\noutput_folder: !ref results/<seed>")
        >>> load_recipe(file, ["--seed=3"])
        {'seed': 3, 'output_folder': 'results/3'}
    """
    tree = read_tree(path, overrides)
    kind = kind_of(tree, command)
    if command is not None and command not in kind.commands:
        right = kind.commands[0]
        raise UsageError(f"{path}: this is a recipe for `{right}`: dino-speech {right} {path}")
    if not trust:
        weigh(tree)
        check_tree(tree)
    further = referenced_keys(tree)
    check_names(((k.value, k) for k, _ in tree.value if k.value not in further), kind.keys, "a recipe")
    check_complete(tree)
    text = to_text(tree)
    recipe = Recipe(_load_trusted(text, path) if trust else construct_tree(resolve(tree)))
    recipe.path, recipe.text = Path(path), text
    return recipe


def _load_trusted(text: str, path: str | Path) -> dict[str, Any]:
    from hyperpyyaml import load_hyperpyyaml

    try:
        return dict(load_hyperpyyaml(text))
    except (ValueError, TypeError, ImportError, KeyError) as error:
        raise RecipeError(f"{path}: {error}") from error
