import hashlib
import json
import subprocess
from pathlib import Path

import pytest
import torch

import dino_speech
from dino_speech.provenance import ON_TOP, code_digest, provenance


def test_versions_seed_command_and_hash_of_the_manifest(tmp_path: Path) -> None:
    manifest = tmp_path / "train.csv"
    manifest.write_bytes(b"ID,duration,wav\n" * 100_000)  # more than one block
    found = provenance(seed=7, manifest=manifest, command=["dino-speech", "pretrain"])
    assert found["dino_speech"] == dino_speech.__version__
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert (found["seed"], found["command"]) == (7, ["dino-speech", "pretrain"])
    expected = hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert found["manifests"] == [{"path": str(manifest), "sha256": expected}]
    assert found["time"].endswith("+00:00")
    assert json.loads(json.dumps(found)) == found


def test_several_manifests_and_one_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a")
    found = provenance(manifest=[tmp_path / "a.csv", tmp_path / "gone.csv"])["manifests"]
    assert [row["sha256"] is None for row in found] == [False, True]
    assert provenance()["manifests"] == []


def test_commit_of_the_current_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance()["git_commit"] is None
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    (tmp_path / "file").write_text("one")
    for words in (["init", "-q"], ["add", "file"], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *words], check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert provenance()["git_commit"] == commit
    (tmp_path / "file").write_text("two")
    assert provenance()["git_commit"] == f"{commit}-dirty"


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance()["git_commit"] is None


def test_no_command_that_the_folder_configures_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    proof = tmp_path / "proof"
    script = tmp_path / "run.sh"
    script.write_text(f"#!/bin/sh\ntouch {proof}\ncat\n")
    script.chmod(0o755)
    (tmp_path / "file").write_text("one")
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "file"], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *words], check=True)
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "post-index-change").write_text(script.read_text())
    (hooks / "post-index-change").chmod(0o755)
    (tmp_path / ".git" / "info" / "attributes").write_text("* filter=evil\n")
    for key, value in {
        "core.fsmonitor": script,
        "core.hooksPath": hooks,
        "filter.evil.clean": script,
        "filter.evil.required": "true",
        "core.pager": script,
        "core.sshCommand": script,
    }.items():
        subprocess.run(["git", "config", key, str(value)], check=True)
    (tmp_path / "file").write_text("two")  # another size and time: git asks the filter what it holds
    subprocess.run(["git", "status", "--porcelain"], check=True, capture_output=True)
    assert proof.exists()  # git alone would run them
    proof.unlink()
    assert str(provenance()["git_commit"]).endswith("-dirty")
    assert not proof.exists()


def test_a_change_of_what_computes_is_another_code_and_one_of_what_asks_is_not(tmp_path: Path) -> None:
    def copy(name: str, changed: str = "") -> str:
        for file in ("metrics.py", "cli/main.py", "studies/grid.py"):
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x = 1" + ("  # other" if file == changed else ""))
        return code_digest(tmp_path / name)

    one = copy("one")
    assert copy("again") == copy("cli", "cli/main.py") == one
    assert len({one, copy("metrics", "metrics.py"), copy("grid", "studies/grid.py")}) == 3
    assert code_digest() == code_digest() != one
    package = Path(dino_speech.__file__).parent
    assert all((package / name).exists() for name in ON_TOP)
