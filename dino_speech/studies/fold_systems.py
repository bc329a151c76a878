"""Fine-tuning fold by fold: one system per fold, and one report of what all of them say of whom they have not heard."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dino_speech.data.atomic import write_csv_atomically
from dino_speech.data.folds import check_recordings, check_speakers, unknown_speakers, warn_once
from dino_speech.data.manifest import read_manifest
from dino_speech.data.resumable_store import safe_name
from dino_speech.data.utterances import Manifest
from dino_speech.errors import InputError
from dino_speech.evaluation.probing.classification import ClassificationReport
from dino_speech.evaluation.probing.learnt_elsewhere import Judged, judge, pooled_report
from dino_speech.evaluation.probing.regression import RegressionReport
from dino_speech.evaluation.reports.result_folder import write_results
from dino_speech.metrics import ccc, uar
from dino_speech.provenance import provenance
from dino_speech.studies.fine_tuning_study import split_folds
from dino_speech.training.state import refuse_other_things
from dino_speech.transfer.finetune import FineTuner
from dino_speech.transfer.targets import Classes


@dataclass(frozen=True, eq=False)
class FoldResults:
    """What fine-tuning fold by fold gave; where the time was over before the last fold, no `report` (nor its `path`).

    `folds` has for each finished fold `fold`, `system` (folder) and what `fold_row` gives; `num_skipped` training files
    could not be used, the same file once per fold; `stop_reason` is "max_minutes" or None.
    """

    report: ClassificationReport | RegressionReport | None
    path: Path | None
    folds: list[dict[str, Any]]
    num_skipped: int
    stop_reason: str | None


def finetune_folds(
    tuner: FineTuner,
    manifest: Manifest | str | PathLike[str],
    *,
    output_folder: str | PathLike[str],
    fold_column: str | None = None,
    num_folds: int | None = None,
    valid: Manifest | None = None,
    seed: int = 1986,
    device: str | torch.device | None = None,
    resume: bool = True,
    num_workers: int = 0,
) -> FoldResults:
    """Fine-tune one system per fold on the other folds, and judge all utterances, each by a system new to its speaker.

    Leaves each fold's system in `<output_folder>/fold_<name>/system`, and `report.md`, `report.json` (intervals over
    speakers) and `predictions.csv` of all folds in the output folder. The same call goes on where it was stopped;
    finished folds are only loaded. `output_folder`, `device` and `resume` are as in `FineTuner.fit`.

    Args:
        tuner: begins anew from its encoder in each fold; its `max_minutes` are for all folds together.
        manifest: the labelled utterances, or their file.
        fold_column: column with folds as published, one per value; or else
        num_folds: of folds drawn without a speaker in two.
        valid: a validation set for every fold, with speakers of its own.
        seed: of fine-tuning and intervals; drawn folds do not depend on it.
        num_workers: threads that read ahead when a fold is judged.

    Raises:
        InputError: a speaker in two folds, a class that only one fold has, a speaker of a fold in `valid`, or what
            `FineTuner.fit` refuses; all of it before anything is trained.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
    """
    manifest = manifest if isinstance(manifest, Manifest) else read_manifest(manifest)
    root = Path(output_folder)
    parts = _parts(tuner, manifest, valid, fold_column, num_folds)
    unknown = warn_once(unknown_speakers([manifest], tuner.speaker))
    folders = _folders(list(parts), root)
    rows: list[dict[str, Any]] = []
    judged: dict[str, Judged] = {}
    started, num_skipped = time.perf_counter(), 0
    for name, (train, test) in parts.items():
        minutes = (time.perf_counter() - started) / 60
        limit = tuner.run.max_minutes
        left = None if limit is None else max(limit - minutes, 1e-6)
        fold_tuner = replace(tuner, run=replace(tuner.run, max_minutes=left))
        fold_tuner.fit(train, valid=valid, output_folder=folders[name], seed=seed, device=device, resume=resume)
        num_skipped += len(fold_tuner.skipped_)
        if fold_tuner.stop_reason_ is not None:
            return FoldResults(None, None, rows, num_skipped, fold_tuner.stop_reason_)
        judged[name] = judge(fold_tuner.system_, test, speaker=tuner.speaker, num_workers=num_workers)
        rows.append({"fold": name, "system": str(folders[name] / "system"), **fold_row(judged[name], train)})
    origin = provenance(seed=seed, manifest=manifest.paths)
    common: dict[str, Any] = {"num_folds": len(parts), "seed": seed, "warnings": unknown}
    report = pooled_report(list(judged.values()), provenance=origin, **common)
    return FoldResults(report, _write(root, report, rows, judged), rows, num_skipped, None)


def _parts(
    tuner: FineTuner, manifest: Manifest, valid: Manifest | None, fold_column: str | None, num_folds: int | None
) -> dict[str, tuple[Manifest, Manifest]]:
    """Training and test part of each fold; everything that could stop a later fold is refused here."""
    classes = None if tuner.objective == "ccc" else tuner.labels[0]
    parts = split_folds(manifest, classes, column=fold_column, num_folds=num_folds, speaker=tuner.speaker)
    if valid is not None:
        warn_once(check_speakers(manifest, valid, tuner.label, speaker=tuner.speaker))
        check_recordings(manifest, valid)
    for name, (train, test) in parts.items():
        try:
            tuner.check_test(train, test)
        except InputError as error:
            raise InputError(f"fold {name}: {error}") from error
    return parts


def _folders(names: Sequence[str], output_folder: Path) -> dict[str, Path]:
    folders = {name: output_folder / f"fold_{safe_name(name)}" for name in names}
    if len(set(folders.values())) < len(folders):
        raise InputError(f"the names of the folds ({', '.join(folders)}) differ only in what no folder's name may hold")
    if not any(folder.exists() for folder in folders.values()):
        refuse_other_things(output_folder)
    return folders


def fold_row(judged: Judged, train: Manifest) -> dict[str, Any]:
    """Sizes and figures of one fold: `num_train`, `num_test`, `num_speakers`, and `uar`, or `ccc_NAME` by dimension."""
    if isinstance(judged.targets, Classes):
        figures = {"uar": uar(judged.true, judged.predicted)}
    else:
        pairs = zip(judged.targets.names, judged.true.T, judged.predicted.T, strict=True)
        figures = {f"ccc_{name}": ccc(true, said) for name, true, said in pairs}
    num_speakers = None if judged.speakers is None else len(set(judged.speakers.tolist()))
    return {"num_train": len(train), "num_test": len(judged.ids), "num_speakers": num_speakers, **figures}


def _write(
    folder: Path,
    report: ClassificationReport | RegressionReport,
    rows: Sequence[Mapping[str, Any]],
    judged: Mapping[str, Judged],
) -> Path:
    """The report, with one row for each fold, and the single predictions."""
    predictions = [row for name, part in judged.items() for row in _prediction_rows(name, part)]
    write_csv_atomically(folder / "predictions.csv", predictions)
    shown = [{key: value for key, value in row.items() if key != "system"} for row in rows]
    return write_results(folder, {"fine-tuned": report}, further={"Folds": shown})


def _prediction_rows(fold: str, part: Judged) -> Iterator[dict[str, Any]]:
    targets = part.targets
    names = [targets.label] if isinstance(targets, Classes) else list(targets.names)
    columns = [*names, *(f"predicted_{name}" for name in names)]
    values = np.column_stack([part.true, part.predicted]).tolist()
    speakers = [""] * len(part.ids) if part.speakers is None else part.speakers.tolist()
    for name, speaker, cells in zip(part.ids, speakers, values, strict=True):
        yield {"ID": name, "fold": fold, "speaker": speaker, **dict(zip(columns, cells, strict=True))}
