"""`dino-speech evaluate task`: an encoder judged by a task that its user added."""

import argparse
from functools import partial

from dino_speech.cli.answer import Answer, table
from dino_speech.cli.evaluating.judging import add_judging, answer, judge
from dino_speech.cli.options import Subparsers


def add_kind(kinds: Subparsers) -> None:
    """Declare the kind of evaluation of this file."""
    parser = add_judging(
        kinds,
        "task",
        _task,
        summary="a task of your own, registered by a package that you installed",
        details="Every utterance is embedded once; the task judges the embeddings. See the page Add your own.",
        example="test.csv --task retrieval --option label=speaker",
    )
    parser.add_argument("--task", metavar="NAME", required=True, help="its name")
    parser.add_argument("--option", metavar="KEY=VALUE", nargs="+", action="extend", default=[], help="for the task")


def _task(arguments: argparse.Namespace) -> Answer:
    from dino_speech import evaluate_task

    options = dict(text.split("=", 1) if "=" in text else (text, "") for text in arguments.option)
    report = judge(partial(evaluate_task, arguments.task), arguments, options=options)
    rows = [*report.figures.items(), ("utterances", report.num_utterances)]
    return answer(report, table([(name, value, "") for name, value in rows]), arguments, report.write)
