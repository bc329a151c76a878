"""What running a recipe shares, whatever it runs: keys that must be there, parts of manifests, what is kept."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dino_speech.errors import RecipeError

if TYPE_CHECKING:
    from dino_speech.data.manifest import Manifest
    from dino_speech.evaluation.probing.classification import ClassificationReport
    from dino_speech.evaluation.probing.regression import RegressionReport

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


@contextmanager
def keeping_recipe(recipe: Mapping[str, Any], folder: Path) -> Iterator[None]:
    """Keep the recipe when what is inside has finished or was interrupted, not where it was refused."""
    from dino_speech.training.signals import Interrupted

    try:
        yield
    except Interrupted:
        keep_recipe(recipe, folder)
        raise
    keep_recipe(recipe, folder)


def read_part(recipe: Mapping[str, Any], prefix: str, *, labels: Sequence[str] = ()) -> "Manifest | None":
    """The rows of a part ("train", "valid", "test"); None where the recipe names none.

    With a `label_range` in the recipe the `labels` must lie within it.
    """
    from dino_speech.recipe.commands.other_corpora import read_scaled

    source, where = recipe.get(f"{prefix}_manifest"), recipe.get("where" if prefix == "train" else f"{prefix}_where")
    if source is None and where is None:
        return None
    return read_scaled(recipe, recipe["train_manifest"] if source is None else source, labels, where=where)


def refuse_test(recipe: Mapping[str, Any], instead: str) -> None:
    """Refuse a test set where folds or a split already say who is judged.

    Raises:
        RecipeError: naming both.
    """
    for key in ("test_manifest", "test_where"):
        if recipe.get(key) is not None:
            raise RecipeError(f"{_name(recipe)}: {key} and {instead} both say what is judged; give one of them")


def figures_of(report: "ClassificationReport | RegressionReport") -> dict[str, Any]:
    """What a summary shows of a report: `uar`, `micro_f1`, `macro_f1`, or `ccc` by dimension."""
    names = ("uar", "micro_f1", "macro_f1") if hasattr(report, "uar") else ("ccc",)
    return {name: getattr(report, name) for name in names}


def _name(recipe: Mapping[str, Any]) -> str:
    return str(getattr(recipe, "path", "recipe"))
