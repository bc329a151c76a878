"""What running a recipe shares, whatever it runs: keys that must be there, and the recipe kept beside its results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from dino_speech.errors import RecipeError

SEED = 1986
Kind = TypeVar("Kind")


def require_keys(recipe: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Refuse a recipe that lacks a value.

    Raises:
        RecipeError: naming the key, and the option that gives it.
    """
    for key in keys:
        if recipe.get(key) is None:
            raise RecipeError(f"{_name(recipe)}: no {key}; write it into the recipe, or give --{key}=VALUE")


def require_kind(recipe: Mapping[str, Any], key: str, kind: type[Kind]) -> Kind:
    """The value of a key, if it is an object of this class.

    Raises:
        RecipeError: it is another thing.
    """
    value = recipe[key]
    if not isinstance(value, kind):
        raise RecipeError(
            f"{_name(recipe)}: {key} is {type(value).__name__}; expected !new:dino_speech.{kind.__name__}"
        )
    return value


def keep_recipe(recipe: Mapping[str, Any], folder: Path) -> None:
    """Write the recipe as it was used to `<folder>/recipe.yaml`."""
    from dino_speech.distributed import is_main_process

    text = getattr(recipe, "text", None)
    if text is not None and is_main_process():
        (folder / "recipe.yaml").write_text(text, encoding="utf-8")


def _name(recipe: Mapping[str, Any]) -> str:
    return str(getattr(recipe, "path", "recipe"))
