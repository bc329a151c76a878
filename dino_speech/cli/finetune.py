"""`dino-speech finetune`, `train-supervised` and `predict`: from labelled speech to a system, and what it says."""

import argparse
import csv
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_speech.cli.answer import Answer, name_skipped, table
from dino_speech.cli.parsing import Subparsers, add_command, choose_device
from dino_speech.cli.pretrain import add_recipe_command, summarise

if TYPE_CHECKING:
    from dino_speech.transfer.system import Predictions

NUM_READING_THREADS = 2


def add_commands(subparsers: Subparsers) -> None:
    """Declare the commands of this file."""
    add_recipe_command(
        subparsers,
        "finetune",
        _finetune,
        summary="train an encoder for a label, in stages, as a recipe says",
        details=(
            "Leaves the system at OUTPUT_FOLDER/system and, with a test set, report.md and report.json. Every value\n"
            "of the recipe can be given as --key=value. The same command goes on where a run was stopped.\n"
            "--fold_column=fold or --num_folds=5: one system per fold, and one report of all of them.\n"
            "--clinical='{positive: ad}': people are judged, and the same pipeline on silence beside it."
        ),
        example=(
            "dino-speech finetune recipes/YourSpeech/emotion/hparams/staged.yaml --train_manifest=train.csv "
            "--test_manifest=test.csv --encoder.source=results/dino/encoder"
        ),
    )
    add_recipe_command(
        subparsers,
        "train-supervised",
        _train_supervised,
        summary="train an encoder from scratch with speaker labels: the baseline of self-supervision",
        details="Leaves the encoder, ready to load, at OUTPUT_FOLDER/encoder. Otherwise like finetune.",
        example="dino-speech train-supervised recipes/YourSpeech/supervised/hparams/xvector.yaml "
        "--train_manifest=train.csv",
    )
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
    parser.add_argument("--device", help="cpu, cuda, cuda:N (default: a GPU where there is one)")
    parser.add_argument("--output", metavar="CSV", help="write one row per recording")
    parser.add_argument("--text", help="what is said in the one recording, for a system that a text joins")


def _finetune(arguments: argparse.Namespace) -> Answer:
    return _run(arguments, keep_encoder=False)


def _train_supervised(arguments: argparse.Namespace) -> Answer:
    return _run(arguments, keep_encoder=True)


def _run(arguments: argparse.Namespace, *, keep_encoder: bool) -> Answer:
    from dino_speech.recipe import load_recipe, run_finetuning

    recipe = load_recipe(arguments.recipe, arguments.overrides, trust=arguments.trust_recipe)
    summary = run_finetuning(recipe, resume=not arguments.restart, keep_encoder=keep_encoder)
    if "silence_control" in summary:  # a clinical report is read with its warnings, or not at all
        text = Path(summary["report"]).read_text(encoding="utf-8").partition("## Provenance")[0]
        return Answer(summary, f"{text}Report: {summary['report']}")
    if "folds" not in summary:
        return summarise(summary)
    rows = [tuple(row.values()) for row in summary["folds"]]
    folds = table(rows, header=list(summary["folds"][0])) if rows else "no fold is finished yet"
    return Answer(summary, f"{folds}\n\n{summarise({**summary, 'folds': None}).text}")


def _predict(arguments: argparse.Namespace) -> Answer:
    from dino_speech.data.utterances import list_some
    from dino_speech.embedding.inputs import collect
    from dino_speech.errors import InputError
    from dino_speech.transfer.audio_text.system import AudioTextSystem, load_system

    system = load_system(arguments.system, device=choose_device(arguments.device))
    manifest = collect(arguments.inputs)
    further: dict[str, Any] = {}
    if arguments.text is not None:
        if not isinstance(system, AudioTextSystem) or system.transcript is None:
            raise InputError(f"--text: no text joins the system in {arguments.system}; leave it out")
        if len(manifest) != 1:
            raise InputError(f"--text: one text, but {len(manifest)} recordings; give a manifest with their texts")
        further["texts"] = [arguments.text]
    found = system.predict(list(manifest), num_workers=NUM_READING_THREADS, progress=sys.stderr.isatty(), **further)
    skipped = [*manifest.skipped, *found.skipped]
    if not found.ids:
        reasons = list_some([f"{item.name}: {item.reason}" for item in skipped])
        raise InputError(f"none of {len(skipped)} files could be predicted ({reasons})")
    name_skipped(skipped)
    rows = list(_rows(found))
    if arguments.output:
        _write(Path(arguments.output), rows)
    data = {
        "predictions": rows,
        "classes": found.classes,
        "dimensions": found.dimensions,
        "rule": found.rule,
        "num_predicted": len(rows),
        "num_skipped": len(skipped),
        "skipped": [item.to_dict() for item in skipped],
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


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
