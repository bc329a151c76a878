"""A disk that fills, an output that becomes read-only, files and processes that vanish, a clock that jumps."""

import fcntl
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from works import (
    embed,
    finetune,
    finished,
    label,
    largest_difference,
    make_speech,
    missing_or_changed,
    pretrain,
    results,
    shard,
)

from dino_speech import DINOPretrainer
from dino_speech.data import atomic
from dino_speech.data.loading.skipped import SkippedFiles
from dino_speech.data.shards.writing import write_shards
from dino_speech.errors import InputError
from dino_speech.training.history import Progress

WORKS = {
    "pretrain": partial(pretrain, num_steps=8, num_workers=0, monitor_every=4),
    "finetune": partial(finetune, num_workers=0),
    "pseudo-labels": label,
    "embed": embed,
    "shard": shard,
}
At = Callable[[int, Callable[[], object]], None]
Quiet = Callable[[str], tuple[dict[str, Any], int]]


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_speech(tmp_path_factory.mktemp("speech") / "wav")


@pytest.fixture(scope="module")
def quiet(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Quiet:
    """What each kind of work gives when nothing happens to it, and the KiB that its files take."""
    home, done = tmp_path_factory.mktemp("quiet"), {}

    def of(name: str) -> tuple[dict[str, Any], int]:
        if name not in done:
            WORKS[name](speech, home / name)
            sizes = [-(-path.stat().st_size // 4_096) * 4 for path in (home / name).rglob("*") if path.is_file()]
            done[name] = results(home / name), sum(sizes)
        return done[name]

    return of


@pytest.fixture(autouse=True)
def _looked_at_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is full is so later than the look at the output, which wants a megabyte."""
    monkeypatch.setattr("dino_speech.data.outputs.PROBE_BYTES", 1)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)], capture_output=True)
    except FileNotFoundError:
        pytest.skip("no mount here")
    if made.returncode:
        pytest.skip(f"no file system may be mounted here: {made.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def remount(disk: Path, options: str) -> bool:
    return subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKS)
def test_a_full_disk_is_one_line_and_what_is_finished_stays(
    name: str, speech: Path, disk: Path, quiet: Quiet, capfd: pytest.CaptureFixture[str]
) -> None:
    wanted, needed_kib = quiet(name)
    before: dict[str, Any] = {}
    for part in (0.3, 0.8):
        assert remount(disk, f"size={int(part * needed_kib)}k")
        with pytest.raises(
            InputError, match=rf"{disk}.*: cannot be written \(.*No space left.*\); make room"
        ) as caught:
            WORKS[name](speech, disk / name)
        assert "\n" not in str(caught.value)
        assert "Traceback" not in capfd.readouterr().err
        after = finished(disk / name) if (disk / name).exists() else {}
        assert not missing_or_changed(before, after)
        before = after
    assert before
    remount(disk, "size=64m")
    WORKS[name](speech, disk / name)
    assert not missing_or_changed(before, finished(disk / name))
    assert largest_difference(wanted, results(disk / name)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pretrain", "embed", "shard"])
def test_files_that_may_grow_no_more_are_one_line(name: str, speech: Path, tmp_path: Path, quiet: Quiet) -> None:
    """What a full disk is where no file system may be mounted."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (900 if name == "embed" else 30_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r": cannot be written \(.*File too large.*\); make room there"):
            WORKS[name](speech, tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    WORKS[name](speech, tmp_path / name)
    assert largest_difference(quiet(name)[0], results(tmp_path / name)) == 0


@pytest.fixture
def after_step(monkeypatch: pytest.MonkeyPatch) -> At:
    """`after_step(n, act)`: something happens in the n-th step from now."""

    def arrange(number: int, act: Callable[[], object]) -> None:
        left, advance = [number], Progress.advance

        def advance_and_act(self: Progress) -> None:
            advance(self)
            left[0] -= 1
            if left[0] == 0:
                act()

        monkeypatch.setattr(Progress, "advance", advance_and_act)

    return arrange


def set_read_only(output: Path, on: bool) -> None:
    """Of all folders in it; root is stopped by a flag of the file system alone."""
    for folder in [output, *(path for path in output.rglob("*") if path.is_dir())]:
        if os.geteuid():
            folder.chmod(0o555 if on else 0o755)
            continue
        descriptor, found = os.open(folder, os.O_RDONLY), bytearray(8)
        try:
            fcntl.ioctl(descriptor, 0x80086601, found)  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IMMUTABLE_FL
            flags = struct.unpack("l", found)[0]
            fcntl.ioctl(descriptor, 0x40086602, struct.pack("l", flags | 0x10 if on else flags & ~0x10))
        finally:
            os.close(descriptor)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pretrain", "embed", "shard"])
def test_an_output_that_becomes_read_only_is_one_line(
    name: str, speech: Path, tmp_path: Path, quiet: Quiet, after_step: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, whole = tmp_path / name, WORKS[name]
    try:
        set_read_only(tmp_path, True)
    except OSError as error:
        pytest.skip(f"root cannot be kept from writing here: {error}")
    finally:
        set_read_only(tmp_path, False)
    after_step(3, lambda: set_read_only(output, True))
    true_finish = atomic._flush_folder
    left = [5]

    def finish(folder: Path) -> None:
        true_finish(folder)
        left[0] -= 1
        if name != "pretrain" and left[0] == 0:
            set_read_only(output, True)

    monkeypatch.setattr(atomic, "_flush_folder", finish)  # after each file that is written
    try:
        with pytest.raises(InputError, match=r": cannot be written \((Operation not permitted|Permission denied)"):
            whole(speech, output)
    finally:
        set_read_only(output, False)
    before = finished(output)
    whole(speech, output)
    assert not missing_or_changed(before, finished(output))
    assert largest_difference(quiet(name)[0], results(output)) == 0


@pytest.mark.slow
def test_a_reading_process_that_is_killed_is_one_line(
    speech: Path, tmp_path: Path, quiet: Quiet, after_step: At
) -> None:
    work = partial(WORKS["pretrain"], num_workers=2)

    def kill_reader() -> None:
        children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
        readers = [int(child) for child in children if b"python" in Path("/proc", child, "cmdline").read_bytes()]
        os.kill(readers[-1], signal.SIGKILL)

    after_step(5, kill_reader)
    with pytest.raises(InputError, match=r"^a reading process ended: DataLoader worker .* the same call goes"):
        work(speech, tmp_path / "run")
    work(speech, tmp_path / "run")
    assert largest_difference(quiet("pretrain")[0], results(tmp_path / "run")) == 0


@pytest.mark.slow
def test_a_file_that_vanishes_is_a_listed_skip(
    speech: Path,
    tmp_path: Path,
    after_step: At,
    caplog: pytest.LogCaptureFixture,
) -> None:
    wavs = Path(shutil.copytree(speech, tmp_path / "wavs"))
    gone = wavs / "07.wav"
    after_step(2, gone.unlink)
    pretrain(wavs, tmp_path / "run", num_steps=14, num_workers=0, cache_gib=0.0)  # which is more than an epoch
    assert f"skipped 1 file(s) so far, listed in {tmp_path}/run/skipped.csv; the newest: {gone}" in caplog.text
    assert list(SkippedFiles([], tmp_path / "run" / "skipped.csv").reasons) == [str(gone)]
    embed(wavs, tmp_path / "embedded")
    assert (tmp_path / "embedded" / "parts" / "failures.csv").read_text().startswith("ID,reason\nu07,")
    report = write_shards(wavs / "manifest.csv", tmp_path / "shards", shard_mb=0.05)
    assert [item.name for item in report.failures] == ["u07"]


@pytest.mark.slow
def test_a_clock_that_jumps_decides_nothing(
    speech: Path, tmp_path: Path, quiet: Quiet, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_time, rng = time.time, np.random.default_rng(0)

    def jumping() -> float:
        return true_time() + rng.uniform(-3e8, 3e8)  # ten years to and fro

    monkeypatch.setattr(time, "time", jumping)
    monkeypatch.setattr(time, "time_ns", lambda: int(1e9 * jumping()))
    for name in ("pretrain", "embed", "shard"):
        done = WORKS[name](speech, tmp_path / name)
        assert largest_difference(quiet(name)[0], results(tmp_path / name)) == 0
        if isinstance(done, DINOPretrainer):
            assert all(0 <= row["seconds"] < 1e4 for row in done.history_ if "seconds" in row)


def test_a_list_of_skipped_files_that_was_cut_off_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "skipped.csv"
    path.write_text("file,reason\na.wav,empty\nb.wa")
    SkippedFiles(["c.wav"], path).merge({"c.wav": "silent"})
    assert path.read_text() == "file,reason\na.wav,empty\nc.wav,silent\n"


@pytest.mark.slow
def test_a_second_run_in_the_folder_of_the_first_is_refused(speech: Path, tmp_path: Path) -> None:
    first = processes.begin(
        tmp_path / "log", partial(pretrain, num_steps=1_000, num_workers=0), speech, tmp_path / "run"
    )
    try:
        processes.wait_until((tmp_path / "run" / "state" / "last.pt").exists, first)
        with pytest.raises(InputError, match=rf"{tmp_path}/run: in use by process {first.pid} on .*, since"):
            pretrain(speech, tmp_path / "run", num_steps=1_000)
    finally:
        first.kill()
