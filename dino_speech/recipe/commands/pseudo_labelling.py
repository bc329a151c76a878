"""From a recipe to an encoder tuned on its own clusters: what `dino-speech pseudo-label` does."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dino_speech.recipe.record import SEED, keep_recipe, require_keys, require_kind

REQUIRED = ("train_manifest", "output_folder", "pseudo_labels")


def run_pseudo_labels(recipe: Mapping[str, Any], *, resume: bool = True) -> dict[str, Any]:
    """Cluster and fine-tune in rounds, as a recipe says; a run that was stopped goes on.

    Leaves the encoder at `<output_folder>/encoder`, each round in `<output_folder>/round_<n>`, and the recipe as it was
    used at `<output_folder>/recipe.yaml`.

    Args:
        recipe: what `load_recipe` gives.
        resume: False begins every round anew.

    Returns:
        Plain data: `encoder` (folder), `output_folder`, `seed`, `num_utterances`, `rounds` (see `PseudoLabelTrainer`),
        `seconds` (of this call).

    Raises:
        RecipeError: a key is missing, or `pseudo_labels` is not a `PseudoLabelTrainer`.
        InputError: manifest, data or settings do not fit; see `PseudoLabelTrainer.fit`.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
    """
    from dino_speech.data.manifest import read_manifest
    from dino_speech.transfer.pseudo_labels import PseudoLabelTrainer

    require_keys(recipe, REQUIRED)
    trainer = require_kind(recipe, "pseudo_labels", PseudoLabelTrainer)
    folder, seed = Path(recipe["output_folder"]), recipe.get("seed", SEED)
    manifest = read_manifest(recipe["train_manifest"], where=recipe.get("where"))
    started = time.perf_counter()
    trainer.fit(
        manifest,
        output_folder=folder,
        seed=seed,
        monitor=recipe.get("monitor"),
        quality_label=recipe.get("quality_label") or "speaker",
        resume=resume,
    )
    keep_recipe(recipe, folder)
    return {
        "encoder": str(folder / "encoder"),
        "output_folder": str(folder),
        "seed": seed,
        "num_utterances": len(manifest),
        "rounds": trainer.rounds_,
        "seconds": round(time.perf_counter() - started, 1),
    }
