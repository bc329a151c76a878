"""Recipes that leave an encoder: what `dino-speech pretrain`, `pseudo-label` and `adapt` do.

Each leaves it at `<output_folder>/encoder`. A run that was stopped goes on; `resume=False` deletes it and starts anew.
"""

from collections.abc import Mapping
from typing import Any

from dino_speech.recipe.commands.manifests import read_train
from dino_speech.recipe.commands.recorded_run import RecordedRun, course_of, require


def run_pretraining(recipe: Mapping[str, Any], *, resume: bool = True, device: str | None = None) -> dict[str, Any]:
    """Pretrain as a recipe says.

    Args:
        recipe: what `load_recipe` gives.
        resume: False deletes a former run in the output folder and starts anew.
        device: as in `DINOPretrainer.fit`.

    Returns:
        Plain data: `encoder` (folder), and what `RecordedRun.summary` and `course_of` give.

    Raises:
        RecipeError: a key is missing, or `trainer` is not a `DINOPretrainer`.
        InputError: manifest, data or settings do not fit; see `DINOPretrainer.fit`.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
    """
    from dino_speech.dino.pretrain import DINOPretrainer

    trainer = require(recipe, "trainer", DINOPretrainer)
    run = RecordedRun(recipe, read_train(recipe))
    with run.keeping_recipe():
        trainer.fit(run.manifest, **run.place, monitor=recipe.get("monitor"), device=device, resume=resume)
    return {"encoder": str(run.folder / "encoder"), **run.summary(**course_of(trainer))}


def run_pseudo_labels(recipe: Mapping[str, Any], *, resume: bool = True, device: str | None = None) -> dict[str, Any]:
    """Cluster and fine-tune in rounds, as a recipe says; each round is left in `<output_folder>/round_<n>`.

    Args:
        recipe: what `load_recipe` gives.
        resume: False begins every round anew.
        device: as in `PseudoLabelTrainer.fit`.

    Returns:
        Plain data: `encoder` (folder), what `RecordedRun.summary` gives, and `rounds` (see `PseudoLabelTrainer`).

    Raises:
        RecipeError: a key is missing, or `pseudo_labels` is not a `PseudoLabelTrainer`.
        InputError: manifest, data or settings do not fit; see `PseudoLabelTrainer.fit`.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
    """
    from dino_speech.transfer.pseudo_labels import PseudoLabelTrainer

    trainer = require(recipe, "pseudo_labels", PseudoLabelTrainer)
    run = RecordedRun(recipe, read_train(recipe))
    judged: dict[str, Any] = {
        "monitor": recipe.get("monitor"),
        "quality_label": recipe.get("quality_label") or "speaker",
    }
    with run.keeping_recipe():
        trainer.fit(run.manifest, **run.place, **judged, device=device, resume=resume)
    return {"encoder": str(run.folder / "encoder"), **run.summary(rounds=trainer.rounds_)}


def run_adaptation(recipe: Mapping[str, Any], *, resume: bool = True, device: str | None = None) -> dict[str, Any]:
    """Adapt a frame-level encoder to the audio of a task, as a recipe says; it is then to be fine-tuned.

    Args:
        recipe: what `load_recipe` gives; its `adapter` is a `TAPT` or a `PTAPT`.
        resume: False starts anew.
        device: as in `TAPT.fit`.

    Returns:
        Plain data: `encoder` (folder), and what `RecordedRun.summary` and `course_of` give.

    Raises:
        RecipeError: a key is missing, or `adapter` is another thing.
        InputError: manifest, data or settings do not fit; see `TAPT.fit` and `PTAPT.fit`.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
    """
    from dino_speech.frame_level.ptapt import PTAPT
    from dino_speech.frame_level.tapt import TAPT

    adapter: Any = require(recipe, "adapter", TAPT, PTAPT)
    run = RecordedRun(recipe, read_train(recipe))
    with run.keeping_recipe():
        adapter.fit(run.manifest, **run.place, device=device, resume=resume)
    return {"encoder": str(run.folder / "encoder"), **run.summary(**course_of(adapter))}
