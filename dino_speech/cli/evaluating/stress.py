"""`dino-speech evaluate robustness`, `fairness` and `efficiency`: stress tests of an encoder or a system."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dino_speech.cli.answer import Answer
from dino_speech.cli.evaluating.judging import add_judging, answer, reading
from dino_speech.cli.options import (
    Subparsers,
    add_command,
    add_options,
    choose_device,
    chosen,
    positive_int,
    read_chosen_manifest,
)

SYSTEM_HINT = "An encoder gets linear probes in speaker-disjoint folds; a fine-tuned system's folder is judged as is."


def add_kinds(kinds: Subparsers) -> None:
    """Declare the kinds of evaluation of this file."""
    parser = add_judging(
        *(kinds, "robustness", _robustness, "what noise, filters, cuts, rooms and the like do to predictions"),
        details=f"{SYSTEM_HINT}\nOf trials the test side is changed. Every condition takes a pass over the audio.",
        example="test.csv --label emotion",
    )
    _add_task(parser)
    add_options(parser, "--noise", "--rir", "--conditions")
    parser = add_judging(
        *(kinds, "fairness", _fairness, "differences between groups of people, and between single speakers"),
        details=f"{SYSTEM_HINT}\nGroups are compared on matched labels. Intervals: 95 %, by bootstrap over speakers.",
        example="test.csv --label emotion",
    )
    _add_task(parser)
    add_options(parser, "--group", default="sex", help="column of groups (%(default)s)")
    parser = add_command(
        *(kinds, "efficiency", _efficiency, "parameters, multiply-adds, time and memory of one encoder or several"),
        details="Multiply-adds: matrix products, convolutions, attention. Time is this machine's, as busy as it is.",
        example="dino-speech evaluate efficiency --encoder results/dino/encoder random:xvector",
    )
    add_options(parser, "--encoder", nargs="+", action="extend")
    add_options(parser, "--device", "--seconds", "--output")
    parser.add_argument("--batch-size", type=positive_int, default=1, metavar="N", help="waves at a time (%(default)s)")
    parser.add_argument("--rounds", type=positive_int, default=5, metavar="N", help="timed passes (%(default)s)")
    add_options(parser, "--num-threads", default=None, help="of the CPU (default: as PyTorch chooses)")


def _add_task(parser: argparse.ArgumentParser) -> None:
    task = parser.add_mutually_exclusive_group()
    add_options(task, "--label", "--labels", "--trials")
    add_options(parser, "--folds")


def _robustness(arguments: argparse.Namespace) -> Answer:
    from dino_speech import evaluate_robustness

    report = evaluate_robustness(**_task(arguments), **chosen(arguments, "conditions", "noise", "rir"))
    return _answer(report, {"Robustness": report.rows()}, arguments)


def _fairness(arguments: argparse.Namespace) -> Answer:
    from dino_speech import evaluate_fairness

    report = evaluate_fairness(**_task(arguments), group=arguments.group)
    return _answer(report, {"Groups": report.rows(), "Speakers": report.speaker_rows()}, arguments)


def _efficiency(arguments: argparse.Namespace) -> Answer:
    from dino_speech import measure_efficiency

    options = chosen(arguments, "seconds", "batch_size", "num_threads")
    found = {
        name: measure_efficiency(_load(name, arguments.device), num_rounds=arguments.rounds, **options)
        for name in arguments.encoder
    }
    first = next(iter(found.values()))
    rows = [{"encoder": name} | report.row() for name, report in found.items()]
    note = f"{first.batch_size} x {first.seconds:g} s on {first.device}, {first.num_threads} threads"
    tables = {f"Efficiency ({note})": rows}
    data: dict[str, Any] = {"encoders": {name: report.to_dict() for name, report in found.items()}}
    if arguments.output:
        data["report"] = str(_write(arguments.output, "Efficiency", tables, first.provenance))
    return Answer(data, _text(tables))


def _task(arguments: argparse.Namespace) -> dict[str, Any]:
    """What robustness and fairness share."""
    from dino_speech import read_trials

    return {
        "model": _load(arguments.encoder, arguments.device),
        "manifest": read_chosen_manifest(arguments),
        "trials": read_trials(arguments.trials) if arguments.trials else None,
        "num_folds": arguments.folds,
        **chosen(arguments, "label", "labels", "seed"),
        **reading(),
    }


def _load(folder: str, device: str | None) -> Any:
    """An encoder, or the system of a folder that holds one."""
    from dino_speech import load_encoder
    from dino_speech.transfer.audio_text.system import load_system

    load = load_system if Path(folder, "system.json").is_file() else load_encoder
    return load(folder, device=choose_device(device))


def _answer(report: Any, tables: Mapping[str, Sequence[Any]], arguments: argparse.Namespace) -> Answer:
    title = arguments.kind.capitalize()
    return answer(report, _text(tables), arguments, lambda folder: _write(folder, title, tables, report.provenance))


def _write(folder: str, title: str, tables: Mapping[str, Sequence[Any]], provenance: Any) -> Path:
    from dino_speech.evaluation.reports.report_file import write_report

    return write_report(folder, title, tables, {}, provenance)


def _text(tables: Mapping[str, Sequence[Any]]) -> str:
    from dino_speech.evaluation.reports.report_file import markdown_table

    return "\n\n".join(f"{title}\n\n{markdown_table(rows)}" for title, rows in tables.items())
