"""`dino-speech pretrain`, and what all commands share that run a recipe: its options, its summary."""

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dino_speech.cli.answer import Answer, table
from dino_speech.cli.parsing import Command, Subparsers, add_command

OPTION = re.compile(r"--[A-Za-z_][\w.]*=")
RECIPE_COMMANDS = ("pretrain", "finetune", "train-supervised", "pseudo-label", "study", "adapt", "distill")


def add_commands(subparsers: Subparsers) -> None:
    """Declare the commands of this file."""
    add_recipe_command(
        subparsers,
        "pretrain",
        _pretrain,
        summary="learn an encoder from unlabelled speech, as a recipe says",
        details=(
            "Leaves the teacher, ready to load, at OUTPUT_FOLDER/encoder. Every value of the recipe can be given as\n"
            "--key=value, nested ones as --key.subkey=value. The same command goes on where a run was stopped.\n"
            "On several GPUs: torchrun --nproc-per-node=8 -m -- dino_speech pretrain RECIPE.yaml [--key=value ...]"
        ),
        example="dino-speech pretrain recipes/YourSpeech/dino/hparams/cpu.yaml --train_manifest=train.csv --seed=3",
    )


def add_recipe_command(
    subparsers: Subparsers, name: str, run: Command, *, summary: str, details: str, example: str
) -> None:
    """A command that takes a recipe and options `--key=value` for it."""
    parser = add_command(subparsers, name, run, summary=summary, details=details, example=example)
    parser.usage = f"dino-speech {name} RECIPE.yaml [--key=value ...] [--restart] [--trust-recipe] [--json]"
    parser.add_argument("recipe", metavar="RECIPE.yaml", help="a HyperPyYAML file, e.g. of recipes/YourSpeech")
    parser.add_argument(
        "--trust-recipe", action="store_true", help="let the recipe name any Python object: it is run like a program"
    )
    parser.add_argument(
        "--restart", action="store_true", help="delete the former run in the output folder instead of going on with it"
    )


def split_options(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of a command line for argparse, and the options of a recipe: argparse mistakes some for files."""
    options = [word for word in words if OPTION.match(word)] if words and words[0] in RECIPE_COMMANDS else []
    return [word for word in words if word not in options], options


def resume_hint(arguments: argparse.Namespace) -> str:
    """What to say to a person whose command was stopped from outside."""
    resumes = (*RECIPE_COMMANDS, "compare")
    return "; the same command goes on from there" if arguments.command in resumes else ""


def _pretrain(arguments: argparse.Namespace) -> Answer:
    from dino_speech.recipe import load_recipe, run_pretraining

    recipe = load_recipe(arguments.recipe, arguments.overrides, trust=arguments.trust_recipe)
    return summarise(run_pretraining(recipe, resume=not arguments.restart))


def summarise(summary: Mapping[str, Any]) -> Answer:
    """What running a recipe gave, one line per figure; those of `last` and `best` by their names."""
    shown = {key: value for key, value in summary.items() if not isinstance(value, dict) and value is not None}
    shown |= {f"{key} {name}": value for key in ("last", "best") for name, value in (summary.get(key) or {}).items()}
    return Answer(summary, table(list(shown.items())))
