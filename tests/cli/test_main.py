"""The command line's contract: stdout, stderr, exit codes, JSON as the last line, help with an example."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import processes
import pytest

from dino_speech import __version__
from dino_speech.cli.answer import as_json, table
from dino_speech.cli.main import build_parser, main

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "YourSpeech" / "dino" / "hparams" / "cpu.yaml"
COMMANDS = [
    *(["quickstart"], ["prepare"], ["check"], ["shard"], ["pretrain"], ["finetune"], ["embed"], ["verify"]),
    *(["doctor"], ["split-speech"], ["train-supervised"], ["predict"], ["probe"], ["evaluate", "regression"]),
    *(["evaluate", "verification"], ["evaluate", "classification"], ["evaluate", "clinical"]),
    *(["evaluate", "robustness"], ["evaluate", "fairness"], ["evaluate", "efficiency"]),
]


def _process(*words: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "dino_speech", *words]
    return subprocess.Popen(command, text=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_shows_an_example_and_json(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f"example:\n  dino-speech {' '.join(command)}" in text
    assert "--json" in text


def test_what_exists_is_advertised(capsys: pytest.CaptureFixture[str]) -> None:
    text = build_parser().format_help()
    for command in COMMANDS:
        assert command[0] in text


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["train"],
        ["check"],
        ["check", "folder", "--jsn"],
        ["check", "folder", "--num-threads", "0"],
        ["embed", "a.wav", "--output", "a.npz"],
        ["pretrain", "recipe.yaml", "--seed"],
        ["pretrain", "recipe.yaml", "--seed", "--restart"],
        ["pretrain", "recipe.yaml", "seed=3"],
        ["evaluate", "regression", "--encoder", "e", "--manifest", "m", "--labels", "a,,b"],
        ["evaluate"],
        ["evaluate", "verification", "--encoder", "e", "--manifest", "m", "--trials", "t", "--where", "split"],
        ["verify", "a.wav", "b.wav", "--encoder", "fbank_stats", "--threshold", "high"],
        ["prepare", "timit", "folder", "--output", "out"],
    ],
    ids=" ".join,
)
def test_misuse_exits_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("usage: dino-speech" in captured.err) == (words[0:1] != ["pretrain"] or "seed=3" in words)
    error = captured.err.splitlines()[-1]
    assert error.startswith("error: ")
    with pytest.raises(SystemExit) as stop:
        main([*words, "--json"])
    assert stop.value.code == 2
    assert json.loads(capsys.readouterr().out) == {"error": error.removeprefix("error: ")}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["split-speech", "m.csv", "--output", "o", "--positive", "ad"], "--positive: needs --label"),
        (["prepare", "emodb", "x", "--output", "o", "--speaker-from-parent"], "--speaker-from-parent: only for"),
        (["prepare", "emodb", "x", "--output", "o", "--keep-shared-speakers"], "--keep-shared-speakers: only for"),
        (["verify", "a.wav", "b.wav", "--encoder", "fbank_stats", "--device", "nonsense"], "--device nonsense: cannot"),
        (["finetune", str(RECIPE)], f"this is a recipe for `pretrain`: dino-speech pretrain {RECIPE}"),
        (["adapt", str(RECIPE)], "this is a recipe for `pretrain`"),
        (["pretrain", str(RECIPE), "--sed", "3"], "--sed on the command line: a recipe has no 'sed'; did you mean"),
        (["pretrain", str(RECIPE), "--trainer.nonsense=3"], "DINOPretrainer has no 'nonsense'"),
        (["pretrain", str(RECIPE), "--seed=["], "--seed line 1: not valid YAML"),
        (["pretrain", str(RECIPE), "--train-manifest=m.csv", "--seed=!!int x"], "'x' is no int"),
        (["pretrain", str(RECIPE), "--train-manifest", "m.csv", "--device", "nonsense"], "--device nonsense: cannot"),
    ],
)
def test_options_that_do_not_fit_exit_with_2(words: list[str], message: str, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.csv").write_text("ID,duration,wav\n")
    assert main([*words, "--json"]) == 2
    captured = capsys.readouterr()
    assert message in json.loads(captured.out)["error"]
    assert "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == [tmp_path / "m.csv"]


def test_failure_is_one_line_and_exit_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["check", str(tmp_path / "nowhere")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert (
        captured.err
        == f"error: {tmp_path}/nowhere: no such file or folder; give a manifest (CSV) or a folder of audio\n"
    )
    assert main(["check", str(tmp_path / "nowhere"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"].endswith("a folder of audio")


def test_a_fault_keeps_its_traceback_and_the_json_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "faulty.yaml").write_text("seed: !apply:operator.truediv [1, 0]\n")
    with pytest.raises(ZeroDivisionError):
        main(["pretrain", str(tmp_path / "faulty.yaml"), "--trust-recipe", "--json"])
    assert json.loads(capsys.readouterr().out) == {"error": "ZeroDivisionError: division by zero"}


@pytest.mark.slow
def test_new_process(tmp_path: Path) -> None:
    """The installed command is this module; help costs no import of torch."""
    assert _process("--version").communicate()[0].strip() == f"dino-speech {__version__}"
    code = "import sys; from dino_speech.cli.main import build_parser; build_parser(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    missing = _process("check", str(tmp_path / "nowhere"), "--json")
    out, err = missing.communicate()
    assert missing.returncode == 1
    assert "Traceback" not in err
    assert list(json.loads(out)) == ["error"]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_pretraining_says_how_to_go_on(
    tiny_recipe: Callable[[Path], list[str]], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    words = ["pretrain", *tiny_recipe(tmp_path / "out"), "--trainer.schedule.length=100000", "--json"]
    process = processes.begin(tmp_path / "log", main, words)
    history = tmp_path / "out" / "history.jsonl"
    processes.wait_until(lambda: history.exists() and history.read_text(), process)
    os.kill(process.pid, number)
    ends, said = processes.ends(process), (tmp_path / "log").read_text()
    assert ends == [code], said
    error = json.loads(said.splitlines()[-1])["error"]
    assert error.startswith(f"stopped by {number.name} after step")
    assert error.endswith("the state is saved; the same command goes on from there")
    assert "Traceback" not in said
    assert (tmp_path / "out" / "state" / "last.pt").exists()


def test_json_is_strict() -> None:
    data = {"a": float("nan"), "b": np.float32(1.5), "c": np.arange(2), "d": {"e": (1, None, True)}, "f": Path("x")}
    assert as_json(data) == '{"a": null, "b": 1.5, "c": [0, 1], "d": {"e": [1, null, true]}, "f": "x"}'


def test_table_aligns() -> None:
    assert table([("EER %", 4.256789, "x"), ("trials", 12, None)], header=("what", "value", "")) == (
        "what    value\nEER %   4.257  x\ntrials     12  -"
    )
    assert table([]) == ""
