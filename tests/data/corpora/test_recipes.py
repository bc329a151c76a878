"""`prepare.py` of each corpus's recipe does what the command does; manifests of several corpora join."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dino_speech.data.corpora.preparing import prepare
from dino_speech.data.manifest import read_manifest

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = {
    "ADReSS/diagnosis": ["adresso"],
    "CREMA-D/emotion": [],
    "EmoDB/emotion": [],
    "IEMOCAP/emotion": [],
    "MSP-Podcast/emotion": [],
    "RAVDESS/emotion": [],
    "URDU/emotion": [],
    "nEMO/emotion": [],
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict]:
    """`run(recipe, source, output)` gives the script's answer, with its exit code."""

    def script(recipe: str, source: Path, output: Path) -> dict:
        path = str(ROOT / "recipes" / recipe / "prepare.py")
        words = [*SCRIPTS[recipe], str(source), "--output", str(output), "--json"]
        monkeypatch.setattr(sys, "argv", [path, *words])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(path, run_name="__main__")
        return {"exit_code": stop.value.code, **json.loads(capsys.readouterr().out)}

    return script


def test_summary(tmp_path: Path, plant: Callable[..., Path], run) -> None:
    source = plant("EmoDB", ["wav/03a01Wa.wav", "hello.wav"])
    summary = run("EmoDB/emotion", source, tmp_path / "out")
    assert (summary["exit_code"], summary["num_utterances"], len(summary["extra"])) == (0, 1, 1)
    assert Path(summary["manifest"]).exists()


@pytest.mark.parametrize("recipe", SCRIPTS)
def test_no_corpus_there(recipe: str, tmp_path: Path, run) -> None:
    (tmp_path / "empty").mkdir()
    answer = run(recipe, tmp_path / "empty", tmp_path / "out")
    assert answer["exit_code"] == 1
    assert answer["error"].startswith(f"{tmp_path / 'empty'}: ")


def test_corpora_join(tmp_path: Path, plant: Callable[..., Path]) -> None:
    prepare("emodb", plant("EmoDB", ["wav/03a01Wa.wav", "wav/08a01Lb.wav"]), tmp_path / "emodb")
    prepare("crema-d", plant("CREMA-D", ["AudioWAV/1001_IEO_ANG_HI.wav"]), tmp_path / "cremad")
    joined = read_manifest([tmp_path / name / "manifest.csv" for name in ("emodb", "cremad")], must_exist=True)
    assert [(u.labels["corpus"], u.labels["speaker"]) for u in joined.select(emotion="angry")] == [
        ("EmoDB", "emodb_03"),
        ("CREMA-D", "cremad_1001"),
    ]
