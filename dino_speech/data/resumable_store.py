"""Finished pieces of a long piece of work, each in a file that is named by all that the piece depends on.

Whatever embeds, examines or trains for hours keeps what is finished here, and goes on from there.
"""

import glob
import hashlib
import json
import logging
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.atomic import read_json, write_atomically, write_json_atomically
from dino_speech.provenance import code_digest
from dino_speech.received_files import require_honest_zip

logger = logging.getLogger(__name__)

Arrays = dict[str, NDArray[Any]]
Piece = TypeVar("Piece")
# What reading a damaged npz file raises: NumPy's own reasons and those of zipfile (RuntimeError: a password) and zlib.
DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def safe_name(text: str) -> str:
    """At most 80 characters that may stand in the name of a file: letters, digits, `.`, `_`, `-`."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in text)[:80]


def name_with_hash(name: str, depends_on: Any, *, digits: int = 12) -> str:
    """A file's name for a person, with a hash of plain data that the file depends on."""
    facts = json.dumps(depends_on, sort_keys=True, default=str)
    return f"{safe_name(name)}_{hashlib.sha256(facts.encode()).hexdigest()[:digits]}"


def place_of(folder: Path, name: str, depends_on: Any, *, suffix: str = "", digits: int = 12) -> Path:
    """Where a piece is kept: under a name for a person, what it depends on, and the code that makes it.

    So nothing outlives a change of the code; what another code left there stays, and it is said that it is not used.
    """
    stem = name_with_hash(name, depends_on, digits=digits)
    path = folder / f"{stem}_{code_digest()[:8]}{suffix}"
    if not path.exists() and any(folder.glob(f"{glob.escape(stem)}_*{suffix}")):
        logger.warning("%s: computed anew, because the code of dino_speech has changed since it was kept", stem)
    return path


def read_or_make(
    path: Path,
    make: Callable[[], Piece],
    *,
    read: Callable[[Path], Piece] = read_json,
    write: Callable[[Path, Piece], None] = write_json_atomically,
    reuse: bool = True,
) -> Piece:
    """What is in a file; made and written, with the folder, where there is none, or one that cannot be read."""
    if reuse and path.is_file():
        try:
            return read(path)
        except DAMAGED:  # made again
            pass
    piece = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, piece)
    return piece


class ResumableStore:
    """Pieces in a folder: asked for again, with the same dependencies (plain data), a piece is read instead of made.

    A piece is written in one move, so that it is complete or absent whenever the process is killed; one that cannot be
    read is made again. Another code of this package makes all pieces anew (see `place_of`), `reuse=False` too.
    """

    def __init__(self, folder: Path, depends_on: Any = None, *, reuse: bool = True) -> None:
        self.folder = folder
        self.depends_on = depends_on
        self.reuse = reuse

    def data(self, name: str, depends_on: Any, make: Callable[[], Any]) -> Any:
        """Plain data, as JSON holds it, of a piece with a name for people, and what it alone depends on."""
        return read_or_make(self._path(name, depends_on, "json"), make, reuse=self.reuse)

    def arrays(self, name: str, depends_on: Any, make: Callable[[], Mapping[str, NDArray[Any]]]) -> Arrays:
        """Arrays by name; the arguments are those of `data`."""
        path = self._path(name, depends_on, "npz")
        return read_or_make(path, lambda: dict(make()), read=read_arrays, write=write_arrays, reuse=self.reuse)

    def _path(self, name: str, depends_on: Any, suffix: str) -> Path:
        return place_of(self.folder, name, [self.depends_on, depends_on], suffix=f".{suffix}")


def read_arrays(path: Path) -> Arrays:
    """The arrays of an npz file by name; nothing in it can run. ValueError: it would grow beyond all measure."""
    require_honest_zip(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except MemoryError as error:  # a header promises what is not there
        raise ValueError(str(error)) from error


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an npz file in one move."""
    write_atomically(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]
