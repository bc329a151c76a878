"""`dino-speech evaluate robustness`, `fairness` and `efficiency`: stress tests of an encoder or a system."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dino_speech.cli.answer import Answer, name_skipped
from dino_speech.cli.parsing import (
    Subparsers,
    add_command,
    add_encoder,
    add_manifest,
    choose_device,
    positive_int,
)

NUM_READING_THREADS = 2
SYSTEM_HINT = (
    "An encoder gets linear probes in speaker-disjoint folds; a fine-tuned system's folder is judged as it is."
)


def add_kinds(kinds: Subparsers) -> None:
    """Declare the kinds of evaluation of this file."""
    parser = add_command(
        kinds,
        "robustness",
        _robustness,
        summary="what noise, filters, cuts, rooms and the like do to predictions",
        details=f"{SYSTEM_HINT}\nOf trials the test side is changed. Every condition takes a pass over the audio.",
        example="dino-speech evaluate robustness --encoder results/dino/encoder --manifest test.csv --label emotion",
    )
    _add_task(parser)
    parser.add_argument("--noise", metavar="DIR", help="folder or manifest of recorded noise, music, speech to add")
    parser.add_argument("--rir", metavar="DIR", help="folder or manifest of room responses (default: synthetic rooms)")
    parser.add_argument(
        "--conditions", metavar="A,B", help="names or kinds, such as gain,white_noise_10db (default: all)"
    )
    parser = add_command(
        kinds,
        "fairness",
        _fairness,
        summary="differences between groups of people, and between single speakers",
        details=f"{SYSTEM_HINT}\nGroups are compared on matched labels. Intervals: 95 %, by bootstrap over speakers.",
        example="dino-speech evaluate fairness --encoder results/dino/encoder --manifest test.csv --label emotion",
    )
    _add_task(parser)
    parser.add_argument("--group", metavar="NAME", default="sex", help="column of groups (default: %(default)s)")
    parser = add_command(
        kinds,
        "efficiency",
        _efficiency,
        summary="parameters, multiply-adds, time and memory of one encoder or several",
        details="Multiply-adds: matrix products, convolutions, attention. Time is this machine's, as busy as it is.",
        example="dino-speech evaluate efficiency --encoder results/dino/encoder --encoder random:xvector",
    )
    add_encoder(parser, several=True)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a wave (default: %(default)s)")
    parser.add_argument("--batch-size", type=positive_int, default=1, help="waves at a time (default: %(default)s)")
    parser.add_argument("--rounds", type=positive_int, default=5, help="timed passes (default: %(default)s)")
    parser.add_argument("--threads", type=positive_int, help="of the CPU (default: as PyTorch chooses)")
    _add_output(parser)


def _add_task(parser: argparse.ArgumentParser) -> None:
    add_encoder(parser)
    add_manifest(parser)
    task = parser.add_mutually_exclusive_group()
    task.add_argument("--label", metavar="NAME", help="column of classes: UAR")
    task.add_argument("--labels", metavar="A,B,C", help="columns of numbers: CCC")
    task.add_argument("--trials", metavar="TXT", help="list of trials: EER")
    parser.add_argument("--folds", type=positive_int, metavar="N", help="default: 5, or the speakers where fewer")
    parser.add_argument("--seed", type=int, default=0, help="of folds, intervals and conditions (default: %(default)s)")
    _add_output(parser)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="DIR", help="also write report.md and report.json there")


def _robustness(arguments: argparse.Namespace) -> Answer:
    from dino_speech import evaluate_robustness

    report = evaluate_robustness(
        **_task(arguments),
        conditions=_names(arguments.conditions),
        noise=arguments.noise,
        rir=arguments.rir,
        num_workers=NUM_READING_THREADS,
    )
    return _answer(report, {"Robustness": report.rows()}, arguments)


def _fairness(arguments: argparse.Namespace) -> Answer:
    from dino_speech import evaluate_fairness

    report = evaluate_fairness(**_task(arguments), group=arguments.group, num_workers=NUM_READING_THREADS)
    return _answer(report, {"Groups": report.rows(), "Speakers": report.speaker_rows()}, arguments)


def _efficiency(arguments: argparse.Namespace) -> Answer:
    from dino_speech import measure_efficiency

    found = {}
    for name in arguments.encoder:
        found[name] = measure_efficiency(
            _load(name, arguments.device),
            seconds=arguments.seconds,
            batch_size=arguments.batch_size,
            num_rounds=arguments.rounds,
            num_threads=arguments.threads,
        )
    first = next(iter(found.values()))
    data = {"encoders": {name: report.to_dict() for name, report in found.items()}}
    rows = [{"encoder": name} | report.row() for name, report in found.items()]
    note = f"{first.batch_size} x {first.seconds:g} s on {first.device}, {first.num_threads} threads"
    return _written(data, {f"Efficiency ({note})": rows}, arguments, first.provenance)


def _task(arguments: argparse.Namespace) -> dict[str, Any]:
    """What robustness and fairness share."""
    from dino_speech import read_manifest, read_trials

    return {
        "model": _load(arguments.encoder, arguments.device),
        "manifest": read_manifest(arguments.manifest, where=dict(arguments.where)),
        "label": arguments.label,
        "labels": _names(arguments.labels),
        "trials": read_trials(arguments.trials) if arguments.trials else None,
        "num_folds": arguments.folds,
        "seed": arguments.seed,
        "progress": sys.stderr.isatty(),
    }


def _load(folder: str, device: str | None) -> Any:
    """An encoder, or the system of a folder that holds one."""
    from dino_speech import load_encoder
    from dino_speech.transfer.audio_text.system import load_system

    load = load_system if Path(folder, "system.json").is_file() else load_encoder
    return load(folder, device=choose_device(device))


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _answer(report: Any, tables: Mapping[str, Sequence[Any]], arguments: argparse.Namespace) -> Answer:
    name_skipped(report.skipped)
    return _written({**report.to_dict(), "encoder": arguments.encoder}, tables, arguments, report.provenance)


def _written(
    data: dict[str, Any], tables: Mapping[str, Sequence[Any]], arguments: argparse.Namespace, provenance: Any
) -> Answer:
    from dino_speech.evaluation.reports.report_file import markdown_table, write_report

    if arguments.output:
        write_report(arguments.output, f"{arguments.kind.capitalize()}", tables, {}, provenance)
    return Answer(data, "\n\n".join(f"{title}\n\n{markdown_table(rows)}" for title, rows in tables.items()))
