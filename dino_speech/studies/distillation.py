"""What a distilled student is worth: its parameters and its CCC beside its teacher's, with and without text."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from dino_speech.data.folds import warn_once
from dino_speech.data.manifest import read_manifest
from dino_speech.data.utterances import Manifest
from dino_speech.evaluation.probing.learnt_elsewhere import evaluate_finetuned
from dino_speech.evaluation.probing.regression import RegressionReport
from dino_speech.evaluation.reports.result_folder import Report, write_results
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.transfer.audio_text.tuner import AudioTextTuner

FOLDERS = {"teacher (frozen)": "teacher", "student": "student", "student and text": "student_text"}


def compare_distilled(
    tuner: AudioTextTuner,
    train: Manifest | str | PathLike[str],
    test: Manifest | str | PathLike[str],
    *,
    teacher: SpeechEncoder,
    output_folder: str | PathLike[str],
    seed: int = 1986,
    device: str | torch.device | None = None,
    resume: bool = True,
) -> dict[str, Any]:
    """Train read-outs on a teacher and on its student, and judge both on speakers that were not trained on.

    Rows: the teacher, frozen, under a read-out of its layers; the student by audio alone, and, where the tuner names a
    transcript column, joined by text. Leaves `report.md`, `report.json` (intervals over speakers), a folder for each.
    `output_folder`, `seed`, `device` and `resume` are as in `AudioTextTuner.fit`.

    Args:
        tuner: of the student (its `encoder`), as it is to be trained.
        train: the labelled utterances.
        test: others, with other speakers.
        teacher: what the student was distilled from.

    Returns:
        Plain data: `rows`, a list of `system`, `folder` (for `load_audio_text`), `num_parameters`, `num_trained`, `ccc`
        by dimension, and `relevance` (the layers' weights by dimension); `report`, the file.

    Raises:
        InputError: speakers on both sides, a label that is no number, a missing column.
    """
    train, test = (part if isinstance(part, Manifest) else read_manifest(part) for part in (train, test))
    unknown = warn_once(tuner.check_test(train, test))
    audio = replace(tuner, transcript=None)
    systems = {"teacher (frozen)": replace(audio, encoder=teacher, train_encoder=False), "student": audio}
    if tuner.transcript is not None:
        systems["student and text"] = tuner
    folder, reports = Path(output_folder), dict[str, Report]()
    rows: list[dict[str, Any]] = []
    for name, system in systems.items():
        place = folder / FOLDERS[name]
        system.fit(train, output_folder=place, seed=seed, device=device, resume=resume)
        reports[name] = report = evaluate_finetuned(
            system.system_, test, seed=seed, speaker=tuner.speaker, warnings=unknown
        )
        assert isinstance(report, RegressionReport)
        count: Mapping[str, int] = system.num_parameters_
        sizes = {"num_parameters": count["all"], "num_trained": count["trained"]}
        found = {"ccc": report.ccc, "relevance": system.relevance_}
        rows.append({"system": name, "folder": str(place / "system"), **sizes, **found})
    return {"rows": rows, "report": str(write_results(folder, reports, further=_tables(rows)))}


def _tables(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Sizes and figures, and the weights of each system's layers."""
    sizes = ("system", "num_parameters", "num_trained")
    tables = {"Parameters and CCC": [{**{key: row[key] for key in sizes}, **row["ccc"]} for row in rows]}
    for row in rows:
        name, weighted = row["system"], {label: x for label, x in row["relevance"].items() if len(x) > 1}
        if weighted:
            tables[f"Weight of each layer: {name}"] = [
                {"system": name, "dimension": label, **{f"layer {i}": f"{x:.2f}" for i, x in enumerate(weights)}}
                for label, weights in weighted.items()
            ]
    return tables
