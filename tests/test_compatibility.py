"""Which pairs of torch and torchaudio are refused, with what words; the rows of `doctor`."""

import subprocess
import sys
from pathlib import Path

import pytest

from dino_speech.compatibility import CURE, installed_version, mismatch, report, require_torchaudio

BROKEN = """
import importlib, sys
from dino_speech import compatibility
from dino_speech.errors import InputError
sys.path.insert(0, {folder!r})
for module in [name for name in sys.modules if name.startswith("torchaudio")]:
    del sys.modules[module]
try:
    compatibility.require_torchaudio()
except InputError as error:
    print(error)
    row = [row for row in compatibility.report() if row["name"] == "torch + torchaudio"][0]
    print(row["ok"], row["cure"])
"""


@pytest.mark.parametrize(
    ("torch_version", "torchaudio_version", "reason"),
    [
        ("2.11.0", "2.11.0", None),
        ("2.11.0+cpu", "2.11.0", None),
        ("2.11.0", "2.11.1+cu130", None),
        ("2.13.0+cpu", "2.11.0", "of different releases"),
        ("2.9.0", "2.11.0", "of different releases"),
        (None, "2.11.0", "torch is not installed"),
        ("2.11.0", None, "torchaudio is not installed"),
    ],
)
def test_mismatch(torch_version: str | None, torchaudio_version: str | None, reason: str | None) -> None:
    found = mismatch(torch_version, torchaudio_version)
    assert (found is None) == (reason is None)
    if reason is not None:
        assert found is not None
        assert reason in found


def test_the_installed_pair_works() -> None:
    require_torchaudio()
    assert "torchaudio" in sys.modules


@pytest.mark.slow
def test_a_torchaudio_that_does_not_import_is_named_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "torchaudio.py").write_text("raise OSError('libc10_cuda.so: cannot open shared object file')\n")
    done = subprocess.run(
        [sys.executable, "-c", BROKEN.format(folder=str(tmp_path))],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    message, row = done.stdout.strip().splitlines()
    assert "do not import together (libc10_cuda.so: cannot open shared object file)" in message
    assert f"torch {installed_version('torch')} and torchaudio {installed_version('torchaudio')}" in message
    assert message.endswith(f"Cure: {CURE}")
    assert row == f"False {CURE}"


def test_an_absent_package_has_no_version() -> None:
    assert installed_version("a-package-that-nobody-has") is None
    assert installed_version("torch") is not None


def test_report_has_a_cure_for_each_bad_row_only() -> None:
    rows = report()
    assert {"python", "torch", "torchaudio", "speechbrain", "torch + torchaudio", "CPU threads"} <= {
        row["name"] for row in rows
    }
    for row in rows:
        assert set(row) == {"name", "found", "ok", "cure"}
        assert (row["cure"] is None) == row["ok"]
