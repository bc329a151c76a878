"""From a pretraining recipe to an encoder on disk: what `dino-speech pretrain` and the recipes' `train.py` do."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dino_speech.recipe.record import SEED, keeping_recipe, require_keys, require_kind

REQUIRED = ("train_manifest", "output_folder", "trainer")


def run_pretraining(recipe: Mapping[str, Any], *, resume: bool = True) -> dict[str, Any]:
    """Pretrain as a recipe says; a run that was stopped goes on.

    Leaves the teacher at `<output_folder>/encoder`, and the recipe as it was used at `<output_folder>/recipe.yaml`.

    Args:
        recipe: what `load_recipe` gives.
        resume: False deletes a former run in the output folder and starts anew.

    Returns:
        Plain data: `encoder` (folder), `output_folder`, `seed`, `num_utterances`, `hours`, `num_steps` (done by now),
        `seconds` (of this call), `last` (the last figures of the history), `best` (the monitor's best, or None),
        `num_skipped` (files), `stop_reason` ("max_minutes", or None where the run is complete).

    Raises:
        RecipeError: a key is missing, or `trainer` is not a `DINOPretrainer`.
        InputError: manifest, data or settings do not fit; see `DINOPretrainer.fit`.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
    """
    from dino_speech.data.manifest import read_manifest
    from dino_speech.dino.pretrain import DINOPretrainer

    require_keys(recipe, REQUIRED)
    trainer = require_kind(recipe, "trainer", DINOPretrainer)
    folder, seed = Path(recipe["output_folder"]), recipe.get("seed", SEED)
    manifest = read_manifest(recipe["train_manifest"], where=recipe.get("where"))
    started = time.perf_counter()
    with keeping_recipe(recipe, folder):
        trainer.fit(manifest, output_folder=folder, seed=seed, monitor=recipe.get("monitor"), resume=resume)
    last: dict[str, Any] = next((row for row in reversed(trainer.history_) if "loss" in row), {})
    return {
        "encoder": str(folder / "encoder"),
        "output_folder": str(folder),
        "seed": seed,
        "num_utterances": len(manifest),
        "hours": round(manifest.duration_s / 3600, 3),
        "num_steps": last.get("step"),
        "seconds": round(time.perf_counter() - started, 1),
        "last": last,
        "best": trainer.best_,
        "num_skipped": len(trainer.skipped_),
        "stop_reason": trainer.stop_reason_,
    }
