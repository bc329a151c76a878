"""From a recipe to the table of a study: what `dino-speech study` does."""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dino_speech.errors import RecipeError
from dino_speech.recipe.commands.other_corpora import read_others, read_scaled, require_numbers
from dino_speech.recipe.record import keep_recipe, require_keys, require_kind

REQUIRED = ("train_manifest", "output_folder", "study")
SEEDS = (1986, 1987, 1988)


def run_study(recipe: Mapping[str, Any], *, resume: bool = True) -> dict[str, Any]:
    """Run the cells of a study that are not finished yet, as a recipe says.

    Leaves `table.md`, `table.csv`, the cells in `cells/`, a picture per figure (with matplotlib), and the recipe as it
    was used at `<output_folder>/recipe.yaml`.

    Args:
        recipe: what `load_recipe` gives.
        resume: False deletes the finished cells first.

    Returns:
        Plain data: `output_folder`, `seeds`, `num_cells`, `rows` (settings and, by figure, `mean`, `min`, `max` over
        seeds and `interval`), `failures` (message by cell), `table` (file), `pictures`, `seconds` (of this call).

    Raises:
        RecipeError: a key is missing, or `study` is neither a `TransferStudy` nor an `AdaptationStudy`.
        InputError: manifest, trials or settings do not fit; see the study's `run`.
    """
    from dino_speech.studies.adaptation import AdaptationStudy
    from dino_speech.studies.transfer import TransferStudy

    require_keys(recipe, REQUIRED)
    study = recipe["study"]
    if isinstance(study, AdaptationStudy):
        keys = ("trials", "trials_manifest", "group_by", "others")
        if given := [key for key in keys if recipe.get(key) is not None]:
            raise RecipeError(f"{given[0]}: an AdaptationStudy judges the folds of train_manifest alone; leave it out")
    else:
        study = require_kind(recipe, "study", TransferStudy)
    folder, seeds = Path(recipe["output_folder"]), list(recipe.get("seeds") or SEEDS)
    started = time.perf_counter()
    require_numbers(recipe, study.objective)
    labels = [study.label] if isinstance(study.label, str) else list(study.label)
    numbers = labels if study.objective == "ccc" else []
    manifest = read_scaled(recipe, recipe["train_manifest"], numbers, where=recipe.get("where"))
    if not resume:
        shutil.rmtree(folder / "cells", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    keep_recipe(recipe, folder)
    further: dict[str, Any] = {}
    if isinstance(study, TransferStudy):
        further = {name: recipe.get(name) for name in ("trials_manifest", "group_by")}
        further |= {"trials": _trials(recipe.get("trials")), "others": read_others(recipe, numbers)}
    table = study.run(manifest, output_folder=folder, seeds=seeds, **further)
    return {
        "output_folder": str(folder),
        "seeds": seeds,
        "num_cells": sum(len(row.seeds) for row in table.rows),
        "rows": [row.to_dict() for row in table.rows],
        "failures": table.failures,
        "table": str(folder / "table.md"),
        "pictures": [*_draw(table, folder), *(str(path) for path in sorted(folder.glob("det*.png")))],
        "seconds": round(time.perf_counter() - started, 1),
    }


def _trials(given: Any) -> Any:
    """One list, or several by name, each a file or a mapping with `trials` and `manifest`."""
    from dino_speech.data.trials import read_trials

    if given is None or not isinstance(given, Mapping):
        return None if given is None else read_trials(given)
    found: dict[str, Any] = {}
    for name, one in given.items():
        if isinstance(one, Mapping) and set(one) != {"trials", "manifest"}:
            raise RecipeError(
                f"trials.{name}: has {', '.join(one)}; expected trials and manifest, or one file of trials"
            )
        both = isinstance(one, Mapping)
        found[name] = (read_trials(one["trials"]), one["manifest"]) if both else read_trials(one)
    return found


def _draw(table: Any, folder: Path) -> list[str]:
    from dino_speech.evaluation.reports.drawing import has_matplotlib
    from dino_speech.studies.study_plot import plot_grid

    if not has_matplotlib() or not table.rows:
        return []
    varied = [axis for axis in table.axes if len({str(row.settings[axis]) for row in table.rows}) > 1]
    over = varied[-1] if varied else table.axes[0]
    return [str(plot_grid(table, folder / f"{name}.png", figure=name, over=over)) for name in table.figures]
