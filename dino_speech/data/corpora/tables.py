"""Tables that come with a corpus: finding them in its tree, reading their rows, and the cells of a few kinds."""

import csv
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dino_speech.errors import InputError

SEX = {"male": "M", "m": "M", "female": "F", "f": "F"}


@dataclass(frozen=True, slots=True)
class Cells:
    """One row of a table: its cells by lower-case column name, and its place for messages."""

    place: str
    values: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.values[column]

    def get(self, column: str) -> str:
        """The cell, "" where the table has no such column."""
        return self.values.get(column, "")


def find_papers(source: str | Path, name: str) -> list[Path]:
    """Files of this name (a pattern such as `*.csv` too, case ignored) in a corpus, those nearest to its top first."""
    pattern = re.compile(re.escape(name.lower()).replace(r"\*", ".*"))
    found = [
        Path(parent, file)
        for parent, _, files in os.walk(Path(source).absolute(), followlinks=True)
        for file in files
        if not file.startswith(".") and pattern.fullmatch(file.lower())
    ]
    return sorted(found, key=lambda path: (len(path.parts), path))


def need_paper(source: str | Path, names: Sequence[str], layout: str) -> Path:
    """The first of several files that is there.

    Raises:
        InputError: none is there.
    """
    for name in names:
        if papers := find_papers(source, name):
            return papers[0]
    raise InputError(f"{source}: no file {' or '.join(names)} in it; it holds the labels: expected {layout}")


def read_table(
    path: Path, required: Sequence[str], *, delimiter: str = ",", quoting: Literal[0, 3] = csv.QUOTE_MINIMAL
) -> list[Cells]:
    """A table with a header; column names lower-case, cells without spaces around them.

    Raises:
        InputError: a required column is absent, or a row has not as many cells as the header.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8 text; take the owners' own file") from error
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting)
    header = [cell.strip().lower() for cell in next(reader, [])]
    if absent := [name for name in required if name.lower() not in header]:
        raise InputError(
            f"{path} row 1: no column {absent[0]!r}; found {', '.join(header) or 'nothing'}; take the owners' own file"
        )
    rows = []
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        place = f"{path} row {reader.line_num}"
        if len(cells) != len(header):
            raise InputError(f"{place}: found {len(cells)} cells; expected {len(header)}, as in the header")
        rows.append(Cells(place, dict(zip(header, (cell.strip() for cell in cells), strict=True))))
    return rows


def number(cell: str, place: str, column: str) -> str:
    """A number as the manifest writes it; "" for a blank and for NA.

    Raises:
        InputError: it is neither.
    """
    if cell.lower() in ("", "na", "n/a", "nan", "none"):
        return ""
    try:
        return f"{float(cell):.10g}"
    except ValueError:
        raise InputError(f"{place}, column {column!r}: found {cell!r}; expected a number, or NA") from None
