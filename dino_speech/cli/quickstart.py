"""`dino-speech quickstart`, the whole story in a few minutes, and `doctor`: what is installed, and the cures."""

import argparse

from dino_speech.cli.answer import Answer, left_out, table
from dino_speech.cli.options import Subparsers, add_command, add_options, choose_device, chosen


def add_commands(subparsers: Subparsers) -> None:
    """Declare the commands of this file."""
    parser = add_command(
        *(subparsers, "quickstart", _quickstart, "pretrain and judge an encoder in a few minutes"),
        details="On built-in synthetic voices, or on your own folder or manifest with --data. Writes report.md, plots.",
        example="dino-speech quickstart --data recordings/ --speaker-from-parent --output results/quickstart",
    )
    parser.add_argument("--data", metavar="DIR_OR_MANIFEST", help="your own speech (default: synthetic voices)")
    add_options(parser, "--output", default="results/quickstart", help="%(default)s")
    add_options(parser, "--seed", default=1986, help="of voices, split, weights and training (%(default)s)")
    add_options(parser, "--device", "--speaker-from-parent")
    add_command(
        *(subparsers, "doctor", _doctor, "versions, devices, known mismatches, and their cures"),
        details="Exit code 1 if something does not work.",
        example="dino-speech doctor",
    )


def _quickstart(arguments: argparse.Namespace) -> Answer:
    from dino_speech.quickstart.run import quickstart

    device = None if arguments.device is None else choose_device(arguments.device)
    report = quickstart(**chosen(arguments, "data", "output", "seed", "speaker_from_parent"), device=device)
    return Answer({**report.to_dict(), **left_out(report.data.skipped, tell=False)}, report.to_text())


def _doctor(arguments: argparse.Namespace) -> Answer:
    from dino_speech.compatibility import report

    rows = report()
    sick = [row for row in rows if not row["ok"]]
    lines = [table([("ok" if row["ok"] else "NOT OK", row["name"], row["found"]) for row in rows])]
    lines += [f"cure for {row['name']}: {row['cure']}" for row in sick if row["cure"]]
    return Answer({"ok": not sick, "checks": rows}, "\n".join(lines), 1 if sick else 0)
