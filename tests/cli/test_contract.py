"""The contract of the command line (architecture.md) lists every command, every option and every key of the JSON."""

import argparse
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from dino_speech.cli.main import build_parser, main
from dino_speech.cli.options import RECIPE_COMMANDS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "pages" / "architecture.md"
EVERYWHERE = {"-h", "--help", "--json", "--allow-urls"}  # said once for all commands


def section() -> str:
    """The contract's part of the page."""
    return PAGE.read_text("utf-8").partition("## The command line\n")[2].partition("\n## ")[0]


def commands(parser: argparse.ArgumentParser, words: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command that does something, by its words."""
    nested = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not nested:
        yield words, parser
    for action in nested:
        for name, child in action.choices.items():
            yield from commands(child, f"{words} {name}".strip())


COMMANDS = dict(commands(build_parser()))


def usage(command: str) -> str:
    """What the page says of a command's words."""
    lines = re.findall(rf"^dino-speech {command}(?: .*)?(?:\n +.*)*", section(), re.MULTILINE)
    words = lines[0] if lines else ""
    for name, meaning in re.findall(r"^([A-Z]+) +(\S.*)$", section(), re.MULTILINE):
        words = re.sub(rf"\b{name}\b", meaning, words)
    return words


def keys(command: str) -> set[str]:
    """The JSON keys of a command that the page promises, those of nested objects among them."""
    for line in section().splitlines():
        cells = line.split("|")
        if len(cells) > 2 and f"`{command}`" in cells[1]:
            found = set(re.findall(r"`(\w+)`", "|".join(cells[2:])))
            return found.union(*(keys(name) for name in found if name.isupper() and name != "ID"))
    return set()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_is_listed(command: str) -> None:
    options = {name for action in COMMANDS[command]._actions for name in action.option_strings} - EVERYWHERE
    if command in RECIPE_COMMANDS:
        assert "RECIPE.yaml [--key value ...]" in usage(command)
    listed = set(re.findall(r"(?<![\w-])(--[a-z][\w-]*)", usage(command))) - {"--key"}
    assert listed == options
    required = {action.option_strings[0] for action in COMMANDS[command]._actions if _is_required(action)}
    assert not {name for name in required if f"[{name}" in usage(command)}


def _is_required(action: argparse.Action) -> bool:
    return bool(action.required and action.option_strings)


def test_the_page_lists_no_command_that_is_not_there() -> None:
    listed = re.findall(r"^dino-speech ((?:evaluate )?[a-z-]+)", section(), re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)
    assert EVERYWHERE - {"-h"} <= set(re.findall(r"`(--[a-z-]+)`", section()))


JUDGED = ["--encoder", "fbank_stats", "--manifest", "{numbers}", "--folds", "2", "--device", "cpu"]
TRIALS = ["--encoder", "fbank_stats", "--manifest", "{voices}/manifest.csv", "--trials", "{trials}"]
QUICK = {
    "doctor": [],
    "prepare": ["folder", "{voices}", "--output", "{out}"],
    "check": ["{voices}"],
    "shard": ["{voices}/manifest.csv", "--output", "{out}"],
    "embed": ["{voices}", "--encoder", "fbank_stats", "--output", "{out}.npz"],
    "join": ["--encoder", "fbank_stats", "random:ecapa_tdnn", "--output", "{out}"],
    "average": ["--encoder", "random:ecapa_tdnn", "random:ecapa_tdnn", "--output", "{out}"],
    "mates": ["--encoder", "fbank_stats", "--manifest", "{voices}/manifest.csv", "--output", "{out}.csv"],
    "verify": ["{voices}/spk0/0.wav", "{voices}/spk0/1.wav", "--encoder", "fbank_stats"],
    "split-speech": ["{numbers}", "--output", "{out}", "--label", "group", "--positive", "ad"],
    "evaluate verification": [*TRIALS, "--output", "{out}"],
    "evaluate classification": [*JUDGED, "--label", "emotion", "--output", "{out}"],
    "evaluate regression": [*JUDGED, "--labels", "arousal", "--output", "{out}"],
    "evaluate clinical": [*JUDGED, "--label", "group", "--positive", "ad", "--output", "{out}"],
    "evaluate robustness": [*JUDGED, "--label", "emotion", "--conditions", "gain", "--output", "{out}"],
    "evaluate fairness": [*JUDGED, "--label", "emotion", "--group", "group", "--output", "{out}"],
    "evaluate efficiency": ["--encoder", "fbank_stats", "--seconds", "1", "--rounds", "1", "--output", "{out}"],
    "probe": [*JUDGED, "--label", "emotion", "--labels", "arousal", "--output", "{out}"],
    "compare": [*JUDGED, "--label", "emotion", "--conditions", "none", "--group", "group", "--output", "{out}"],
}


@pytest.fixture
def words(voices_folder: Path, tmp_path: Path) -> Callable[[str], list[str]]:
    header, *rows = (voices_folder / "manifest.csv").read_text().splitlines()
    numbers = voices_folder / "numbers.csv"
    more = [f"{row},{n % 5},{'ad' if 'spk0' in row or 'spk1' in row else 'control'}" for n, row in enumerate(rows)]
    numbers.write_text("\n".join([f"{header},arousal,group", *more]) + "\n")
    names = [row.split(",")[0] for row in rows]
    trials = tmp_path / "trials.txt"
    trials.write_text("".join(f"{int(a[:4] == b[:4])} {a} {b}\n" for a in names[:8] for b in names[:8] if a < b))
    place = {"voices": voices_folder, "numbers": numbers, "trials": trials, "out": tmp_path / "out"}
    return lambda command: [*command.split(), *(word.format(**place) for word in QUICK[command])]


@pytest.mark.slow
@pytest.mark.parametrize("command", QUICK)
def test_every_key_is_listed(command: str, words: Callable[[str], list[str]], capsys: pytest.CaptureFixture) -> None:
    torch.manual_seed(0)
    code = main([*words(command), "--json"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == 0 or command == "doctor", found
    assert set(found) <= keys(command)
    if "skipped" in found:
        assert found["num_skipped"] == len(found["skipped"])


@pytest.mark.slow
def test_every_key_of_pretraining_is_listed(tiny_recipe, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["pretrain", *tiny_recipe(tmp_path / "out"), "--trainer.schedule.length", "2", "--device", "cpu", "--json"]
    assert main([*words, "--trainer.teacher.momentum", "auto"]) == 0
    shown = capsys.readouterr()
    assert set(json.loads(shown.out.splitlines()[-1])) <= keys("pretrain")
    assert "teacher.momentum: auto -> 0.9 (1 - 14 / 2 steps" in shown.err
    assert json.loads((tmp_path / "out" / "hyperparameters.json").read_text())["teacher"]["momentum"] == 0.9


def test_every_command_has_a_row() -> None:
    assert [command for command in COMMANDS if not keys(command)] == []
