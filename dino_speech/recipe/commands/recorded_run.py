"""What running a recipe shares: the manifests that it names, keys that must be there, what is kept, the summary."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dino_speech.data.atomic import write_text_atomically
from dino_speech.errors import RecipeError
from dino_speech.received_files import refuse_links_out
from dino_speech.recipe.load import DATA

if TYPE_CHECKING:
    from dino_speech.data.manifest import Manifest
    from dino_speech.evaluation.probing.classification import ClassificationReport
    from dino_speech.evaluation.probing.regression import RegressionReport

SEED = 1986
NUM_READING_THREADS = 2
Kind = TypeVar("Kind")


@dataclass(frozen=True)
class RecordedRun:
    """One run of a recipe on a manifest: timed, with the recipe as it was used at `<output_folder>/recipe.yaml`."""

    recipe: Mapping[str, Any]
    manifest: "Manifest"
    _started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        refuse_links_out(self.folder)

    @property
    def folder(self) -> Path:
        """The output folder."""
        return Path(self.recipe["output_folder"])

    @property
    def seed(self) -> int:
        """The recipe's seed."""
        return int(self.recipe.get("seed", SEED))

    @property
    def place(self) -> dict[str, Any]:
        """What every fit is told: where it writes, and its seed."""
        return {"output_folder": self.folder, "seed": self.seed}

    @contextmanager
    def keeping_recipe(self) -> Iterator[None]:
        """Keep the recipe when what is inside has finished or was interrupted, not where it was refused."""
        from dino_speech.training.operating_system import Interrupted

        try:
            yield
        except Interrupted:
            keep_recipe(self.recipe, self.folder)
            raise
        keep_recipe(self.recipe, self.folder)

    def summary(self, **found: Any) -> dict[str, Any]:
        """`output_folder`, `seed`, `num_utterances`, `hours`, what was found, and `seconds` (of this call)."""
        return {
            "output_folder": str(self.folder),
            "seed": self.seed,
            "num_utterances": len(self.manifest),
            "hours": round(self.manifest.duration_s / 3600, 3),
            **found,
            "seconds": round(time.perf_counter() - self._started, 1),
        }


def course_of(trainer: Any) -> dict[str, Any]:
    """What a summary says of a training: the `last` figures of its history, the `best` of monitor or validation, ..."""
    rows = [row for row in trainer.history_ if "loss" in row] or trainer.history_
    last = rows[-1] if rows else {}
    return {
        "num_steps": last.get("step"),
        "last": last,
        "best": getattr(trainer, "best_", None),
        "num_skipped": len(trainer.skipped_),
        "skipped": [{"name": name, "reason": reason} for name, reason in trainer.skipped_.items()],
        "stop_reason": trainer.stop_reason_,
    }


def figures_of(report: "ClassificationReport | RegressionReport") -> dict[str, Any]:
    """What a summary shows of a report: `uar`, `micro_f1`, `macro_f1`, or `ccc` by dimension."""
    names = ("uar", "micro_f1", "macro_f1") if hasattr(report, "uar") else ("ccc",)
    return {name: getattr(report, name) for name in names}


def require(recipe: Mapping[str, Any], key: str, *kinds: type[Kind]) -> Kind:
    """The value of the key by which a recipe's kind is known; what every recipe needs is there besides, and its output
    folder can be written.
    """
    from dino_speech.data.outputs import check_output

    for needed in (DATA[0], DATA[2], key):
        if recipe.get(needed) is None:
            raise RecipeError(f"{_name(recipe)}: no {needed}; write it into the recipe, or give --{needed}=VALUE")
    check_output(recipe["output_folder"])
    value = recipe[key]
    if not isinstance(value, kinds):
        expected = " or ".join(f"!new:dino_speech.{kind.__name__}" for kind in kinds)
        raise RecipeError(f"{_name(recipe)}: {key} is {type(value).__name__}; expected {expected}")
    return value


def refuse_test(recipe: Mapping[str, Any], instead: str) -> None:
    """Refuse a test set where folds or a split already say who is judged."""
    for key in ("test_manifest", "test_where"):
        if recipe.get(key) is not None:
            raise RecipeError(f"{_name(recipe)}: {key} and {instead} both say what is judged; give one of them")


def keep_recipe(recipe: Mapping[str, Any], folder: Path) -> None:
    """Write the recipe as it was used to `<folder>/recipe.yaml`."""
    from dino_speech.distributed import is_main_process

    text = getattr(recipe, "text", None)
    if text is not None and is_main_process():
        write_text_atomically(folder / "recipe.yaml", text)


def _name(recipe: Mapping[str, Any]) -> str:
    return str(getattr(recipe, "path", "recipe"))


OPTIONS = ("manifest", "where", "columns", "label_range")


def require_numbers(recipe: Mapping[str, Any], objective: str) -> None:
    """Refuse a `label_range` where no numbers are learnt."""
    if recipe.get("label_range") is not None and objective != "ccc":
        raise RecipeError(f"label_range: the range of numbers, but {objective} learns classes; leave it out")


def read_train(recipe: Mapping[str, Any], labels: Sequence[str] = ()) -> "Manifest":
    """The rows of `train_manifest` that `where` selects; see `read_part`."""
    return read_scaled(recipe, recipe["train_manifest"], labels, where=recipe.get("where"))


def read_part(recipe: Mapping[str, Any], part: str, labels: Sequence[str] = ()) -> "Manifest | None":
    """The rows of a part ("valid", "test", "labelled"); None where the recipe names none.

    A part that has conditions and no manifest of its own is taken from `train_manifest`.
    """
    source, where = recipe.get(f"{part}_manifest"), recipe.get(f"{part}_where")
    if source is None and where is None:
        return None
    return read_scaled(recipe, recipe["train_manifest"] if source is None else source, labels, where=where)


def read_scaled(recipe: Mapping[str, Any], source: Any, labels: Sequence[str], *, where: Any = None) -> "Manifest":
    """A manifest of the recipe's own corpus; with a `label_range` its labels are refused where they lie outside."""
    from dino_speech.data.derived_manifests import rescale_labels
    from dino_speech.data.manifest import read_manifest

    own = recipe.get("label_range")
    return rescale_labels(read_manifest(source, where=where), labels, own, onto=own)


def read_others(recipe: Mapping[str, Any], labels: Sequence[str]) -> dict[str, "Manifest"]:
    """The corpora of the key `others`, by name: each a file, or a mapping of `OPTIONS`.

    With a `label_range` of the recipe's own corpus each of them says its own, and is brought onto the former.
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
