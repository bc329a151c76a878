"""From a recipe to a distilled encoder, and to what it is worth: what `dino-speech distill` does."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dino_speech.errors import RecipeError
from dino_speech.recipe.commands.manifests import read_part, read_train
from dino_speech.recipe.commands.recorded_run import RecordedRun, course_of, require

if TYPE_CHECKING:
    from dino_speech.models.encoder import SpeechEncoder
    from dino_speech.transfer.audio_text.tuner import AudioTextTuner


def run_distillation(recipe: Mapping[str, Any], *, resume: bool = True, device: str | None = None) -> dict[str, Any]:
    """Distil a teacher into a student, as a recipe says; with a test set, also say what both are worth.

    `readout` holds options of `AudioTextTuner` by name. With it and a test set, read-outs are trained on
    `labelled_manifest` (or the rows of `train_manifest`), and `comparison/report.md` sets the student beside its
    teacher.

    Returns:
        Plain data: `encoder` (folder), what `RecordedRun.summary` and `course_of` give, and with a test set `rows` and
        `report` of `compare_distilled`.
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
