"""From a fine-tuning recipe to systems and their report: once, by folds, or for a clinical question."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dino_speech.errors import InputError, RecipeError
from dino_speech.recipe.commands.recorded_run import (
    NUM_READING_THREADS,
    RecordedRun,
    course_of,
    figures_of,
    read_others,
    read_part,
    read_train,
    refuse_test,
    require,
    require_numbers,
)

if TYPE_CHECKING:
    from dino_speech.data.manifest import Manifest
    from dino_speech.transfer.finetune import FineTuner


Unchecked = dict[str, list[str]]  # corpus -> sentences on what could not be looked at


def run_finetuning(
    recipe: Mapping[str, Any], *, resume: bool = True, device: str | None = None, keep_encoder: bool = False
) -> dict[str, Any]:
    """Fine-tune as a recipe says; a run that was stopped goes on.

    Leaves the system at `<output_folder>/system` and, with a test set, `report.json`, `report.md` and a picture in the
    output folder. Parts of one manifest can be told apart by `where`, `valid_where` and `test_where`: a part that has
    conditions and no manifest of its own is taken from `train_manifest`.

    Corpora in `others` are judged whole, each with its own report in `others/<name>`; where they rate on other scales,
    `label_range` says from where to where. With `fold_column` or `num_folds` one system is trained per fold, with
    `clinical` people are judged, beside the silence control. `keep_encoder` also saves the encoder at
    `<output_folder>/encoder`, as pretraining does.

    Returns:
        Plain data: `system` and `encoder` (folders), `classes`, and what `RecordedRun.summary` and `course_of` give;
        with a test set `report` (file), `num_test`, and `uar`, `micro_f1`, `macro_f1`, or `ccc` by dimension; the same
        in `others` by name. Of folds, and of a clinical question, what `run_folds` and `run_clinical` give.

    Raises:
        InputError: also for speakers in both train and test, or in both valid and test.
    """
    from dino_speech.training.processes import Processes
    from dino_speech.transfer.finetune import FineTuner

    tuner = require(recipe, "tuner", FineTuner)
    require_numbers(recipe, tuner.objective)
    if several := _several(recipe, keep_encoder):
        return (run_clinical if "clinical" in several else run_folds)(recipe, tuner, resume=resume, device=device)
    run = RecordedRun(recipe, read_train(recipe, _numbers(tuner)))
    valid, test, others, unknown = _parts(recipe, tuner, run.manifest)
    with run.keeping_recipe():
        tuner.fit(run.manifest, valid=valid, **run.place, device=device, resume=resume)
    processes = Processes()  # under torchrun the main one judges and writes
    if keep_encoder:
        origin = tuner.system_.provenance
        processes.from_main(lambda: tuner.encoder_.save(run.folder / "encoder", provenance=origin))
    found = {"classes": tuner.classes_, **course_of(tuner)}
    if test is not None and tuner.stop_reason_ is None:
        found |= processes.from_main(lambda: _judge(tuner, test, run, unknown["test"]))
    if others and tuner.stop_reason_ is None:
        found["others"] = processes.from_main(lambda: _judge_others(tuner, others, run, unknown))
    encoder = run.folder / "encoder" if keep_encoder else run.folder / "system" / "encoder"
    return {"system": str(run.folder / "system"), "encoder": str(encoder), **run.summary(**found)}


def _several(recipe: Mapping[str, Any], keep_encoder: bool) -> list[str]:
    """The keys by which several systems are trained."""
    found = [key for key in ("clinical", "fold_column", "num_folds") if recipe.get(key) is not None]
    if found and keep_encoder:
        raise RecipeError(f"{found[0]}: trains several encoders; to train one, leave it out")
    if found and recipe.get("others"):
        raise RecipeError(f"others: are judged by a system that is trained once; leave {found[0]} or others out")
    return found


def _parts(
    recipe: Mapping[str, Any], tuner: "FineTuner", train: "Manifest"
) -> "tuple[Manifest | None, Manifest | None, dict[str, Manifest], Unchecked]":
    """Validation and test set and further corpora, checked before anything is trained."""
    from dino_speech.data.folds import check_recordings, check_speakers, warn_once

    unknown: Unchecked = {}
    valid, test = (read_part(recipe, part, _numbers(tuner)) for part in ("valid", "test"))
    if test is not None:
        unknown["test"] = warn_once(tuner.check_test(train, test))
        if valid is not None:  # the best weights would be chosen by those who are judged
            try:
                warn_once(check_speakers(valid, test, tuner.label, speaker=tuner.speaker))
                check_recordings(valid, test)
            except InputError as error:
                raise InputError(f"validation and test set: {error}") from error
    others = _others(recipe, tuner, train, unknown)
    return valid, test, others, unknown


def _numbers(tuner: "FineTuner") -> list[str]:
    return tuner.labels if tuner.objective == "ccc" else []


def _others(
    recipe: Mapping[str, Any], tuner: "FineTuner", train: "Manifest", unknown: Unchecked
) -> "dict[str, Manifest]":
    from dino_speech.data.folds import check_recordings, warn_once
    from dino_speech.evaluation.probing.learnt_elsewhere import shared_labels
    from dino_speech.transfer.targets import check_test

    others = read_others(recipe, _numbers(tuner))
    for name, manifest in others.items():
        labels = shared_labels(manifest, tuner.labels) if _numbers(tuner) else tuner.label
        options: Any = {"label": labels, "objective": tuner.objective, "speaker": tuner.speaker}
        unknown[name] = warn_once(check_test(train, manifest, **options))
        check_recordings(train, manifest)
    return others


def _judge_others(
    tuner: "FineTuner", others: "dict[str, Manifest]", run: RecordedRun, unknown: Unchecked
) -> dict[str, Any]:
    """Write the report of each further corpus; their figures."""
    from dino_speech.data.resumable_store import safe_name
    from dino_speech.evaluation.probing.learnt_elsewhere import evaluate_cross_corpus
    from dino_speech.evaluation.reports.result_folder import write_results

    options: Any = {"seed": run.seed, "speaker": tuner.speaker, "num_workers": NUM_READING_THREADS}
    reports = evaluate_cross_corpus(tuner.system_, others, warnings=unknown, **options)
    return {
        name: {
            "report": str(write_results(run.folder / "others" / safe_name(name), {name: report})),
            "num_test": report.num_utterances,
            **figures_of(report),
        }
        for name, report in reports.items()
    }


def _judge(tuner: "FineTuner", test: "Manifest", run: RecordedRun, unknown: Sequence[str]) -> dict[str, Any]:
    """Write the report of the test set; its figures."""
    from dino_speech.evaluation.probing.learnt_elsewhere import evaluate_finetuned
    from dino_speech.evaluation.reports.result_folder import write_results

    options: Any = {"seed": run.seed, "speaker": tuner.speaker, "num_workers": NUM_READING_THREADS}
    report = evaluate_finetuned(tuner.system_, test, warnings=unknown, **options)
    path = write_results(run.folder, {"fine-tuned": report})
    return {"report": str(path), "num_test": report.num_utterances, **figures_of(report)}


def run_folds(
    recipe: Mapping[str, Any], tuner: "FineTuner", *, resume: bool = True, device: str | None = None
) -> dict[str, Any]:
    """Fine-tune one system per fold of `fold_column` or `num_folds`, and judge all utterances; finished folds are kept.

    Leaves the systems at `<output_folder>/fold_<name>/system`, `report.md`, `report.json` and `predictions.csv`. Gives
    what `RecordedRun.summary` gives, `num_folds`, `folds` (see `FoldResults`), `num_skipped`, `stop_reason`; where all
    folds are finished `report` (file), `num_test` and the figures of `run_finetuning`.
    """
    from dino_speech.studies.fold_systems import finetune_folds

    chosen: dict[str, Any] = {key: recipe.get(key) for key in ("fold_column", "num_folds")}
    refuse_test(recipe, "fold_column" if chosen["fold_column"] is not None else "num_folds")
    labels = tuner.labels if tuner.objective == "ccc" else []
    run = RecordedRun(recipe, read_train(recipe, labels))
    chosen |= {"valid": read_part(recipe, "valid", labels), "device": device, "resume": resume, **run.place}
    with run.keeping_recipe():
        found = finetune_folds(tuner, run.manifest, **chosen, num_workers=NUM_READING_THREADS)
    course: dict[str, Any] = {"num_folds": len(found.folds), "folds": found.folds}
    course |= {"num_skipped": found.num_skipped, "stop_reason": found.stop_reason}
    if found.report is not None:
        course |= {"report": str(found.path), "num_test": found.report.num_utterances, **figures_of(found.report)}
    return run.summary(**course)


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
    and the silent parts in `nonspeech/`. Finished folds are kept. Gives `report` (file), and what `RecordedRun.summary`
    and `ClinicalReport.to_dict` give.
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
