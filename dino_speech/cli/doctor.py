"""`dino-speech doctor`: what is installed, whether it works together, and the cures."""

import argparse

from dino_speech.cli.answer import Answer, table
from dino_speech.cli.options import Subparsers, add_command


def add_commands(subparsers: Subparsers) -> None:
    """Declare the commands of this file."""
    add_command(
        subparsers,
        "doctor",
        _doctor,
        summary="versions, devices, known mismatches, and their cures",
        details="Exit code 1 if something does not work.",
        example="dino-speech doctor",
    )


def _doctor(arguments: argparse.Namespace) -> Answer:
    from dino_speech.compatibility import report

    rows = report()
    sick = [row for row in rows if not row["ok"]]
    lines = [table([("ok" if row["ok"] else "NOT OK", row["name"], row["found"]) for row in rows])]
    lines += [f"cure for {row['name']}: {row['cure']}" for row in sick if row["cure"]]
    return Answer({"ok": not sick, "checks": rows}, "\n".join(lines), 1 if sick else 0)
