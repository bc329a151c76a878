"""What a distilled student is worth: its parameters and its CCC beside its teacher's, with and without text."""

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from dino_speech.data.manifest import read_manifest
from dino_speech.data.utterances import Manifest
from dino_speech.evaluation.probing.finetuned import evaluate_finetuned
from dino_speech.evaluation.probing.regression import RegressionReport
from dino_speech.evaluation.reports.result_folder import Report, write_results
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.transfer.audio_text.tuner import AudioTextTuner


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

    Args:
        tuner: of the student (its `encoder`), as it is to be trained.
        train: the labelled utterances.
        test: others, with other speakers.
        teacher: what the student was distilled from.
        output_folder: made with its parents.
        seed: of everything random.
        device: as in `AudioTextTuner.fit`.
        resume: False begins each row anew.

    Returns:
        Plain data: `rows`, a list of `system`, `folder` (for `load_audio_text`), `num_parameters`, `num_trained`, `ccc`
        by dimension, and `relevance` (the layers' weights by dimension); `report`, the file.

    Raises:
        InputError: speakers on both sides, a label that is no number, a missing column.
    """
    train, test = (part if isinstance(part, Manifest) else read_manifest(part) for part in (train, test))
    tuner.check_test(train, test)
    systems = {
        "teacher (frozen)": replace(tuner, encoder=teacher, transcript=None, train_encoder=False),
        "student": replace(tuner, transcript=None),
    }
    if tuner.transcript is not None:
        systems["student and text"] = tuner
    folder, reports = Path(output_folder), dict[str, Report]()
    rows: list[dict[str, Any]] = []
    for number, (name, system) in enumerate(systems.items()):
        place = folder / ("teacher", "student", "student_text")[number]
        system.fit(train, output_folder=place, seed=seed, device=device, resume=resume)
        reports[name] = report = evaluate_finetuned(system.system_, test, seed=seed)
        assert isinstance(report, RegressionReport)
        count: Mapping[str, int] = system.num_parameters_
        rows.append(
            {
                "system": name,
                "folder": str(place / "system"),
                "num_parameters": count["all"],
                "num_trained": count["trained"],
                "ccc": report.ccc,
                "relevance": system.relevance_,
            }
        )
    shown = [{**{key: row[key] for key in ("system", "num_parameters", "num_trained")}, **row["ccc"]} for row in rows]
    layers = [
        {"system": row["system"], "dimension": label, **{f"layer {i}": f"{w:.2f}" for i, w in enumerate(weights)}}
        for row in rows
        for label, weights in row["relevance"].items()
        if len(weights) > 1
    ]
    further = {"Parameters and CCC": shown} | {
        f"Weight of each layer: {name}": [row for row in layers if row["system"] == name]
        for name in dict.fromkeys(row["system"] for row in layers)
    }
    return {"rows": rows, "report": str(write_results(folder, reports, further=further))}
