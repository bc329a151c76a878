"""What a person types: `--key value` beside `--key=value`, `-` and `_` alike, former names with a warning."""

import logging
from pathlib import Path

import pytest

from dino_speech.cli.main import build_parser
from dino_speech.cli.options import FORMER, OF_THE_COMMAND, RECIPE_COMMANDS, split_words
from dino_speech.errors import UsageError
from dino_speech.recipe import load_recipe

EVALUATE = ["evaluate", "verification", "--encoder", "e", "--manifest", "m", "--trials", "t"]
COMPARE = ["compare", "--encoder", "e", "--manifest", "m", "--output", "o"]
EFFICIENCY = ["evaluate", "efficiency", "--encoder", "e"]
EMBED = ["embed", "a.wav", "--encoder", "e", "--output", "o"]


@pytest.mark.parametrize(
    ("words", "ours", "keys"),
    [
        (["r.yaml", "--seed", "3"], ["r.yaml"], ["--seed=3"]),
        (["--seed", "3", "r.yaml"], ["r.yaml"], ["--seed=3"]),
        (["r.yaml", "--seed=3", "--trainer.lr", "1e-3"], ["r.yaml"], ["--seed=3", "--trainer.lr=1e-3"]),
        (["r.yaml", "--lr", "-1", "--json"], ["r.yaml", "--json"], ["--lr=-1"]),
        (["r.yaml", "--monitor="], ["r.yaml"], ["--monitor="]),
        (["r.yaml", "--device", "cpu", "--seed", "3"], ["r.yaml", "--device", "cpu"], ["--seed=3"]),
        (["r.yaml", "--device=cpu", "--trust_recipe"], ["r.yaml", "--device=cpu", "--trust-recipe"], []),
        (["r.yaml", "--where", "{split: [a, b]}"], ["r.yaml"], ["--where={split: [a, b]}"]),
        (["r.yaml", "-h"], ["r.yaml", "-h"], []),
    ],
)
@pytest.mark.parametrize("command", RECIPE_COMMANDS)
def test_keys_of_a_recipe(command: str, words: list[str], ours: list[str], keys: list[str]) -> None:
    assert split_words([command, *words]) == ([command, *ours], keys)


@pytest.mark.parametrize("words", [["--seed"], ["--seed", "--json"], ["--seed", "--trainer.lr=1"]])
def test_a_key_needs_a_value(words: list[str]) -> None:
    with pytest.raises(UsageError, match="--seed: expected a value of the recipe, --seed VALUE or --seed=VALUE"):
        split_words(["pretrain", "r.yaml", *words])


def test_every_option_of_a_recipe_command_is_known() -> None:
    """Whatever is added to the parser must not be taken for a key of the recipe."""
    commands = next(iter(build_parser()._subparsers._group_actions)).choices  # type: ignore[union-attr]
    for command in RECIPE_COMMANDS:
        declared = {name for action in commands[command]._actions for name in action.option_strings}
        assert {name for name in declared if name.startswith("--")} == set(OF_THE_COMMAND)


def test_dashes_and_underscores_in_keys(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text("train_manifest: a.csv\nstudy: {by-name: {x_y: 1}}\n")
    options = ["--train-manifest=b.csv", "--output-folder=my-out", "--study.by-name.x-y=2", "--study.new-one=3"]
    values = load_recipe(path, options)
    assert values == {
        "train_manifest": "b.csv",
        "output_folder": "my-out",
        "study": {"by-name": {"x_y": 2}, "new_one": 3},
    }


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ([*EVALUATE, "--group-by", "sex"], "group", "sex"),
        ([*EVALUATE, "--group_by=sex"], "group", "sex"),
        ([*COMPARE, "--perturbations", "quick"], "conditions", ["quick"]),
        ([*COMPARE, "--threads", "3"], "num_threads", 3),
        ([*COMPARE, "--num-folds=3"], "folds", 3),
        ([*EFFICIENCY, "--threads=3"], "num_threads", 3),
        ([*EMBED, "--num-workers", "3"], "num_threads", 3),
    ],
)
def test_former_names_still_work_with_a_warning(
    words: list[str], name: str, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        ours, _ = split_words(words)
    assert getattr(build_parser().parse_args(ours), name) == value
    (warning,) = caplog.messages
    assert f"now called --{name.replace('_', '-')}" in warning


def test_former_names_are_in_no_help() -> None:
    def options(parser) -> set[str]:
        found = {name for action in parser._actions for name in action.option_strings}
        for action in parser._actions:
            if isinstance(action.choices, dict):
                found |= set().union(*(options(child) for child in action.choices.values()))
        return found

    assert not options(build_parser()) & FORMER.keys()
    assert set(FORMER.values()) <= options(build_parser())


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ([*EVALUATE, "--train_manifest", "a_b.csv", "--score_norm=as"], "train_manifest", ["a_b.csv"]),
        ([*EVALUATE, "--where", "my_column=a_b"], "where", [("my_column", ["a_b"])]),
        ([*COMPARE, "--encoder", "f", "g"], "encoder", ["e", "f", "g"]),
        ([*COMPARE, "--labels", "a,b", "c"], "labels", ["a", "b", "c"]),
        ([*COMPARE, "--labels", "a", "--labels=b, c"], "labels", ["a", "b", "c"]),
        ([*COMPARE, "--conditions", "gain,band"], "conditions", ["gain", "band"]),
        (["evaluate", "efficiency", "--encoder", "a", "b"], "encoder", ["a", "b"]),
        (["evaluate", "efficiency", "--encoder", "a", "--encoder", "b"], "encoder", ["a", "b"]),
    ],
)
def test_one_way_to_say_several(words: list[str], name: str, value: object) -> None:
    assert getattr(build_parser().parse_args(split_words(words)[0]), name) == value
