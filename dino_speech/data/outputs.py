"""Where results go, looked at before the work that makes them. How they are written is in `atomic.py`."""

import os
import tempfile
from pathlib import Path

from dino_speech.audio.urls import is_url
from dino_speech.errors import InputError

PROBE_BYTES = 1 << 20  # ours: more than a report needs; a disk with less is about to fill up


def check_output(place: str | os.PathLike[str], *, is_file: bool = False) -> None:
    """Refuse a folder (or a file) that results could not be written to; nothing is made, nothing is left behind.

    The folder, or the nearest one above it that exists, has to take a megabyte.

    Raises:
        InputError: it is a URL, a file where a folder is meant or a folder where a file is; what is there cannot be
            written to, or is full.
    """
    if is_url(str(place)):
        raise InputError(f"{place}: results are not written to URLs; give a place on this machine, and copy them then")
    path, nearest = Path(place).absolute(), Path(place).absolute()
    try:
        if is_file and path.is_dir():
            raise InputError(f"{place}: is a folder, and a file is to be written; give a file in it, or another name")
        if not is_file and path.is_file():
            raise InputError(f"{place}: is a file, and a folder is to be written; give another name, or move the file")
        nearest = _nearest(path.parent if is_file else path)
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except InputError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        problem = f"{place}: cannot be written ({nearest}: {reason})"
        raise InputError(f"{problem}; give an output where you may write and that has room") from error


def _nearest(path: Path) -> Path:
    """The path itself, or the nearest above it that is there, be it a file or a link to nothing."""
    for candidate in (path, *path.parents):
        try:
            candidate.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        return candidate
    return path
