"""Files and folders that are either the former or the new one, whatever moment the process is killed at.

What is not finished has a hidden name with the process's number; `clear_unfinished` removes what killed ones left.
"""

import contextlib
import csv
import ctypes
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

from dino_speech.errors import InputError
from dino_speech.received_files import parse_json, read_bytes


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """What cannot be written within becomes one line that names the path, the system's reason and the cure."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        # Archives that are closed after a failed write complain in their own words; the reason comes before.
        reason: BaseException | None = error
        while reason is not None and not isinstance(reason, OSError):
            reason = reason.__context__
        if reason is None:
            raise
        cure = "make room there, or allow writing; what was finished is kept, and the same call goes on from it"
        raise InputError(f"{path}: cannot be written ({reason.strerror or reason}); {cure}") from error


def write_atomically(path: Path, write: Callable[[BinaryIO], object], *, former: Path | None = None) -> None:
    """Give `path` its new content in one move: a temporary file beside it, flushed to the disk, then renamed.

    `former`: where the file goes that is there; killed between the two moves, a process leaves that one alone.
    InputError: it cannot be written; then what was there is untouched.
    """
    temporary = _unfinished(path, "tmp")
    with writing(path):
        try:
            temporary.unlink(missing_ok=True)
            with temporary.open("xb") as file:  # never through a link that waits under this name
                write(file)
                file.flush()
                os.fsync(file.fileno())
            if former is not None and path.exists():
                path.replace(former)
            temporary.replace(path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    _flush_folder(path.parent)


def replace_folder(target: Path, fill: Callable[[Path], object]) -> None:
    """Put a new folder, which `fill` is given empty, in the place of `target`; that may not exist.

    InputError: it cannot be written; then what was there is untouched.
    """
    partial = _unfinished(target, "partial")
    with writing(target):
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            fill(partial)
            for file in filter(Path.is_file, partial.rglob("*")):
                with file.open("rb+") as written:
                    os.fsync(written.fileno())
            if target.exists() and not _exchange(partial, target):
                # A folder that is not empty cannot be replaced in one step: the old one steps aside for the moment.
                aside = _unfinished(target, "old")
                target.replace(aside)
                partial.replace(target)
                shutil.rmtree(aside)
            elif not target.exists():
                partial.replace(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    _flush_folder(target.parent)


def clear_unfinished(folder: Path) -> None:
    """Remove what killed processes left unfinished in a folder that nobody else writes into."""
    for aside in folder.glob(".*.[0-9]*.old"):
        target = aside.with_name(aside.name[1:].rsplit(".", 2)[0])
        if not target.exists():
            aside.replace(target)  # killed between the two moves of `replace_folder`
    for kind in ("tmp", "partial", "old"):
        for path in folder.glob(f".*.[0-9]*.{kind}"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _unfinished(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{kind}")


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one move; whether the system can (Linux does, on most of its file systems)."""
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if library is None or not hasattr(library, "renameat2"):
        return False
    here, both_stay = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(library.renameat2(here, os.fsencode(one), here, os.fsencode(other), both_stay) == 0)


def _flush_folder(folder: Path) -> None:
    # A rename must reach the disk too; not every system lets a folder be opened for that.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text_atomically(path: Path, text: str) -> None:
    """The same for text."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_json_atomically(path: Path, data: Any) -> None:
    """The same for plain data."""
    write_text_atomically(path, json.dumps(data, ensure_ascii=False, indent=1) + "\n")


def write_rows_atomically(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """The same for the rows of a table, the first being its header."""

    def write(file: BinaryIO) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        # Rows end by a line feed; told of "\r\n", csv puts quotes around a cell that holds either of the two.
        lines = SimpleNamespace(write=lambda line: text.write(line.removesuffix("\r\n") + "\n"))
        csv.writer(lines, lineterminator="\r\n").writerows(rows)
        text.detach()  # flushed, and left open

    write_atomically(path, write)


def write_csv_atomically(
    path: Path, rows: Sequence[Mapping[str, Any]], *, columns: Sequence[str] | None = None
) -> None:
    """The same for a table that people open, a mapping per row; `columns`: None, those of the rows, as they occur."""
    names = list(dict.fromkeys(key for row in rows for key in row)) if columns is None else columns
    write_rows_atomically(path, [map(inert, names), *([inert(row.get(name, "")) for name in names] for row in rows)])


def inert(cell: object) -> object:
    """A cell that no spreadsheet runs: a text that begins like a formula gets an apostrophe; numbers stay.

    Example:
        >>> inert("=1+1"), inert("-0.5"), inert(-0.5)
        ("'=1+1", '-0.5', -0.5)
    """
    text = cell.lstrip("'") if isinstance(cell, str) else ""  # one that begins with an apostrophe must be told apart
    if not text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        return cell
    try:
        float(text)
    except ValueError:
        return f"'{cell}"
    return cell


def as_it_was(cell: str) -> str:
    """The cell that `inert` was given, where that was a text."""
    return cell[1:] if cell.startswith("'") and inert(cell[1:]) == cell else cell


def read_json(path: Path) -> Any:
    """The inverse of `write_json_atomically`."""
    return parse_json(read_bytes(path))
