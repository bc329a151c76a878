"""Recipes that leave an encoder: what `dino-speech pretrain`, `pseudo-label` and `adapt` do.

Each leaves it at `<output_folder>/encoder`; a run that was stopped goes on.
"""

from collections.abc import Mapping
from typing import Any

from dino_speech.recipe.commands.manifests import read_train
from dino_speech.recipe.commands.recorded_run import RecordedRun, course_of, require


def run_pretraining(recipe: Mapping[str, Any], *, resume: bool = True, device: str | None = None) -> dict[str, Any]:
    """Pretrain as a recipe says.

    Returns:
        Plain data: `encoder` (folder), and what `RecordedRun.summary` and `course_of` give.
    """
    from dino_speech.dino.pretrain import DINOPretrainer

    trainer = require(recipe, "trainer", DINOPretrainer)
    run = RecordedRun(recipe, read_train(recipe))
    with run.keeping_recipe():
        trainer.fit(run.manifest, **run.place, monitor=recipe.get("monitor"), device=device, resume=resume)
    return {"encoder": str(run.folder / "encoder"), **run.summary(**course_of(trainer))}


def run_pseudo_labels(recipe: Mapping[str, Any], *, resume: bool = True, device: str | None = None) -> dict[str, Any]:
    """Cluster and fine-tune in rounds, as a recipe says; each round is left in `<output_folder>/round_<n>`.

    Returns:
        Plain data: `encoder` (folder), what `RecordedRun.summary` gives, and `rounds` (see `PseudoLabelTrainer`).
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

    Returns:
        Plain data: `encoder` (folder), and what `RecordedRun.summary` and `course_of` give.
    """
    from dino_speech.frame_level.ptapt import PTAPT
    from dino_speech.frame_level.tapt import TAPT

    adapter: Any = require(recipe, "adapter", TAPT, PTAPT)
    run = RecordedRun(recipe, read_train(recipe))
    with run.keeping_recipe():
        adapter.fit(run.manifest, **run.place, device=device, resume=resume)
    return {"encoder": str(run.folder / "encoder"), **run.summary(**course_of(adapter))}
