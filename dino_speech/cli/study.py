"""`dino-speech study` and `pseudo-label`: many trainings by one command."""

import argparse
import sys
from pathlib import Path

from dino_speech.cli.answer import Answer, table
from dino_speech.cli.parsing import Subparsers
from dino_speech.cli.pretrain import add_recipe_command


def add_commands(subparsers: Subparsers) -> None:
    """Declare the commands of this file."""
    add_recipe_command(
        subparsers,
        "pseudo-label",
        _pseudo_label,
        summary="tune an encoder for speakers without labels: cluster, learn the clusters, cluster again",
        details=(
            "Leaves the encoder at OUTPUT_FOLDER/encoder and each round in OUTPUT_FOLDER/round_N. The same command\n"
            "goes on where a run was stopped."
        ),
        example="dino-speech pseudo-label recipes/YourSpeech/pseudo_labels/hparams/rounds.yaml "
        "--train_manifest=train.csv --encoder.source=results/dino/encoder",
    )
    add_recipe_command(
        subparsers,
        "study",
        _study,
        summary="compare encoders and ways of fine-tuning them, over seeds, as one table",
        details=(
            "Writes table.md, table.csv and pictures to OUTPUT_FOLDER. Finished cells are kept: the same command goes\n"
            "on where it was stopped, and with more seeds or settings runs only what is new."
        ),
        example="dino-speech study recipes/YourSpeech/transfer/hparams/emotion.yaml --train_manifest=labelled.csv "
        "--study.systems.dino=results/dino/encoder",
    )


def _pseudo_label(arguments: argparse.Namespace) -> Answer:
    from dino_speech.recipe import load_recipe, run_pseudo_labels

    recipe = load_recipe(arguments.recipe, arguments.overrides, trust=arguments.trust_recipe)
    summary = run_pseudo_labels(recipe, resume=not arguments.restart)
    rows = []
    for found in summary["rounds"]:
        quality = found.get("quality") or {}
        figures = {**{key: quality.get(key) for key in ("purity", "nmi")}, **(found["monitor"] or {})}
        shown = "  ".join(f"{key} {value:.3f}" for key, value in figures.items() if value is not None)
        sizes = (
            f"{found['num_kept']} utterances in {found['num_clusters']} clusters" if found["round"] else "as it came"
        )
        rows.append((f"round {found['round']}", sizes, shown))
    return Answer(summary, table([*rows, ("encoder", summary["encoder"], "")]))


def _study(arguments: argparse.Namespace) -> Answer:
    from dino_speech.recipe import load_recipe, run_study

    recipe = load_recipe(arguments.recipe, arguments.overrides, trust=arguments.trust_recipe)
    summary = run_study(recipe, resume=not arguments.restart)
    for cell, reason in summary["failures"].items():
        print(f"not run: {cell}: {reason}", file=sys.stderr)
    return Answer(summary, Path(summary["table"]).read_text(encoding="utf-8"))
