"""`dino-speech adapt` and `distill`: a frame-level encoder made to fit a task's audio, or made small."""

import argparse
from pathlib import Path

from dino_speech.cli.answer import Answer
from dino_speech.cli.parsing import Subparsers
from dino_speech.cli.pretrain import add_recipe_command, summarise


def add_commands(subparsers: Subparsers) -> None:
    """Declare the commands of this file."""
    add_recipe_command(
        subparsers,
        "adapt",
        _adapt,
        summary="go on with the pretraining of wav2vec 2.0 and its kin on a task's audio (TAPT, P-TAPT)",
        details=(
            "Leaves the encoder at OUTPUT_FOLDER/encoder, to be fine-tuned. Give it training speech only: with folds,\n"
            "see the study of recipes/YourSpeech/adapt. The same command goes on where a run was stopped."
        ),
        example="dino-speech adapt recipes/YourSpeech/adapt/hparams/tapt.yaml --train_manifest=train.csv",
    )
    add_recipe_command(
        subparsers,
        "distill",
        _distill,
        summary="teach a small encoder what the layers of a frame-level one say",
        details=(
            "Leaves the student at OUTPUT_FOLDER/encoder and, with a test set, OUTPUT_FOLDER/comparison/report.md:\n"
            "parameters and CCC of teacher, student, and student joined by text. The same command goes on where a\n"
            "run was stopped."
        ),
        example="dino-speech distill recipes/YourSpeech/distill/hparams/first_layers.yaml --train_manifest=speech.csv",
    )


def _adapt(arguments: argparse.Namespace) -> Answer:
    from dino_speech.recipe import load_recipe, run_adaptation

    recipe = load_recipe(arguments.recipe, arguments.overrides, trust=arguments.trust_recipe)
    return summarise(run_adaptation(recipe, resume=not arguments.restart))


def _distill(arguments: argparse.Namespace) -> Answer:
    from dino_speech.recipe import load_recipe, run_distillation

    recipe = load_recipe(arguments.recipe, arguments.overrides, trust=arguments.trust_recipe)
    summary = run_distillation(recipe, resume=not arguments.restart)
    shown = summarise({key: value for key, value in summary.items() if key != "rows"}).text
    if "report" not in summary:
        return Answer(summary, shown)
    text = Path(summary["report"]).read_text(encoding="utf-8").partition("## Provenance")[0]
    return Answer(summary, f"{text}\n{shown}")
