"""From a recipe to the table of a study: what `dino-speech study` does."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dino_speech.errors import RecipeError
from dino_speech.recipe.commands.recorded_run import (
    RecordedRun,
    keep_recipe,
    read_others,
    read_train,
    require,
    require_numbers,
)

SEEDS = (1986, 1987, 1988)


def run_study(recipe: Mapping[str, Any], *, resume: bool = True, device: str | None = None) -> dict[str, Any]:
    """Run the cells of a study that are not finished yet, as a recipe says.

    Leaves `table.md`, `table.csv`, the cells in `cells/`, and a picture per figure (with matplotlib).

    Gives what `RecordedRun.summary` gives, but `seeds` for the seed, `num_cells`, `rows` (settings and, by figure,
    `mean`, `min`, `max` over seeds and `interval`), `skipped` (cells that could not be run; `failures`: message by
    cell), `table` (file) and `pictures`.
    """
    from dino_speech.studies.adaptation import AdaptationStudy
    from dino_speech.studies.transfer import TransferStudy

    study: Any = require(recipe, "study", TransferStudy, AdaptationStudy)
    if isinstance(study, AdaptationStudy):
        keys = ("trials", "trials_manifest", "group_by", "others")
        if given := [key for key in keys if recipe.get(key) is not None]:
            raise RecipeError(f"{given[0]}: an AdaptationStudy judges the folds of train_manifest alone; leave it out")
    require_numbers(recipe, study.objective)
    labels = [study.label] if isinstance(study.label, str) else list(study.label)
    numbers = labels if study.objective == "ccc" else []
    run, seeds = RecordedRun(recipe, read_train(recipe, numbers)), list(recipe.get("seeds") or SEEDS)
    if not resume:
        shutil.rmtree(run.folder / "cells", ignore_errors=True)
    run.folder.mkdir(parents=True, exist_ok=True)
    keep_recipe(recipe, run.folder)
    further: dict[str, Any] = {}
    if isinstance(study, TransferStudy):
        further = {name: recipe.get(name) for name in ("trials_manifest", "group_by")}
        further |= {"trials": _trials(recipe.get("trials")), "others": read_others(recipe, numbers)}
    table = study.run(run.manifest, output_folder=run.folder, seeds=seeds, device=device, **further)
    summary = run.summary(
        seeds=seeds,
        num_cells=sum(len(row.seeds) for row in table.rows),
        rows=[row.to_dict() for row in table.rows],
        num_skipped=len(table.failures),
        skipped=[{"name": cell, "reason": reason} for cell, reason in table.failures.items()],
        failures=table.failures,
        table=str(run.folder / "table.md"),
        pictures=[*_draw(table, run.folder), *(str(path) for path in sorted(run.folder.glob("det*.png")))],
    )
    del summary["seed"]  # a study has `seeds`
    return summary


def _trials(given: Any) -> Any:
    """One list, or several by name, each a file or a mapping with `trials` and `manifest`."""
    from dino_speech.data.trials import read_trials

    if given is None or not isinstance(given, Mapping):
        return None if given is None else read_trials(given)
    found: dict[str, Any] = {}
    for name, one in given.items():
        if isinstance(one, Mapping) and set(one) != {"trials", "manifest"}:
            has = ", ".join(one)
            raise RecipeError(f"trials.{name}: has {has}; expected trials and manifest, or one file of trials")
        both = isinstance(one, Mapping)
        found[name] = (read_trials(one["trials"]), one["manifest"]) if both else read_trials(one)
    return found


def _draw(table: Any, folder: Path) -> list[str]:
    from dino_speech.evaluation.reports.pictures import has_matplotlib
    from dino_speech.studies.pictures import plot_grid

    if not has_matplotlib() or not table.rows:
        return []
    varied = [axis for axis in table.axes if len({str(row.settings[axis]) for row in table.rows}) > 1]
    over = varied[-1] if varied else table.axes[0]
    return [str(plot_grid(table, folder / f"{name}.png", figure=name, over=over)) for name in table.figures]
