"""From a fine-tuning recipe with a clinical question to its report, the silence control beside it."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dino_speech.errors import RecipeError
from dino_speech.recipe.commands.manifests import read_train
from dino_speech.recipe.commands.recorded_run import RecordedRun, refuse_test

if TYPE_CHECKING:
    from dino_speech.transfer.finetune import FineTuner

KEYS = ("positive", "negative", "subject", "split", "vad", "silence_control", "age", "sex")


def run_clinical(
    recipe: Mapping[str, Any], tuner: "FineTuner", *, resume: bool = True, device: str | None = None
) -> dict[str, Any]:
    """Ask a clinical question of fine-tuned systems, and the same of silence: what `evaluate_clinical` does.

    The recipe's key `clinical` holds `positive` (a value of the tuner's label) and, where wanted, the arguments of
    `evaluate_clinical` named in `KEYS`; folds are those of `fold_column`, `num_folds` or the `split` in `clinical`.
    Recordings are cut by the tuner's `segment_s`. The rows of `train_manifest` are both learnt from and judged, never
    the same person.

    Leaves `report.md` and `report.json` in the output folder, each fold's system below `recordings/` and `silence/`,
    and the silent parts in `nonspeech/`. Finished folds are kept.

    Returns:
        Plain data: `report` (file), and what `RecordedRun.summary` and `ClinicalReport.to_dict` give.

    Raises:
        RecipeError: `clinical` lacks `positive` or holds another key, or the recipe also has a validation or test set.
    """
    from dino_speech.data.silence import SETTINGS_FILE
    from dino_speech.evaluation.clinical.evaluate import evaluate_clinical
    from dino_speech.studies.finetuned_subjects import FineTunedSubjects

    question = _question(recipe)
    run = RecordedRun(recipe, read_train(recipe))
    silence = run.folder / "nonspeech"
    if not resume and (silence / SETTINGS_FILE).exists():  # what no run has written is not ours to delete
        shutil.rmtree(silence)
    with run.keeping_recipe():
        report = evaluate_clinical(
            None,
            run.manifest,
            label=tuner.labels[0],
            num_folds=recipe.get("num_folds"),
            fold_column=recipe.get("fold_column"),
            segment_s=tuner.segment_s,
            control_folder=str(run.folder),
            classifier=FineTunedSubjects(tuner, **run.place, device=device, resume=resume),
            **question,  # drawn folds do not depend on the seed of fine-tuning
        )
    report = replace(report, provenance=report.provenance | {"seed_of_fine_tuning": run.seed})
    return run.summary(**report.to_dict(), report=str(report.write(run.folder)))


def _question(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The checked key `clinical`."""
    question = recipe["clinical"]
    if not isinstance(question, Mapping) or question.get("positive") is None:
        raise RecipeError("clinical: expected a mapping with the diagnosis to be found, e.g. {positive: ad}")
    if unknown := sorted(set(question) - set(KEYS)):
        raise RecipeError(f"clinical has no {unknown[0]!r}; possible: {', '.join(KEYS)}")
    for key in ("valid_manifest", "valid_where"):
        if recipe.get(key) is not None:
            raise RecipeError(f"{key}: a clinical question has no validation set, its control could not use it")
    refuse_test(recipe, "clinical")
    return {key: value for key, value in question.items() if value is not None}
