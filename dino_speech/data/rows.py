"""The rows of a manifest's CSV, one after the other, each checked while it is read: memory does not grow with the file.

A `row` in a message is the line of the file as an editor or a spreadsheet shows it: the header is row 1. A whole
manifest is read and written in `manifest.py`.
"""

import codecs
import csv
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from dino_speech.audio.sources import join_place, open_bytes
from dino_speech.audio.urls import UnusableURLError, check_named_by_file, is_url
from dino_speech.data.utterances import Utterance
from dino_speech.errors import InputError

ALIASES = {"utt_id": "ID", "path": "wav", "duration_s": "duration"}
REQUIRED = ("ID", "duration", "wav")
SPANS = ("start", "stop")
MAX_DURATION_S, MAX_SAMPLE = 1e9, 2**53  # ours: thirty years; what a float64 counts without gaps
MAX_LINE = 2**20  # ours: characters; a file without line ends is not read in one piece
FORM = "expected a header such as ID,duration,wav,speaker"

StrPath = str | os.PathLike[str]
Where = Mapping[str, str | Sequence[str]]


class ManifestRows:
    """The utterances of one manifest file, to be gone through as often as needed; each time the file is read anew.

    `name` is the file, absolute, or the URL; `columns` are the label columns; `where` and what is refused are those of
    `manifest.read_manifest`.
    """

    def __init__(self, path: StrPath, *, where: Where | None = None) -> None:
        given = os.fspath(path)
        self.name = given if is_url(given) else os.path.normpath(Path(given).absolute())
        self._given, self._where = given, where or {}
        with self._opened() as text:
            _, layout = self._begin(text)
        self.columns = tuple(name for _, name in layout.labels)

    def __iter__(self) -> Iterator[Utterance]:
        with self._opened() as text:
            reader, layout = self._begin(text)
            allowed = {name: {v} if isinstance(v, str) else set(v) for name, v in self._where.items()}
            try:
                for cells in reader:
                    if cells:
                        row = layout.utterance(cells, f"{self._given} row {reader.line_num}")
                        if all(row.labels.get(name, "") in values for name, values in allowed.items()):
                            yield row
            except csv.Error as error:
                place = f"{self._given} row {reader.line_num}"
                raise InputError(f"{place}: not valid CSV ({error}); check its quotes") from error
            except _BadCellError as error:
                place = f"{self._given} row {reader.line_num}, column {layout.found[error.column]!r}"
                raise InputError(f"{place}: found {error.found!r}; expected {error.expected}") from None
            except UnicodeDecodeError as error:
                raise self._not_text() from error

    def _opened(self) -> io.TextIOWrapper:
        try:
            return io.TextIOWrapper(open_bytes(self._given), encoding="utf-8-sig", newline="")
        except UnusableURLError as error:
            raise InputError(str(error)) from error
        except IsADirectoryError as error:
            raise InputError(f"{self._given} is a folder; expected a manifest (CSV)") from error
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"{self._given}: cannot be read ({reason}); expected a manifest (CSV)") from error

    def _begin(self, text: io.TextIOWrapper) -> tuple[Any, "_Layout"]:
        """A reader behind the header, and what the header says."""
        lines = iter(partial(text.readline, MAX_LINE), "")
        first: list[str] = []
        try:
            while not (first and first[-1].strip()):
                first.append(next(lines))
        except StopIteration:
            raise InputError(f"{self._given}: the file is empty; {FORM}") from None
        except UnicodeDecodeError as error:
            raise self._not_text() from error
        reader = csv.reader(chain(first, lines), delimiter=max(",;\t", key=first[-1].count))
        found = next((row for row in reader if row), [])
        header = _check_header(self._given, [name.strip() for name in found])
        absent = [name for name in self._where if name not in header]
        if absent:
            problem = f"{self._given}: no column {absent[0]!r} to select rows by; found columns: {', '.join(found)}"
            raise InputError(problem)
        return reader, _Layout(self.name, header, found)

    def _not_text(self) -> InputError:
        with open_bytes(self._given) as file:
            place = bad_byte(file)
        return InputError(f"{self._given}: byte {place} is not UTF-8 text; save the manifest as CSV in UTF-8")


def bad_byte(file: BinaryIO) -> int:
    """The first byte that is not UTF-8 text: where a file is decoded in blocks, the error does not say."""
    decoder, place = codecs.getincrementaldecoder("utf-8")(), 0
    try:
        while block := file.read(MAX_LINE):
            decoder.decode(block)
            place += len(block)
    except UnicodeDecodeError as error:
        return place + error.start - len(decoder.getstate()[0])
    return 0


def _check_header(path: str, found: list[str]) -> list[str]:
    """The column names with aliases resolved: an alias stands in only where the name itself is absent."""
    header = [ALIASES[name] if name in ALIASES and ALIASES[name] not in found else name for name in found]
    for name in REQUIRED:
        if name not in header:
            alias = next(alias for alias, meaning in ALIASES.items() if meaning == name)
            near = get_close_matches(name.lower(), [other.lower() for other in found], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(
                f"{path} row 1: no column {name!r} (or {alias!r}); found columns: {', '.join(found)}{hint}; {FORM}"
            )
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise InputError(f"{path} row 1: column {twice[0]!r} occurs {header.count(twice[0])} times; expected it once")
    return header


class _BadCellError(Exception):
    """A cell that cannot be used; the reader adds the file, the row and the name that the file gives the column."""

    def __init__(self, column: str, found: str, expected: str) -> None:
        self.column, self.found, self.expected = column, found, expected


class _Layout:
    """Where each column of one file is; turns its rows into utterances."""

    def __init__(self, path: str, header: list[str], found: list[str]) -> None:
        self.folder = os.path.dirname(path)  # noqa: PTH120  (Path spoils URLs)
        self.found = dict(zip(header, found, strict=True))
        self.num_columns = len(header)
        self.id, self.duration, self.wav = (header.index(name) for name in REQUIRED)
        self.spans = [(name, header.index(name) if name in header else None) for name in SPANS]
        # A nameless column (the index that pandas writes) is no label.
        self.labels = [(i, name) for i, name in enumerate(header) if name and name not in REQUIRED + SPANS]

    def utterance(self, cells: list[str], origin: str) -> Utterance:
        if len(cells) != self.num_columns:
            problem = f"{origin}: found {len(cells)} cells, but the header names {self.num_columns} columns"
            raise InputError(f"{problem}; put a cell that holds the separator in double quotes")
        name, wav = cells[self.id].strip(), cells[self.wav].strip()
        if not name:
            raise _BadCellError("ID", name, "a name that no other row has")
        if not wav:
            raise _BadCellError("wav", wav, "the path of an audio file, relative to the manifest's folder or absolute")
        start, stop = (None if i is None else _sample_index(column, cells[i]) for column, i in self.spans)
        if stop is not None and (start or 0) >= stop:
            raise _BadCellError("stop", str(stop), f"a sample index above start, which is {start or 0}")
        if is_url(wav):
            try:
                check_named_by_file(wav, f"{origin}, column {self.found['wav']!r}", asked=self.folder)
            except UnusableURLError as error:
                raise InputError(str(error)) from None
        duration = _number(cells[self.duration])
        if not 0 < duration <= MAX_DURATION_S:
            found = cells[self.duration].strip()
            expected = f"a positive number of seconds, with a decimal point, at most {MAX_DURATION_S:.0e}"
            raise _BadCellError("duration", found, expected)
        labels = {column: cells[i].strip() for i, column in self.labels}
        return Utterance(name, join_place(self.folder, wav), duration, start, stop, labels, origin)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _sample_index(column: str, cell: str) -> int | None:
    """Blank: None. `48000.0` is taken too: pandas writes whole numbers so where a column has gaps."""
    if not cell.strip():
        return None
    number = _number(cell)
    if not (0 <= number <= MAX_SAMPLE and number.is_integer()):
        raise _BadCellError(column, cell.strip(), "a whole number of samples, at least 0")
    return int(number)
