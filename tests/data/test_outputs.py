"""An output that cannot be written is told before the work, and looking leaves nothing behind."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dino_speech.data.outputs import PROBE_BYTES, check_output
from dino_speech.errors import InputError


def test_what_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    check_output(tmp_path)
    check_output(tmp_path / "not" / "there")
    check_output(tmp_path / "not" / "there.csv", is_file=True)
    assert list(tmp_path.iterdir()) == []
    file = tmp_path / "there.csv"
    file.write_text("as it was")
    check_output(file, is_file=True)
    assert file.read_text() == "as it was"
    check_output("relative")


def test_kinds_are_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.touch()
    with pytest.raises(InputError, match=r"a\.txt: is a file, and a folder is to be written; give another name"):
        check_output(file)
    with pytest.raises(InputError, match="is a folder, and a file is to be written; give a file in it"):
        check_output(tmp_path, is_file=True)
    for output, is_file in ((file / "out", False), (file / "out" / "x.csv", True)):
        with pytest.raises(InputError, match=r"cannot be written \(.*a\.txt: Not a directory\); give an output"):
            check_output(output, is_file=is_file)
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match="cannot be written"):
        check_output(tmp_path / "link")
    with pytest.raises(InputError, match="File name too long"):
        check_output(tmp_path / ("x" * 300))
    with pytest.raises(InputError, match="not written to URLs"):
        check_output("s3://bucket/out")


def limited(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Python's `code` with `check_output`, and `folder` as its argument."""
    root = Path(__file__).resolve().parents[2]
    head = "import os, resource, sys\nfrom dino_speech.data.outputs import check_output\n"
    command = [sys.executable, "-c", f"{head}{code}\ncheck_output(sys.argv[1])", str(folder)]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (f"resource.setrlimit(resource.RLIMIT_FSIZE, ({PROBE_BYTES - 1}, {PROBE_BYTES - 1}))", "File too large"),
        ("if os.getuid() == 0: os.setuid(65534)", "Permission denied"),
    ],
)
def test_no_room_and_no_right(code: str, reason: str) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        Path(folder).chmod(0o555)
        done = limited(code, Path(folder, "out"))
    assert done.returncode == 1
    assert f"out: cannot be written ({folder}: {reason})" in done.stderr
