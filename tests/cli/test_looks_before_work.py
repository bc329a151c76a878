"""Every command looks at its output before it works: the command table is walked, a new command's with it."""

import argparse
import json
from pathlib import Path

import pytest

from dino_speech.cli.main import build_parser, main
from dino_speech.cli.options import RECIPE_COMMANDS, OutputFolder
from dino_speech.recipe.load import KINDS

# What no command writes to, though its option has such a name or metavar.
READ = {"--encoder", "--system", "--noise", "--rir"}


def commands(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> dict[tuple[str, ...], list]:
    """Every command's words and its options."""
    nested = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not nested:
        return {words: parser._actions}
    children = [(name, child) for action in nested for name, child in action.choices.items()]
    return {key: value for name, child in children for key, value in commands(child, (*words, name)).items()}


COMMANDS = commands(build_parser())
OUTPUTS = [
    (words, action.option_strings[0])
    for words, actions in COMMANDS.items()
    for action in actions
    if action.option_strings and ("DIR" in str(action.metavar) or action.dest == "output")
    if action.option_strings[0] not in READ
    if action.dest != "data"
]


def needed(words: tuple[str, ...], without: str) -> list[str]:
    """Arguments that the command cannot do without, of things that do not exist."""
    found = []
    for action in COMMANDS[words]:
        if action.required and without not in action.option_strings:
            found += [*action.option_strings[:1], sorted(action.choices)[0] if action.choices else "not-there"]
    return found


def test_the_table_is_walked() -> None:
    told = {" ".join(words) for words, _ in OUTPUTS} | set(RECIPE_COMMANDS)
    assert {" ".join(words) for words in COMMANDS} - told == {"check", "verify", "doctor"}  # these write nothing
    assert len(OUTPUTS) > 15


@pytest.mark.parametrize(("words", "option"), OUTPUTS, ids=lambda value: value if isinstance(value, str) else None)
def test_an_output_is_looked_at_before_anything_is_read(
    words: tuple[str, ...], option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").touch()
    output = str(tmp_path / "a.txt" / "out.csv")  # the name of a file to some, of a folder to others
    assert main([*words, *needed(words, option), option, output, "--json"]) == 1
    error = json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
    assert error.startswith(f"{output}: cannot be written ({tmp_path / 'a.txt'}: Not a directory); give an output")


@pytest.mark.parametrize("command", RECIPE_COMMANDS)
def test_so_is_that_of_a_recipe(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").touch()
    key = next(kind.key for kind in KINDS if command in kind.commands)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"train_manifest: not-there.csv\noutput_folder: {tmp_path}/out\n{key}: {{}}\n")
    assert main([command, str(recipe), f"--output_folder={tmp_path}/a.txt", "--json"]) == 1
    error = json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
    assert error.startswith(f"{tmp_path}/a.txt: is a file, and a folder is to be written")


def test_a_file_is_not_written_over_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "not-there", "--system", "not-there", "--output", str(tmp_path)]) == 1
    assert "is a folder, and a file is to be written; give a file in it" in capsys.readouterr().err


def test_the_types_are_text() -> None:
    assert json.dumps(OutputFolder("a")) == '"a"'
