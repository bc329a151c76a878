"""Two processes never write into one folder; a killed one leaves nothing that stops the next."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dino_speech.data.sole_use import LOCK, alone, sole_use
from dino_speech.errors import InputError

ROOT = Path(__file__).parents[2]
# The child that is forked while the lock is held lives on for a while, as a reading process does.
HOLDER = """
import os, sys, time
from dino_speech.data.sole_use import sole_use
with sole_use(sys.argv[1]):
    if not os.fork():
        time.sleep(float(sys.argv[2]))
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_another_process_is_refused_by_name_until_it_dies(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path), "5"]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            (tmp_path / ".state.12.tmp").write_text("")
            who = rf"in use by process {holder.pid} on {re.escape(socket.gethostname())}, since 20\d\d-.*; wait for its"
            with pytest.raises(InputError, match=who), sole_use(tmp_path):
                pass
            assert (tmp_path / ".state.12.tmp").exists()  # perhaps the other one's
        finally:
            holder.send_signal(signal.SIGKILL)
        holder.wait()
        started = time.monotonic()
        with sole_use(tmp_path):
            assert not (tmp_path / ".state.12.tmp").exists()
        assert time.monotonic() - started < 4  # its child still lives
    assert not (tmp_path / LOCK).exists()


def test_a_folder_is_made_kept_if_used_and_free_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with sole_use(tmp_path / "a" / "b"):
            with pytest.raises(InputError, match="in use by this very process"), sole_use(tmp_path / "a" / "b"):
                pass
            (tmp_path / "a" / "b" / "kept").write_text("")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["kept"]
    with sole_use(tmp_path / "c"):
        pass
    assert not (tmp_path / "c").exists()
    with pytest.raises(InputError, match="is a file"), sole_use(tmp_path / "a" / "b" / "kept"):
        pass


def test_only_the_main_process_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sole_use(tmp_path):
        monkeypatch.setenv("RANK", "1")
        with sole_use(tmp_path):
            pass


def test_a_file_system_without_locks_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lockf(descriptor: int, how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.lockf", lockf)
    with sole_use(tmp_path):
        pass
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: no lock is to be had (No locks available): see that no other process writes there"
    ]


def test_the_folder_is_an_argument(tmp_path: Path) -> None:
    @alone("output")
    def work(source: str, output: Path, *, number: int = 1) -> int:
        assert (output / LOCK).exists()
        return number

    assert work("a", tmp_path) == 1
    assert work("a", output=tmp_path, number=2) == 2
    with pytest.raises(TypeError, match="output"):
        work("a")  # type: ignore[call-arg]
