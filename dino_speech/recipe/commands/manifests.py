"""The manifests that a recipe names: its own parts, and `others` to judge on as well, all on one scale of numbers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dino_speech.errors import RecipeError

if TYPE_CHECKING:
    from dino_speech.data.manifest import Manifest

OPTIONS = ("manifest", "where", "columns", "label_range")


def require_numbers(recipe: Mapping[str, Any], objective: str) -> None:
    """Refuse a `label_range` where no numbers are learnt.

    Raises:
        RecipeError: the objective is not "ccc".
    """
    if recipe.get("label_range") is not None and objective != "ccc":
        raise RecipeError(f"label_range: the range of numbers, but {objective} learns classes; leave it out")


def read_train(recipe: Mapping[str, Any], labels: Sequence[str] = ()) -> "Manifest":
    """The rows of `train_manifest` that `where` selects; see `read_part`."""
    return read_scaled(recipe, recipe["train_manifest"], labels, where=recipe.get("where"))


def read_part(recipe: Mapping[str, Any], part: str, labels: Sequence[str] = ()) -> "Manifest | None":
    """The rows of a part ("valid", "test", "labelled"); None where the recipe names none.

    A part that has conditions and no manifest of its own is taken from `train_manifest`. With a `label_range` in the
    recipe the `labels` must lie within it.
    """
    source, where = recipe.get(f"{part}_manifest"), recipe.get(f"{part}_where")
    if source is None and where is None:
        return None
    return read_scaled(recipe, recipe["train_manifest"] if source is None else source, labels, where=where)


def read_scaled(recipe: Mapping[str, Any], source: Any, labels: Sequence[str], *, where: Any = None) -> "Manifest":
    """A manifest of the recipe's own corpus; with a `label_range` its labels are refused where they lie outside.

    Raises:
        InputError: see `read_manifest` and `rescale_labels`.
    """
    from dino_speech.data.derived_manifests import rescale_labels
    from dino_speech.data.manifest import read_manifest

    own = recipe.get("label_range")
    return rescale_labels(read_manifest(source, where=where), labels, own, onto=own)


def read_others(recipe: Mapping[str, Any], labels: Sequence[str]) -> dict[str, "Manifest"]:
    """The corpora of the key `others`, by name: each a file, or a mapping of `OPTIONS`.

    With a `label_range` of the recipe's own corpus each of them says its own, and is brought onto the former.

    Raises:
        RecipeError: `others` is no mapping, or has an unknown key, or lacks one.
        InputError: see `read_manifest`, `rename_labels` and `rescale_labels`.
    """
    given = recipe.get("others") or {}
    if not isinstance(given, Mapping):
        raise RecipeError(f"others is {given!r}; expected names of corpora with their manifests, {{NAME: FILE.csv}}")
    return {str(name): _read(str(name), one, labels, recipe.get("label_range")) for name, one in given.items()}


def _read(name: str, given: Any, labels: Sequence[str], own_range: Any) -> "Manifest":
    from dino_speech.data.derived_manifests import rename_labels, rescale_labels
    from dino_speech.data.manifest import read_manifest

    options = dict(given) if isinstance(given, Mapping) else {"manifest": given}
    if unknown := [key for key in options if key not in OPTIONS]:
        raise RecipeError(f"others.{name}: has no {unknown[0]!r}; possible: {', '.join(OPTIONS)}")
    if options.get("manifest") is None:
        raise RecipeError(f"others.{name}: no manifest; give --others.{name}.manifest=FILE.csv")
    label_range = options.get("label_range")
    if (label_range is None) != (own_range is None):
        raise RecipeError(
            f"others.{name}: label_range is {label_range!r}, that of train_manifest {own_range!r}; give both, each"
            " corpus its own, or neither"
        )
    manifest = read_manifest(options["manifest"], where=options.get("where"))
    renamed = rename_labels(manifest, options.get("columns") or {})
    return rescale_labels(renamed, labels, label_range, onto=own_range)
