"""The commands that run a recipe, from `pretrain` to `study`: one table of facts, one way to run them."""

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dino_speech.cli.answer import Answer, table
from dino_speech.cli.options import Subparsers, add_command, add_options, choose_device

GOES_ON = "The same command goes on where a run was stopped."
EXAMPLES = "recipes/YourSpeech"


def summarise(summary: Mapping[str, Any]) -> str:
    """What running a recipe gave, one line per figure; those of `last` and `best` by their names."""
    hidden = {key for key, value in summary.items() if isinstance(value, dict) or value is None}
    shown = {key: value for key, value in summary.items() if key not in hidden | {"skipped", "rows", "folds"}}
    shown |= {f"{key} {name}": value for key in ("last", "best") for name, value in (summary.get(key) or {}).items()}
    return table(list(shown.items()))


def _report(summary: Mapping[str, Any]) -> str:
    return Path(summary["report"]).read_text(encoding="utf-8").partition("## Provenance")[0]


def _tuned(summary: Mapping[str, Any]) -> str:
    if "silence_control" in summary:  # a clinical report is read with its warnings, or not at all
        return f"{_report(summary)}Report: {summary['report']}"
    if "folds" not in summary:
        return summarise(summary)
    rows = [tuple(row.values()) for row in summary["folds"]]
    folds = table(rows, header=list(summary["folds"][0])) if rows else "no fold is finished yet"
    return f"{folds}\n\n{summarise(summary)}"


def _distilled(summary: Mapping[str, Any]) -> str:
    return f"{_report(summary)}\n{summarise(summary)}" if "report" in summary else summarise(summary)


def _rounds(summary: Mapping[str, Any]) -> str:
    rows = []
    for found in summary["rounds"]:
        quality = found.get("quality") or {}
        figures = {**{key: quality.get(key) for key in ("purity", "nmi")}, **(found["monitor"] or {})}
        shown = "  ".join(f"{key} {value:.3f}" for key, value in figures.items() if value is not None)
        size = f"{found['num_kept']} utterances in {found['num_clusters']} clusters" if found["round"] else "as it came"
        rows.append((f"round {found['round']}", size, shown))
    return table([*rows, ("encoder", summary["encoder"], "")])


def _cells(summary: Mapping[str, Any]) -> str:
    for item in summary["skipped"]:
        print(f"skipped {item['name']}: {item['reason']}", file=sys.stderr)
    return Path(summary["table"]).read_text(encoding="utf-8")


@dataclass(frozen=True)
class RecipeCommand:
    """One command: the function of `dino_speech.recipe` that it calls, what its help says, how its summary is shown."""

    run: str
    summary: str
    details: str
    example: str
    show: Callable[[Mapping[str, Any]], str] = summarise
    options: Mapping[str, Any] = field(default_factory=dict)


COMMANDS = {
    "pretrain": RecipeCommand(
        "run_pretraining",
        "learn an encoder from unlabelled speech, as a recipe says",
        "Leaves the teacher, ready to load, at OUTPUT_FOLDER/encoder.\n"
        "On several GPUs: torchrun --nproc-per-node=8 -m -- dino_speech pretrain RECIPE.yaml [--key value ...]",
        "dino/hparams/cpu.yaml --train_manifest=train.csv --seed=3",
    ),
    "finetune": RecipeCommand(
        "run_finetuning",
        "train an encoder for a label, in stages, as a recipe says",
        "Leaves the system at OUTPUT_FOLDER/system and, with a test set, report.md and report.json.\n"
        "--fold_column=fold or --num_folds=5: one system per fold, and one report of all of them.\n"
        "--clinical='{positive: ad}': people are judged, and the same pipeline on silence beside it.",
        "emotion/hparams/staged.yaml --train_manifest=train.csv --test_manifest=test.csv "
        "--encoder.source=results/dino/encoder",
        _tuned,
    ),
    "train-supervised": RecipeCommand(
        "run_finetuning",
        "train an encoder from scratch with speaker labels: the baseline of self-supervision",
        "Leaves the encoder, ready to load, at OUTPUT_FOLDER/encoder. Otherwise like finetune.",
        "supervised/hparams/xvector.yaml --train_manifest=train.csv",
        _tuned,
        {"keep_encoder": True},
    ),
    "adapt": RecipeCommand(
        "run_adaptation",
        "go on with the pretraining of wav2vec 2.0 and its kin on a task's audio (TAPT, P-TAPT)",
        "Leaves the encoder at OUTPUT_FOLDER/encoder, to be fine-tuned. Give it training speech only: with folds,\n"
        "see the study of recipes/YourSpeech/adapt.",
        "adapt/hparams/tapt.yaml --train_manifest=train.csv",
    ),
    "distill": RecipeCommand(
        "run_distillation",
        "teach a small encoder what the layers of a frame-level one say",
        "Leaves the student at OUTPUT_FOLDER/encoder and, with a test set, OUTPUT_FOLDER/comparison/report.md:\n"
        "parameters and CCC of teacher, student, and student joined by text.",
        "distill/hparams/first_layers.yaml --train_manifest=speech.csv",
        _distilled,
    ),
    "pseudo-label": RecipeCommand(
        "run_pseudo_labels",
        "tune an encoder for speakers without labels: cluster, learn the clusters, cluster again",
        "Leaves the encoder at OUTPUT_FOLDER/encoder and each round in OUTPUT_FOLDER/round_N.",
        "pseudo_labels/hparams/rounds.yaml --train_manifest=train.csv --encoder.source=results/dino/encoder",
        _rounds,
    ),
    "study": RecipeCommand(
        "run_study",
        "compare encoders and ways of fine-tuning them, over seeds, as one table",
        "Writes table.md, table.csv and pictures to OUTPUT_FOLDER. Finished cells are kept: with more seeds or\n"
        "settings only what is new is run.",
        "transfer/hparams/emotion.yaml --train_manifest=labelled.csv --study.systems.dino=results/dino/encoder",
        _cells,
    ),
}


def add_commands(subparsers: Subparsers) -> None:
    """Declare the commands of this file."""
    for name, command in COMMANDS.items():
        parser = add_command(
            *(subparsers, name, _run, command.summary),
            details=f"{command.details}\nEvery value of the recipe can be given as --key value or --key=value, nested"
            f" ones as --key.subkey.\n{GOES_ON}",
            example=f"dino-speech {name} {EXAMPLES}/{command.example}",
        )
        flags = " ".join(f"[{flag}]" for flag in ("--device DEVICE", "--restart", "--trust-recipe", "--json"))
        parser.usage = f"dino-speech {name} RECIPE.yaml [--key value ...] {flags}"
        parser.add_argument("recipe", metavar="RECIPE.yaml", help="a HyperPyYAML file, e.g. of recipes/YourSpeech")
        add_options(parser, "--device")
        add_options(parser, "--restart", help="delete the former run in the output folder instead of going on with it")
        trust = "let the recipe name any Python object: it is run like a program"
        parser.add_argument("--trust-recipe", action="store_true", help=trust)


def _run(arguments: argparse.Namespace) -> Answer:
    from dino_speech import recipe as recipes

    command = COMMANDS[arguments.command]
    device = None if arguments.device is None else choose_device(arguments.device)
    recipe = recipes.load_recipe(
        arguments.recipe, arguments.overrides, trust=arguments.trust_recipe, command=arguments.command
    )
    run = getattr(recipes, command.run)
    summary = run(recipe, resume=not arguments.restart, device=device, **command.options)
    return Answer(summary, command.show(summary))
