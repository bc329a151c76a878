"""What running a recipe shares, whatever it runs: keys that must be there, what is kept, the summary."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dino_speech.errors import RecipeError
from dino_speech.recipe.kinds import DATA

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
        from dino_speech.training.signals import Interrupted

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
    """What a summary says of a training.

    Returns:
        `num_steps` (done by now), `last` (the last figures of the history), `best` (those of the monitor or of the
        validation, or None), `num_skipped` and `skipped` (files), `stop_reason` ("max_minutes", or None where the run
        is complete).
    """
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
    """The value of the key by which a recipe's kind is known; what every recipe needs is there besides.

    Raises:
        RecipeError: a key is missing, with the option that gives it; or the value is no object of these classes.
    """
    for needed in (DATA[0], DATA[2], key):
        if recipe.get(needed) is None:
            raise RecipeError(f"{_name(recipe)}: no {needed}; write it into the recipe, or give --{needed}=VALUE")
    value = recipe[key]
    if not isinstance(value, kinds):
        expected = " or ".join(f"!new:dino_speech.{kind.__name__}" for kind in kinds)
        raise RecipeError(f"{_name(recipe)}: {key} is {type(value).__name__}; expected {expected}")
    return value


def refuse_test(recipe: Mapping[str, Any], instead: str) -> None:
    """Refuse a test set where folds or a split already say who is judged.

    Raises:
        RecipeError: naming both.
    """
    for key in ("test_manifest", "test_where"):
        if recipe.get(key) is not None:
            raise RecipeError(f"{_name(recipe)}: {key} and {instead} both say what is judged; give one of them")


def keep_recipe(recipe: Mapping[str, Any], folder: Path) -> None:
    """Write the recipe as it was used to `<folder>/recipe.yaml`."""
    from dino_speech.distributed import is_main_process

    text = getattr(recipe, "text", None)
    if text is not None and is_main_process():
        (folder / "recipe.yaml").write_text(text, encoding="utf-8")


def _name(recipe: Mapping[str, Any]) -> str:
    return str(getattr(recipe, "path", "recipe"))
