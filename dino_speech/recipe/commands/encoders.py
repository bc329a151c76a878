"""Recipes that leave an encoder at `<output_folder>/encoder`: `pretrain`, `pseudo-label`, `adapt` and `distill`."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dino_speech.errors import RecipeError
from dino_speech.recipe.commands.recorded_run import RecordedRun, course_of, read_part, read_train, require

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from dino_speech.models.encoder import SpeechEncoder
    from dino_speech.transfer.audio_text.tuner import AudioTextTuner


def run_pretraining(recipe: Mapping[str, Any], *, resume: bool = True, device: str | None = None) -> dict[str, Any]:
    """Pretrain as a recipe says; gives `encoder` (folder), and what `RecordedRun.summary` and `course_of` give."""
    from dino_speech.dino.pretrain import DINOPretrainer
    from dino_speech.dino.sizes import settled

    trainer = require(recipe, "trainer", DINOPretrainer)
    run = RecordedRun(recipe, read_train(recipe))
    num_long_enough = sum(utterance.duration >= trainer.crops.min_s for utterance in run.manifest)
    trainer, chosen = settled(trainer, num_long_enough)
    for choice in chosen:
        logger.info("%s", choice)
    with run.keeping_recipe():
        trainer.fit(run.manifest, **run.place, monitor=recipe.get("monitor"), device=device, resume=resume)
    return {"encoder": str(run.folder / "encoder"), **run.summary(**course_of(trainer))}


def run_pseudo_labels(recipe: Mapping[str, Any], *, resume: bool = True, device: str | None = None) -> dict[str, Any]:
    """Cluster and fine-tune in rounds, as a recipe says; each round is left in `<output_folder>/round_<n>`.

    Gives `encoder` (folder), what `RecordedRun.summary` gives, and `rounds` (see `PseudoLabelTrainer`).
    """
    from dino_speech.transfer.pseudo_labels import PseudoLabelTrainer

    trainer = require(recipe, "pseudo_labels", PseudoLabelTrainer)
    run = RecordedRun(recipe, read_train(recipe))
    options = {"monitor": recipe.get("monitor"), "quality_label": recipe.get("quality_label") or "speaker"}
    with run.keeping_recipe():
        trainer.fit(run.manifest, **run.place, **options, device=device, resume=resume)  # type: ignore[arg-type]
    return {"encoder": str(run.folder / "encoder"), **run.summary(rounds=trainer.rounds_)}


def run_adaptation(recipe: Mapping[str, Any], *, resume: bool = True, device: str | None = None) -> dict[str, Any]:
    """Adapt a frame-level encoder to the audio of a task, to be fine-tuned then; gives what `run_pretraining` gives."""
    from dino_speech.frame_level.ptapt import PTAPT
    from dino_speech.frame_level.tapt import TAPT

    adapter: Any = require(recipe, "adapter", TAPT, PTAPT)
    run = RecordedRun(recipe, read_train(recipe))
    with run.keeping_recipe():
        adapter.fit(run.manifest, **run.place, device=device, resume=resume)
    return {"encoder": str(run.folder / "encoder"), **run.summary(**course_of(adapter))}


def run_distillation(recipe: Mapping[str, Any], *, resume: bool = True, device: str | None = None) -> dict[str, Any]:
    """Distil a teacher into a student, as a recipe says; with a test set, also say what both are worth.

    `readout` holds options of `AudioTextTuner` by name. With it and a test set, read-outs are trained on
    `labelled_manifest` (or the rows of `train_manifest`), and `comparison/report.md` sets the student beside its
    teacher. Gives what `run_pretraining` gives, and with a test set `rows` and `report` of `compare_distilled`.
    """
    from dino_speech.frame_level.distillation import Distiller
    from dino_speech.studies.distillation import compare_distilled

    distiller = require(recipe, "distiller", Distiller)
    run = RecordedRun(recipe, read_train(recipe))
    test, labelled = read_part(recipe, "test"), read_part(recipe, "labelled") or run.manifest
    if test is not None and not isinstance(recipe.get("readout"), Mapping):
        raise RecipeError("a test set, but no readout: write readout: {labels: [arousal, valence]} into the recipe")
    if test is not None:
        _readout(recipe, distiller.teacher).check_test(labelled, test)  # before the hours of distilling, not after them
    with run.keeping_recipe():
        distiller.fit(run.manifest, **run.place, device=device, resume=resume)
    found = course_of(distiller)
    if test is not None and distiller.stop_reason_ is None:
        place = run.place | {"output_folder": run.folder / "comparison"}
        tuner = _readout(recipe, distiller.student_)
        found |= compare_distilled(
            tuner, labelled, test, teacher=distiller.teacher, **place, device=device, resume=resume
        )
    return {"encoder": str(run.folder / "encoder"), **run.summary(**found)}


def _readout(recipe: Mapping[str, Any], encoder: "SpeechEncoder") -> "AudioTextTuner":
    from dino_speech.transfer.audio_text.tuner import AudioTextTuner

    try:
        return AudioTextTuner(encoder, **recipe["readout"])
    except TypeError as error:
        raise RecipeError(f"readout: {error}; expected options of AudioTextTuner") from error
