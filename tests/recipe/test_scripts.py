"""Every folder of recipes has the same parts, and what a SpeechBrain user types works in each of them."""

import json
import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import processes
import pytest

from dino_speech.cli.recipe_script import train
from dino_speech.data.corpora.catalogue import CORPORA
from dino_speech.recipe import load_recipe
from dino_speech.recipe.load import KINDS, kind_of
from dino_speech.recipe.nodes import read_tree

ROOT = Path(__file__).resolve().parents[2] / "recipes"
FOLDERS = sorted(path.parent for path in ROOT.glob("*/*/hparams"))
WITHOUT_PREPARATION = {"MOSI"}  # given out in forms that could not be seen: its page says what the manifest must hold


def name(folder: Path) -> str:
    return str(folder.relative_to(ROOT))


@pytest.mark.parametrize("folder", FOLDERS, ids=name)
def test_same_parts(folder: Path) -> None:
    assert {"README.md", "train.py", "hparams"} <= {path.name for path in folder.iterdir()}
    assert (folder / "prepare.py").exists() == (folder.parent.name not in WITHOUT_PREPARATION)
    assert sorted(path.suffix for path in (folder / "hparams").iterdir()) == [".yaml"] * len(
        list((folder / "hparams").iterdir())
    )
    scripts = {
        (one / "train.py").read_text() for one in FOLDERS if (one.name == "supervised") == (folder.name == "supervised")
    }
    assert len(scripts) == 1
    assert len((folder / "train.py").read_text().splitlines()) <= 8


def test_there_are_folders() -> None:
    assert len(FOLDERS) > 20
    assert len(list(CORPORA)) > 8


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """`script(folder, *words)` runs its `train.py` there: exit code, stdout, stderr."""

    def run(folder: Path, *words: str, file: str = "train.py") -> tuple[int, str, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", [file, *words])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(file, run_name="__main__")
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return run


@pytest.mark.parametrize("folder", FOLDERS, ids=name)
def test_without_words_and_with_help(folder: Path, script) -> None:
    code, out, err = script(folder)
    assert (code, out) == (2, "")
    assert err.startswith("usage: python train.py RECIPE.yaml [--key value ...]")
    code, out, _ = script(folder, "--help")
    assert code == 0
    recipes = [path.relative_to(folder).as_posix() for path in sorted((folder / "hparams").glob("*.yaml"))]
    commands = dict(line.split("  dino-speech ") for line in out.splitlines() if "  dino-speech " in line)
    assert [recipe.strip() for recipe in commands] == recipes
    known = {command for kind in KINDS for command in kind.commands}
    assert {command.strip() for command in commands.values()} <= known
    code, out, _ = script(folder, recipes[0], "--help")
    assert (code, out.startswith("usage: dino-speech ")) == (0, True)


@pytest.mark.parametrize("folder", FOLDERS, ids=name)
def test_each_recipe_goes_to_its_command(folder: Path, script) -> None:
    for recipe in sorted((folder / "hparams").glob("*.yaml")):
        words = (f"hparams/{recipe.name}", "--nonsense-key", "3", "--device", "cpu", "--json")
        code, out, _ = script(folder, *words)
        assert code == 2
        assert json.loads(out)["error"].startswith("--nonsense-key on the command line: a recipe has no 'nonsense_key'")


@pytest.mark.parametrize("folder", [one for one in FOLDERS if (one / "prepare.py").exists()], ids=name)
def test_prepare_asks_for_a_source(folder: Path, script) -> None:
    code, out, err = script(folder, file="prepare.py")
    assert (code, out) == (2, "")
    assert err.startswith("usage: dino-speech prepare")


def test_the_kind_of_a_recipe_says_its_command() -> None:
    found = {name(path.parents[1]): kind_of(read_tree(path)).commands[0] for path in sorted(ROOT.rglob("*.yaml"))}
    assert found["YourSpeech/dino"] == "pretrain"
    assert found["VoxCeleb/pseudo_labels"] == "pseudo-label"
    assert found["YourSpeech/distill"] == "distill"
    assert {found[one] for one in found if one.endswith("/emotion")} == {"finetune"}


def test_a_recipe_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(str(tmp_path / "train.py"), ["hparams/absent.yaml"]) == 1
    assert "no such recipe" in capsys.readouterr().err


def run_script(path: Path, words: list[str]) -> None:
    """As `python train.py` in its folder."""
    os.chdir(path.parent)
    sys.argv = [path.name, *words]
    runpy.run_path(path.name, run_name="__main__")


@pytest.mark.slow
def test_preparing_does_what_the_command_does(voices_folder: Path, tmp_path: Path) -> None:
    words = [str(voices_folder), "--output", str(tmp_path / "data"), "--speaker-from-parent"]
    process = processes.begin(tmp_path / "log", run_script, ROOT / "YourSpeech" / "dino" / "prepare.py", words)
    assert processes.ends(process) == [0], (tmp_path / "log").read_text()
    assert "num_speakers    4" in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_what_is_typed_in_a_folder_trains(voices_folder: Path, tmp_path: Path) -> None:
    """In the folder, with `--key value` and `--device cpu`; `--train-manifest` is `train_manifest`."""
    options = {"train-manifest": voices_folder / "manifest.csv", "output_folder": tmp_path / "out", "monitor": "null"}
    options |= {"augment": "null", "crops.long_s": 0.6, "crops.short_s": 0.3, "encoder.channels": 16}
    options |= {"encoder.attention-channels": 8, "encoder.se_channels": 8, "encoder.embedding_dim": 8}
    options |= {"trainer.head.num-prototypes": 16, "trainer.head.hidden_dim": 8, "trainer.schedule.batch-size": 4}
    options |= {
        "trainer.schedule.warmup": 1,
        "trainer.schedule.length": 2,
        "trainer.run.num_workers": 0,
        "trainer.run.precision": "fp32",
    }
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    words = ["hparams/cpu.yaml", *words, "--device", "cpu", "--json"]
    process = processes.begin(tmp_path / "log", run_script, ROOT / "YourSpeech" / "dino" / "train.py", words)
    ends, said = processes.ends(process), (tmp_path / "log").read_text()
    assert ends == [0], said
    found = json.loads(said.splitlines()[-1])
    assert (found["num_steps"], found["num_utterances"], found["num_skipped"], found["skipped"]) == (2, 16, 0, [])
    assert load_recipe(tmp_path / "out" / "recipe.yaml")["trainer"].head.num_prototypes == 16
