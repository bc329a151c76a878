"""`prepare.py` of each corpus's recipe does what the command does."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dino_speech.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = {
    "ADReSS/diagnosis": ["adresso"],
    "CREMA-D/emotion": [],
    "EmoDB/emotion": [],
    "IEMOCAP/emotion": [],
    "MSP-Podcast/emotion": [],
    "RAVDESS/emotion": [],
}


def _run(recipe: str, *words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(ROOT / "recipes" / recipe / "prepare.py")
    monkeypatch.setattr(sys, "argv", [path, *SCRIPTS[recipe], *words])
    runpy.run_path(path, run_name="__main__")


def test_summary_on_stdout(
    tmp_path: Path,
    plant: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = plant("EmoDB", ["wav/03a01Wa.wav", "hello.wav"])
    _run("EmoDB/emotion", str(source), str(tmp_path / "out"), monkeypatch=monkeypatch)
    summary = json.loads(capsys.readouterr().out)
    assert (summary["num_utterances"], summary["extra"], summary["missing"]) == (1, 1, 9)
    assert (tmp_path / "out" / "manifest.csv").exists()


@pytest.mark.parametrize("recipe", SCRIPTS)
def test_no_corpus_there(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=f"{tmp_path / 'empty'}: "):
        _run(recipe, str(tmp_path / "empty"), str(tmp_path / "out"), monkeypatch=monkeypatch)
