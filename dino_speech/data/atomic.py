"""Files that are either the former or the new one, never a part, whatever moment the process is killed at."""

import contextlib
import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Give `path` its new content in one move: a temporary file beside it, flushed to the disk, then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    # The rename itself must reach the disk too; not every system lets a folder be opened for that.
    with contextlib.suppress(OSError):
        descriptor = os.open(path.parent, os.O_RDONLY)
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
    if not isinstance(cell, str) or not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def read_json(path: Path) -> Any:
    """The inverse."""
    return json.loads(path.read_text(encoding="utf-8"))
