"""What the commands that judge share: their kind's options, the encoder and what it is judged on, the answer."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dino_speech.cli.answer import Answer, left_out
from dino_speech.cli.options import (
    NUM_READING_THREADS,
    Command,
    Subparsers,
    add_command,
    add_options,
    choose_device,
    read_chosen_manifest,
)


def add_judging(
    kinds: Subparsers, name: str, run: Command, summary: str, *, details: str, example: str
) -> argparse.ArgumentParser:
    """A command that judges one encoder on a manifest; `example` is what follows these two."""
    beginning = f"{'' if name == 'probe' else 'evaluate '}{name} --encoder results/dino/encoder --manifest"
    parser = add_command(kinds, name, run, summary, details=details, example=f"dino-speech {beginning} {example}")
    add_options(parser, "--encoder", "--device", "--manifest", "--where", "--seed", "--output")
    return parser


def judge(evaluate: Callable[..., Any], arguments: argparse.Namespace, *further: Any, **options: Any) -> Any:
    """The report of an evaluation: the chosen encoder on the chosen manifest."""
    from dino_speech import load_encoder

    encoder = load_encoder(arguments.encoder, device=choose_device(arguments.device))
    return evaluate(encoder, read_chosen_manifest(arguments), *further, **reading(), seed=arguments.seed, **options)


def reading() -> dict[str, Any]:
    """How audio is read: two threads, and a bar where somebody is watching."""
    return {"num_workers": NUM_READING_THREADS, "progress": sys.stderr.isatty()}


def answer(report: Any, text: str, arguments: argparse.Namespace, write: Callable[[str], Path]) -> Answer:
    """A report as data and text; with `--output` also written."""
    if isinstance(getattr(report, "warnings", None), list):
        text = "\n\n".join([text, *report.warnings])
    data = {**report.to_dict(), **left_out(report.skipped), "encoder": arguments.encoder}
    if arguments.output is None:
        return Answer(data, text)
    path = write(arguments.output)
    return Answer({**data, "report": str(path)}, f"{text}\n\nReport: {path}")


def range_of(interval: Any) -> str:
    """An interval as text."""
    return f"{interval.low:.3g} to {interval.high:.3g}"
