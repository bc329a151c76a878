"""From a fine-tuning recipe to a system and its report: what `dino-speech finetune` and `train-supervised` do."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_speech.errors import InputError, RecipeError
from dino_speech.recipe.commands.clinical_tuning import run_clinical
from dino_speech.recipe.commands.folding import run_folds
from dino_speech.recipe.commands.other_corpora import read_others, require_numbers
from dino_speech.recipe.record import SEED, figures_of, keeping_recipe, read_part, require_keys, require_kind

if TYPE_CHECKING:
    from dino_speech.data.manifest import Manifest
    from dino_speech.transfer.finetune import FineTuner

REQUIRED = ("train_manifest", "output_folder", "tuner")
NUM_READING_THREADS = 2


def run_finetuning(recipe: Mapping[str, Any], *, resume: bool = True, keep_encoder: bool = False) -> dict[str, Any]:
    """Fine-tune as a recipe says; a run that was stopped goes on.

    Leaves the system at `<output_folder>/system`, the recipe as it was used at `<output_folder>/recipe.yaml` and, with
    a test set, `report.json`, `report.md` and a picture in the output folder. Parts of one manifest can be told apart
    by `where`, `valid_where` and `test_where`: a part that has conditions and no manifest of its own is taken from
    `train_manifest`.

    Corpora in `others` are judged whole, each with its own report in `others/<name>`; where they rate on other scales,
    `label_range` says from where to where (see `others.py`).

    With `fold_column` or `num_folds` one system is trained per fold (see `folding.py`), with `clinical` people are
    judged, beside the silence control (see `clinical_tuning.py`).

    Args:
        recipe: what `load_recipe` gives.
        resume: False deletes a former run in the output folder and starts anew.
        keep_encoder: also save the encoder at `<output_folder>/encoder`, as pretraining does.

    Returns:
        Plain data: `system` and `encoder` (folders), `output_folder`, `seed`, `classes`, `num_utterances`, `hours`,
        `num_steps`, `seconds` (of this call), `last` (figures of the history), `best` (validation, or None),
        `num_skipped` (files), `stop_reason` ("max_minutes", or None where the run is complete); with a test set
        `report` (file), `num_test`, and `uar`, `micro_f1`, `macro_f1`, or `ccc` by dimension; the same in `others` by
        name. Of folds, and of a clinical question, what `run_folds` and `run_clinical` give.

    Raises:
        RecipeError: a key is missing, or `tuner` is not a `FineTuner`.
        InputError: manifests, labels or settings do not fit; see `FineTuner.fit`; speakers in both train and test, or
            in both valid and test.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
    """
    from dino_speech.transfer.finetune import FineTuner

    require_keys(recipe, REQUIRED)
    tuner = require_kind(recipe, "tuner", FineTuner)
    require_numbers(recipe, tuner.objective)
    if several := _several(recipe, keep_encoder):
        return (run_clinical if "clinical" in several else run_folds)(recipe, tuner, resume=resume)
    folder, seed = Path(recipe["output_folder"]), recipe.get("seed", SEED)
    train, valid, test, others = _parts(recipe, tuner)
    started = time.perf_counter()
    with keeping_recipe(recipe, folder):
        tuner.fit(train, valid=valid, output_folder=folder, seed=seed, resume=resume)
    if keep_encoder:
        tuner.encoder_.save(folder / "encoder", provenance=tuner.system_.provenance)
    summary = {
        "system": str(folder / "system"),
        "encoder": str(folder / "encoder" if keep_encoder else folder / "system" / "encoder"),
        "output_folder": str(folder),
        "seed": seed,
        **_course(tuner, train),
    }
    if test is not None and tuner.stop_reason_ is None:
        summary |= _judge(tuner, test, folder, seed)
    if others and tuner.stop_reason_ is None:
        summary["others"] = _judge_others(tuner, others, folder, seed)
    return summary | {"seconds": round(time.perf_counter() - started, 1)}


def _several(recipe: Mapping[str, Any], keep_encoder: bool) -> list[str]:
    """The keys by which several systems are trained."""
    found = [key for key in ("clinical", "fold_column", "num_folds") if recipe.get(key) is not None]
    if found and keep_encoder:
        raise RecipeError(f"{found[0]}: trains several encoders; to train one, leave it out")
    if found and recipe.get("others"):
        raise RecipeError(f"others: are judged by a system that is trained once; leave {found[0]} or others out")
    return found


def _parts(
    recipe: Mapping[str, Any], tuner: "FineTuner"
) -> "tuple[Manifest, Manifest | None, Manifest | None, dict[str, Manifest]]":
    """Training, validation and test set and further corpora, checked before anything is trained."""
    from dino_speech.transfer.targets import check_recordings, check_speakers

    train, valid, test = (read_part(recipe, name, labels=_numbers(tuner)) for name in ("train", "valid", "test"))
    assert train is not None
    if test is not None:
        tuner.check_test(train, test)
        if valid is not None:  # the best weights would be chosen by those who are judged
            try:
                check_speakers(valid, test, tuner.label)
                check_recordings(valid, test)
            except InputError as error:
                raise InputError(f"validation and test set: {error}") from error
    return train, valid, test, _others(recipe, tuner, train)


def _course(tuner: "FineTuner", train: "Manifest") -> dict[str, Any]:
    """What a summary says of the training."""
    last: dict[str, Any] = next((row for row in reversed(tuner.history_) if "loss" in row), {})
    return {
        "classes": tuner.classes_,
        "num_utterances": len(train),
        "hours": round(train.duration_s / 3600, 3),
        "num_steps": last.get("step"),
        "last": last,
        "best": tuner.best_,
        "num_skipped": len(tuner.skipped_),
        "stop_reason": tuner.stop_reason_,
    }


def _numbers(tuner: "FineTuner") -> list[str]:
    return tuner.labels if tuner.objective == "ccc" else []


def _others(recipe: Mapping[str, Any], tuner: "FineTuner", train: "Manifest") -> "dict[str, Manifest]":
    from dino_speech.evaluation.probing.cross_corpus import shared_labels
    from dino_speech.transfer.targets import check_test

    others = read_others(recipe, _numbers(tuner))
    for manifest in others.values():
        labels = shared_labels(manifest, tuner.labels)
        check_test(train, manifest, label=labels if _numbers(tuner) else tuner.label, objective=tuner.objective)
    return others


def _judge_others(tuner: "FineTuner", others: "dict[str, Manifest]", folder: Path, seed: int) -> dict[str, Any]:
    """Write the report of each further corpus; their figures."""
    from dino_speech.data.resumable_store import safe_name
    from dino_speech.evaluation.probing.cross_corpus import evaluate_cross_corpus
    from dino_speech.evaluation.reports.result_folder import write_results

    reports = evaluate_cross_corpus(tuner.system_, others, seed=seed, num_workers=NUM_READING_THREADS)
    return {
        name: {
            "report": str(write_results(folder / "others" / safe_name(name), {name: report})),
            "num_test": report.num_utterances,
            **figures_of(report),
        }
        for name, report in reports.items()
    }


def _judge(tuner: "FineTuner", test: "Manifest", folder: Path, seed: int) -> dict[str, Any]:
    """Write the report of the test set; its figures."""
    from dino_speech.evaluation.probing.finetuned import evaluate_finetuned
    from dino_speech.evaluation.reports.result_folder import write_results

    report = evaluate_finetuned(tuner.system_, test, seed=seed, num_workers=NUM_READING_THREADS)
    path = write_results(folder, {"fine-tuned": report})
    return {"report": str(path), "num_test": report.num_utterances, **figures_of(report)}
