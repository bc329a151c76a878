"""Names and formats of ordinary recordings: each is used, or listed with its cure; none ends the job of the others."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from dino_speech.cli.main import main

Tone = Callable[..., np.ndarray]
NAME = r"caf\xe9.wav"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    def call(*words: object) -> dict[str, Any]:
        capsys.readouterr()
        assert main([*map(str, words), "--json"]) == 0
        answer: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        return answer

    return call


@pytest.fixture
def folder(tmp_path: Path, tone: Tone) -> Path:
    """Two good files, one whose name is Latin-1, one that needs ffmpeg, and a half-copied one."""
    folder = tmp_path / "café"
    folder.mkdir()
    for number in (1, 2):
        soundfile.write(folder / f"{number}.wav", tone(1.0, seed=number), 16_000)
    soundfile.write(folder / "half.wav", tone(1.0), 16_000)
    os.truncate(folder / "half.wav", 8_000)
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.wav")).write_bytes((folder / "1.wav").read_bytes())
    (folder / "phone.m4a").write_bytes(b"\0\0\0 ftypM4A ")
    return folder


@pytest.fixture(autouse=True)
def no_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)


REASONS = {NAME: "is not UTF-8 text", "half.wav": "promises 1.00 s, and it holds 0.2", "phone.m4a": "decoded by ffmpeg"}


def has_reasons(found: dict[str, str]) -> bool:
    return found.keys() == REASONS.keys() and all(REASONS[name] in reason for name, reason in found.items())


def test_check(run, folder: Path) -> None:
    found = run("check", folder)
    assert (found["num_files"], found["num_usable"]) == (5, 2)
    assert has_reasons({item["name"]: item["reason"] for item in found["unusable"]})


def test_prepare_folder_keeps_the_list(run, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = run("prepare", "folder", folder, "--output", tmp_path / "out")
    assert summary["num_utterances"] == 2
    assert has_reasons(dict(line.split(": ", 1) for line in summary["unreadable"]))
    assert (tmp_path / "out" / "unreadable.txt").read_text(encoding="utf-8").splitlines() == summary["unreadable"]
    (folder / "empty.wav").touch()
    assert main(["prepare", "folder", str(folder), "--output", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "4: " in told
    assert str(tmp_path / "out" / "unreadable.txt") in told


def test_prepare_a_corpus(run, tmp_path: Path, tone: Tone) -> None:
    for name in (b"03a01Wa.wav", b"08a01Wa.wav", b"caf\xe9.wav"):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/emodb/" + name))
        path.parent.mkdir(exist_ok=True)
        path.touch()
        soundfile.write(tmp_path / "ok.wav", tone(0.5), 16_000)
        path.write_bytes((tmp_path / "ok.wav").read_bytes())
    summary = run("prepare", "emodb", tmp_path / "emodb", "--output", tmp_path / "out")
    assert (summary["num_utterances"], summary["extra"]) == (2, [f"{NAME}: not a name of this corpus"])


def test_links_that_form_a_loop_end(run, tmp_path: Path, tone: Tone) -> None:
    for speaker in ("id10001", "id10002"):
        folder = tmp_path / "vox" / "wav" / speaker / "abc"
        folder.mkdir(parents=True)
        soundfile.write(folder / "00001.wav", tone(0.5), 16_000)
    (tmp_path / "vox" / "wav" / "id10001" / "loop").symlink_to(tmp_path / "vox", target_is_directory=True)
    (tmp_path / "vox" / "self").symlink_to("self")
    assert run("prepare", "voxceleb1", tmp_path / "vox", "--output", tmp_path / "out")["num_utterances"] == 2
    assert run("check", tmp_path / "vox")["num_usable"] == 2
    found = run("embed", tmp_path / "vox", "--encoder", "fbank_stats", "--output", tmp_path / "out.csv")
    assert found["num_embedded"] == 2


@pytest.mark.parametrize("output", ["out.npz", "out"])
def test_embed(run, folder: Path, tmp_path: Path, output: str) -> None:
    answer = run("embed", folder, "--encoder", "fbank_stats", "--output", tmp_path / output)
    assert answer["num_embedded"] == 2
    assert has_reasons({item["name"]: item["reason"] for item in answer["skipped"]})


def test_shard(run, folder: Path, tmp_path: Path) -> None:
    answer = run("shard", folder, "--output", tmp_path / "shards")
    assert answer["num_utterances"] == 2
    assert has_reasons({item["name"]: item["reason"] for item in answer["failures"]})
