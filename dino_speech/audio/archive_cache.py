"""Bytes from afar, and local copies of remote archives: each is fetched once per machine, in one piece.

Copies are off unless the environment names a folder: `DINO_SPEECH_SHARD_CACHE=/local/disk`. There is no limit unless it
is set: `DINO_SPEECH_SHARD_CACHE_GB=200`; then the copies that were not used for longest make room. A copy is not
compared with its origin again.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from dino_speech.audio.urls import file_system

Result = TypeVar("Result")

PAUSES_S = (1.0, 4.0, 15.0)  # ours: storage that asks to slow down does so for seconds
FOLDER, LIMIT_GB = "DINO_SPEECH_SHARD_CACHE", "DINO_SPEECH_SHARD_CACHE_GB"


def local_copy(url: str) -> Path | None:
    """The copy of an archive, fetched if there is none yet; None where no copies are kept.

    Raises:
        OSError: the archive cannot be fetched, or the disk is full.
    """
    folder = os.environ.get(FOLDER)
    if not folder:
        return None
    name = f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{url.rpartition('/')[2]}"
    copy = Path(folder, name)
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        with _locked(copy.with_name(f".{name}.lock")):
            if not copy.exists():  # another process may have fetched it meanwhile
                _fetch(url, copy)
    with contextlib.suppress(FileNotFoundError):
        status = copy.stat()
        # When it was used last; its time of change says which version of it is open.
        os.utime(copy, ns=(time.time_ns(), status.st_mtime_ns))
    return copy


def patiently(fetch: Callable[[], Result], url: str) -> Result:
    """What `fetch` gives; storage that fails is asked again after some seconds, but not for what it does not have.

    Raises:
        OSError: it failed each time; whatever exceptions the storage has of its own.
    """
    for pause_s in (*PAUSES_S, None):
        try:
            return fetch()
        except (FileNotFoundError, PermissionError, ImportError):
            raise
        except Exception as error:
            if pause_s is None:
                raise OSError(f"{url}: {type(error).__name__}: {error}") from error
            time.sleep(pause_s)
    raise AssertionError  # for type checkers


def _fetch(url: str, copy: Path) -> None:
    partial = copy.with_name(f".{copy.name}.{os.getpid()}.partial")
    system, path = file_system(url)

    def fetch() -> None:
        _make_room(copy.parent, int(system.info(path)["size"]))
        system.get_file(path, str(partial))

    try:
        patiently(fetch, url)
        partial.replace(copy)
    finally:
        partial.unlink(missing_ok=True)


def _make_room(folder: Path, size: int) -> None:
    limit = float(os.environ.get(LIMIT_GB, "inf")) * 1e9
    found = []
    for path in folder.glob("[!.]*.tar"):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            found.append((status.st_atime_ns, status.st_size, path))
    used = sum(file_size for _, file_size, _ in found)
    for _, file_size, path in sorted(found):
        if used + size <= limit:
            return
        path.unlink(missing_ok=True)  # who has it open can still read it
        used -= file_size


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; where locks are not to be had, two may fetch the same, and the last one stays."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
