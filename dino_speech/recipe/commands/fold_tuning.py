"""From a fine-tuning recipe with folds to one report of all of them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dino_speech.recipe.commands.manifests import read_part, read_train
from dino_speech.recipe.commands.recorded_run import NUM_READING_THREADS, RecordedRun, figures_of, refuse_test

if TYPE_CHECKING:
    from dino_speech.transfer.finetune import FineTuner


def run_folds(
    recipe: Mapping[str, Any], tuner: "FineTuner", *, resume: bool = True, device: str | None = None
) -> dict[str, Any]:
    """Fine-tune one system per fold of `fold_column` or `num_folds`, and judge all utterances; finished folds are kept.

    Leaves the systems at `<output_folder>/fold_<name>/system`, `report.md`, `report.json` and `predictions.csv`.

    Returns:
        Plain data: what `RecordedRun.summary` gives, `num_folds`, `folds` (see `FoldResults`), `num_skipped`,
        `stop_reason`; where all folds are finished `report` (file), `num_test`, and `uar`, `micro_f1`, `macro_f1`, or
        `ccc` by dimension.

    Raises:
        RecipeError: the recipe also has a test set.
    """
    from dino_speech.studies.fold_systems import finetune_folds

    chosen: dict[str, Any] = {key: recipe.get(key) for key in ("fold_column", "num_folds")}
    refuse_test(recipe, "fold_column" if chosen["fold_column"] is not None else "num_folds")
    labels = tuner.labels if tuner.objective == "ccc" else []
    run = RecordedRun(recipe, read_train(recipe, labels))
    options: dict[str, Any] = {
        "valid": read_part(recipe, "valid", labels),
        "device": device,
        "resume": resume,
        **run.place,
    }
    with run.keeping_recipe():
        found = finetune_folds(tuner, run.manifest, **chosen, **options, num_workers=NUM_READING_THREADS)
    course: dict[str, Any] = {"num_folds": len(found.folds), "folds": found.folds}
    course |= {"num_skipped": found.num_skipped, "stop_reason": found.stop_reason}
    if found.report is not None:
        course |= {"report": str(found.path), "num_test": found.report.num_utterances, **figures_of(found.report)}
    return run.summary(**course)
