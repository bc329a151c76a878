"""From a recipe's file and the options of a command line to its finished values.

A recipe's kind says which keys it may hold; to state only a difference from another recipe it has `base`. Any further
key must be read by some `!ref`: a key that nothing reads is a misspelt one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dino_speech.errors import RecipeError, UsageError
from dino_speech.recipe.construct import construct_tree
from dino_speech.recipe.nodes import read_tree
from dino_speech.recipe.places import check_places, typed_texts
from dino_speech.recipe.references import referenced_keys, resolve, weigh
from dino_speech.recipe.safety import check_complete, check_names, check_tree
from dino_speech.recipe.yaml_text import Node, get, to_text

DATA = ("train_manifest", "where", "output_folder")
TEST = ("test_manifest", "test_where")


@dataclass(frozen=True)
class RecipeKind:
    """A kind of recipe, known by the top-level key that only it has, whose object does the work."""

    key: str
    commands: tuple[str, ...]
    further: tuple[str, ...]  # other top-level keys that it may hold

    @property
    def keys(self) -> tuple[str, ...]:
        """Every top-level key that something reads."""
        return (*DATA, self.key, *self.further)


TUNING = ("valid_manifest", "valid_where", *TEST, "fold_column", "num_folds", "clinical", "label_range", "others")
KINDS = (
    RecipeKind("trainer", ("pretrain",), ("seed", "crops", "encoder", "monitor")),
    RecipeKind("tuner", ("finetune", "train-supervised"), ("seed", "encoder", "stages", *TUNING)),
    RecipeKind(
        "study", ("study",), ("seeds", "stages", "trials", "trials_manifest", "group_by", "label_range", "others")
    ),
    RecipeKind(
        "pseudo_labels", ("pseudo-label",), ("seed", "encoder", "clustering", "stages", "monitor", "quality_label")
    ),
    RecipeKind("adapter", ("adapt",), ("seed", "encoder")),
    RecipeKind(
        "distiller",
        ("distill",),
        ("seed", "teacher", "student", "readout", "labelled_manifest", "labelled_where", *TEST),
    ),
)


def kind_of(tree: Node, command: str | None = None) -> RecipeKind:
    """The kind of a recipe by its key; that of the command (or of pretraining) where no key tells."""
    # `trainer` last: a study or a tuner may keep settings for trainers under that name
    found = [kind for kind in (*KINDS[1:], KINDS[0]) if get(tree, kind.key) is not None]
    return (found or [kind for kind in KINDS if command in kind.commands] or [KINDS[0]])[0]


class Recipe(dict[str, Any]):
    """The values of a recipe, by key."""

    path: Path
    text: str  # as it was used, with its base and the options of the command line, as YAML


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
    if trust:
        recipe = Recipe(_load_trusted(text, path))
    else:
        typed = typed_texts(tree)
        check_places(resolve(tree), Path(path), typed)
        recipe = Recipe(construct_tree(tree))
    recipe.path, recipe.text = Path(path), text
    return recipe


def _load_trusted(text: str, path: str | Path) -> dict[str, Any]:
    from hyperpyyaml import load_hyperpyyaml

    try:
        return dict(load_hyperpyyaml(text))
    except (ValueError, TypeError, ImportError, KeyError) as error:
        raise RecipeError(f"{path}: {error}") from error
