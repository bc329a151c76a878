"""From a fine-tuning recipe with folds to one report of all of them."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_speech.recipe.record import SEED, figures_of, keeping_recipe, read_part, refuse_test

if TYPE_CHECKING:
    from dino_speech.transfer.finetune import FineTuner

NUM_READING_THREADS = 2


def run_folds(recipe: Mapping[str, Any], tuner: "FineTuner", *, resume: bool = True) -> dict[str, Any]:
    """Fine-tune one system per fold of `fold_column` or `num_folds`, and judge all utterances; finished folds are kept.

    Leaves the systems at `<output_folder>/fold_<name>/system`, `report.md`, `report.json`, `predictions.csv` and the
    recipe as it was used in the output folder.

    Args:
        recipe: what `load_recipe` gives.
        tuner: that of the recipe.
        resume: False begins each fold anew.

    Returns:
        Plain data: `output_folder`, `seed`, `num_utterances`, `hours`, `num_folds`, `folds` (see `FoldResults`),
        `num_skipped`, `stop_reason`, `seconds` (of this call); where all folds are finished `report` (file),
        `num_test`, and `uar`, `micro_f1`, `macro_f1`, or `ccc` by dimension.

    Raises:
        RecipeError: the recipe also has a test set.
        InputError: see `finetune_folds`.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
    """
    from dino_speech.studies.fold_systems import finetune_folds

    refuse_test(recipe, "fold_column" if recipe.get("fold_column") is not None else "num_folds")
    folder, seed = Path(recipe["output_folder"]), recipe.get("seed", SEED)
    labels = tuner.labels if tuner.objective == "ccc" else []
    manifest, valid = (read_part(recipe, name, labels=labels) for name in ("train", "valid"))
    assert manifest is not None
    started = time.perf_counter()
    with keeping_recipe(recipe, folder):
        found = finetune_folds(
            tuner,
            manifest,
            output_folder=folder,
            fold_column=recipe.get("fold_column"),
            num_folds=recipe.get("num_folds"),
            valid=valid,
            seed=seed,
            resume=resume,
            num_workers=NUM_READING_THREADS,
        )
    summary = {
        "output_folder": str(folder),
        "seed": seed,
        "num_utterances": len(manifest),
        "hours": round(manifest.duration_s / 3600, 3),
        "num_folds": len(found.folds),
        "folds": found.folds,
        "num_skipped": found.num_skipped,
        "stop_reason": found.stop_reason,
    }
    if found.report is not None:
        summary |= {"report": str(found.path), "num_test": found.report.num_utterances, **figures_of(found.report)}
    return summary | {"seconds": round(time.perf_counter() - started, 1)}
