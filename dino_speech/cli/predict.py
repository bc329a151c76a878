"""`dino-speech predict`: what a fine-tuned system says of recordings."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_speech.cli.answer import Answer, left_out, table
from dino_speech.cli.options import NUM_READING_THREADS, Subparsers, add_command, add_options, choose_device
from dino_speech.errors import UsageError

if TYPE_CHECKING:
    from dino_speech.transfer.system import Predictions


def add_commands(subparsers: Subparsers) -> None:
    """Declare the command of this file."""
    parser = add_command(
        subparsers,
        "predict",
        _predict,
        summary="what a fine-tuned system says of recordings",
        details=(
            "Long recordings are decided by segments, as the system was told when it was fine-tuned.\n"
            "A system that a text joins takes it from the manifest's column, or from --text."
        ),
        example="dino-speech predict recordings/ --system results/emotion/system --output predictions.csv",
    )
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="files, folders or manifests (CSV)")
    parser.add_argument("--system", metavar="DIR", required=True, help="folder of a system, as finetune leaves it")
    add_options(parser, "--device")
    add_options(parser, "--output", metavar="CSV", help="write one row per recording")
    parser.add_argument("--text", help="what is said in the one recording, for a system that a text joins")


def _predict(arguments: argparse.Namespace) -> Answer:
    from dino_speech.data.atomic import write_csv_atomically
    from dino_speech.data.utterances import list_some
    from dino_speech.embedding.inputs import collect
    from dino_speech.errors import InputError
    from dino_speech.transfer.audio_text.system import AudioTextSystem, load_system

    system = load_system(arguments.system, device=choose_device(arguments.device))
    manifest = collect(arguments.inputs)
    further: dict[str, Any] = {}
    if arguments.text is not None:
        if not isinstance(system, AudioTextSystem) or system.transcript is None:
            raise UsageError(f"--text: no text joins the system in {arguments.system}; leave it out")
        if len(manifest) != 1:
            raise UsageError(f"--text: one text, but {len(manifest)} recordings; give a manifest with their texts")
        further["texts"] = [arguments.text]
    found = system.predict(list(manifest), num_workers=NUM_READING_THREADS, progress=sys.stderr.isatty(), **further)
    skipped = [*manifest.skipped, *found.skipped]
    if not found.ids:
        reasons = list_some([f"{item.name}: {item.reason}" for item in skipped])
        raise InputError(f"none of {len(skipped)} files could be predicted ({reasons})")
    rows = list(_rows(found))
    if arguments.output:
        Path(arguments.output).parent.mkdir(parents=True, exist_ok=True)
        write_csv_atomically(Path(arguments.output), rows)
    data = {
        "predictions": rows,
        "classes": found.classes,
        "dimensions": found.dimensions,
        "rule": found.rule,
        "num_predicted": len(rows),
        **left_out(skipped),
        "output": arguments.output,
        "system": arguments.system,
    }
    if arguments.output:
        return Answer(data, f"{len(rows)} predictions in {arguments.output}; {len(skipped)} files skipped")
    return Answer(data, table([tuple(row.values()) for row in rows], header=list(rows[0])))


def _rows(found: "Predictions") -> Iterable[dict[str, Any]]:
    """One row per recording: ID, label, and the probability of each class; or ID and the value of each dimension."""
    for number, name in enumerate(found.ids):
        row: dict[str, Any] = {"ID": name}
        if found.labels:
            row["label"] = found.labels[number]
        figures = found.probabilities if found.labels else found.values
        names = found.classes or found.dimensions
        yield row | {name: round(float(value), 6) for name, value in zip(names, figures[number], strict=True)}
