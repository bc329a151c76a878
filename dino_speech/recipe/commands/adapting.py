"""From a recipe to an adapted encoder, and to a distilled one: what `dino-speech adapt` and `distill` do."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_speech.errors import RecipeError
from dino_speech.recipe.record import SEED, keeping_recipe, read_part, require_keys, require_kind

if TYPE_CHECKING:
    from dino_speech.data.manifest import Manifest
    from dino_speech.frame_level.distillation import Distiller
    from dino_speech.models.encoder import SpeechEncoder
    from dino_speech.transfer.audio_text.tuner import AudioTextTuner


def run_adaptation(recipe: Mapping[str, Any], *, resume: bool = True) -> dict[str, Any]:
    """Adapt a frame-level encoder to the audio of a task, as a recipe says; a run that was stopped goes on.

    Leaves the encoder at `<output_folder>/encoder`, to be fine-tuned, and the recipe as it was used at
    `<output_folder>/recipe.yaml`.

    Args:
        recipe: what `load_recipe` gives; its `adapter` is a `TAPT` or a `PTAPT`.
        resume: False starts anew.

    Returns:
        Plain data: `encoder` (folder), `output_folder`, `seed`, `num_utterances`, `hours`, `last` (figures of the
        history), `num_skipped` (files), `stop_reason` ("max_minutes", or None where the run is complete), `seconds` (of
        this call).

    Raises:
        RecipeError: a key is missing, or `adapter` is another thing.
        InputError: manifest, data or settings do not fit; see `TAPT.fit` and `PTAPT.fit`.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
    """
    from dino_speech.frame_level.ptapt import PTAPT
    from dino_speech.frame_level.tapt import TAPT

    require_keys(recipe, ("train_manifest", "output_folder", "adapter"))
    adapter = recipe["adapter"]
    if not isinstance(adapter, TAPT | PTAPT):
        raise RecipeError(
            f"adapter is {type(adapter).__name__}; expected !new:dino_speech.TAPT or !new:dino_speech.PTAPT"
        )
    return _run(recipe, adapter, resume=resume)


def run_distillation(recipe: Mapping[str, Any], *, resume: bool = True) -> dict[str, Any]:
    """Distil a teacher into a student, as a recipe says; with a test set, also say what both are worth.

    `readout` holds options of `AudioTextTuner` by name. With it and a test set, read-outs are trained on
    `labelled_manifest` (or the rows of `train_manifest`), and `comparison/report.md` sets the student beside its
    teacher.

    Args:
        recipe: what `load_recipe` gives; its `distiller` is a `Distiller`.
        resume: False starts anew.

    Returns:
        Plain data: that of `run_adaptation`, and with a test set `rows` and `report` of `compare_distilled`.

    Raises:
        RecipeError: a key is missing, `distiller` is another thing, or a test set has no `readout`.
        InputError: manifest, data or settings do not fit; see `Distiller.fit` and `compare_distilled`.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
    """
    from dino_speech.frame_level.distillation import Distiller

    require_keys(recipe, ("train_manifest", "output_folder", "distiller"))
    distiller = require_kind(recipe, "distiller", Distiller)
    test, labelled = read_part(recipe, "test"), read_part(recipe, "labelled")
    if test is not None and not isinstance(recipe.get("readout"), Mapping):
        raise RecipeError("a test set, but no readout: write readout: {labels: [arousal, valence]} into the recipe")
    labelled = labelled or read_part(recipe, "train")
    if test is not None and labelled is not None:
        _readout(recipe, distiller.teacher).check_test(labelled, test)  # before the hours of distilling, not after them
    started = time.perf_counter()
    summary = _run(recipe, distiller, resume=resume)
    if test is not None and labelled is not None and summary["stop_reason"] is None:
        summary |= _compare(recipe, distiller, labelled, test, resume=resume)
    return summary | {"seconds": round(time.perf_counter() - started, 1)}


def _run(recipe: Mapping[str, Any], trainer: Any, *, resume: bool) -> dict[str, Any]:
    folder, seed = Path(recipe["output_folder"]), recipe.get("seed", SEED)
    manifest = read_part(recipe, "train")
    assert manifest is not None
    started = time.perf_counter()
    with keeping_recipe(recipe, folder):
        trainer.fit(manifest, output_folder=folder, seed=seed, resume=resume)
    return {
        "encoder": str(folder / "encoder"),
        "output_folder": str(folder),
        "seed": seed,
        "num_utterances": len(manifest),
        "hours": round(manifest.duration_s / 3600, 3),
        "last": trainer.history_[-1] if trainer.history_ else {},
        "num_skipped": len(trainer.skipped_),
        "stop_reason": trainer.stop_reason_,
        "seconds": round(time.perf_counter() - started, 1),
    }


def _readout(recipe: Mapping[str, Any], encoder: "SpeechEncoder") -> "AudioTextTuner":
    from dino_speech.transfer.audio_text.tuner import AudioTextTuner

    try:
        return AudioTextTuner(encoder, **recipe["readout"])
    except TypeError as error:
        raise RecipeError(f"readout: {error}; expected options of AudioTextTuner") from error


def _compare(
    recipe: Mapping[str, Any], distiller: "Distiller", labelled: "Manifest", test: "Manifest", *, resume: bool
) -> dict[str, Any]:
    from dino_speech.studies.distillation import compare_distilled

    return compare_distilled(
        _readout(recipe, distiller.student_),
        labelled,
        test,
        teacher=distiller.teacher,
        output_folder=Path(recipe["output_folder"]) / "comparison",
        seed=recipe.get("seed", SEED),
        resume=resume,
    )
