"""What a corpus is: its facts, stated once. What is done with them is in `preparing.py`, its files are a `Tree`.

All corpora share the names of emotions (`CANONICAL`), so that a system trained on one can be tested on another; a blank
(`UNLABELLED`) stands where a corpus means no single emotion (no agreement, other), or where common usage leaves the
class out. What a corpus itself wrote stays in the column `original_label`.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from dino_speech.audio.io import find_audio, walk_files
from dino_speech.audio.sources import printable
from dino_speech.errors import InputError
from dino_speech.received_files import read_bytes

SEX = {"male": "M", "m": "M", "0": "M", "female": "F", "f": "F", "1": "F"}  # 0, 1: ADReSS


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A sound file whose name (its `id`) has the corpus's form; `file["speaker"]` is a part of the name."""

    id: str
    path: Path
    place: str
    groups: dict[str, str]

    def __getitem__(self, group: str) -> str:
        return self.groups[group]


class Tree:
    """The files of a corpus, all sound files sorted in `audio`, and what is noted on the way to a manifest.

    `missing` was expected and is not there, `extra` is there and was not expected, `dropped` is left out on purpose;
    `expected` says where IDs are named, and which. InputError, with the layout that is expected: no audio in it.
    """

    def __init__(self, source: str | Path, layout: str) -> None:
        self.source, self.layout, self._folder = source, layout, Path(source).absolute()
        self.missing: list[str] = []
        self.extra: list[str] = []
        self.dropped: list[str] = []
        self.expected: dict[str, Iterable[str]] = {}
        if not self._folder.is_dir():
            raise InputError(f"{source}: no such folder; expected {layout}")
        try:
            self.audio = find_audio(self._folder)
        except InputError as error:
            raise InputError(f"{error}; expected {layout}") from None

    @cached_property
    def _files(self) -> list[Path]:
        return sorted(walk_files(self._folder), key=lambda path: (len(path.parts), path))

    def place(self, path: Path) -> str:
        """The path below the corpus's folder."""
        return printable(path.relative_to(self._folder).as_posix())

    def named(self, files: Iterable[Path], form: "re.Pattern[str]") -> list[NamedFile]:
        """The files whose name without its suffix has this form; all others are noted as extra.

        Of several files of one name a wav goes first: the others may have been made from it.
        """
        found: dict[str, NamedFile] = {}
        for path in sorted(files, key=lambda path: (path.suffix.lower() != ".wav", path)):
            match = form.fullmatch(path.stem)
            if match is None:
                self.extra.append(f"{self.place(path)}: not a name of this corpus")
            elif path.stem in found:
                self.extra.append(f"{self.place(path)}: a second copy of {found[path.stem].place}")
            else:
                found[path.stem] = NamedFile(path.stem, path, self.place(path), match.groupdict())
        return list(found.values())

    def find(self, *names: str) -> list[Path]:
        """Files of these names (patterns such as `*.csv` too, case ignored), those nearest to the top first.

        All files of the first name go before those of the second.
        """
        return [path for name in names for path in self._files if fnmatchcase(path.name.lower(), name.lower())]

    def table(self, *names: str, columns: Sequence[str], otherwise: str | None = None, **form: Any) -> "list[Cells]":
        """The rows of the first of several tables (named as `find` takes them) that is there, with these columns at
        least.

        `otherwise` is noted as missing where there is none; None: it holds the labels, and has to be there. `form` is
        handed to `read_table`.
        """
        if found := self.find(*names):
            return read_table(found[0], columns, **form)
        if otherwise is None:
            named = " or ".join(names)
            raise InputError(f"{self.source}: no file {named} in it; it holds the labels: expected {self.layout}")
        self.missing += [otherwise] if otherwise else []
        return []


@dataclass(frozen=True, slots=True)
class Cells:
    """One row of a table: its cells by column name (case ignored), and its place for messages."""

    place: str
    values: dict[str, str]

    def __getitem__(self, column: str) -> str:
        """The cell, "" where the table has no such column."""
        return self.values.get(column.lower(), "")

    def number(self, column: str) -> str:
        """The cell as `number` gives it."""
        return number(self[column], self.place, column)

    def sex(self, column: str) -> str:
        """M or F; "" for anything else."""
        return SEX.get(self[column].lower(), "")

    def coded(self, column: str, codes: Mapping[str, str], expected: str) -> str:
        """What the cell's code means, case ignored; InputError says what was expected."""
        if self[column].lower() not in codes:
            raise InputError(f"{self.place}, column {column!r}: found {self[column]!r}; expected {expected}")
        return codes[self[column].lower()]


def read_table(
    path: Path, required: Sequence[str], *, delimiter: str = ",", quoting: Literal[0, 3] = csv.QUOTE_MINIMAL
) -> list[Cells]:
    """A table with a header, all of whose rows have as many cells; cells without spaces around them."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8 text; take the owners' own file") from error
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting)
    try:
        lines = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise InputError(f"{path} row {reader.line_num}: no table ({error}); take the owners' own file") from error
    header = [cell.strip().lower() for cell in (lines[0][1] if lines else [])]
    if absent := [name for name in required if name.lower() not in header]:
        raise InputError(
            f"{path} row 1: no column {absent[0]!r}; found {', '.join(header) or 'nothing'}; take the owners' own file"
        )
    rows = []
    for row, cells in lines[1:]:
        if not any(cell.strip() for cell in cells):
            continue
        place = f"{path} row {row}"
        if len(cells) != len(header):
            raise InputError(f"{place}: found {len(cells)} cells; expected {len(header)}, as in the header")
        rows.append(Cells(place, dict(zip(header, (cell.strip() for cell in cells), strict=True))))
    return rows


def number(cell: str, place: str, column: str) -> str:
    """A number as the manifest writes it; "" for a blank and for NA; InputError for anything else."""
    if cell.lower() in ("", "na", "n/a", "nan", "none"):
        return ""
    try:
        return f"{float(cell):.10g}"
    except ValueError:
        raise InputError(f"{place}, column {column!r}: found {cell!r}; expected a number, or NA") from None


CANONICAL = (
    *("angry", "bored", "calm", "contemptuous", "disgusted"),
    *("fearful", "happy", "neutral", "sad", "surprised"),
)
UNLABELLED = ""

Labels = dict[str, str]


@dataclass(frozen=True, slots=True)
class Row:
    """One utterance to be: its ID, its file, its labels, and a span in samples at 16 kHz where it is part of a file."""

    id: str
    file: Path
    labels: Labels
    span: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Further:
    """A second manifest of the same corpus, such as parts of its recordings, named "chunks.csv" or so.

    The keys are those of the summary for the number of its rows and for what cannot be read; `split` gives the rows of
    the manifest and those of this one.
    """

    file: str
    num_key: str
    unreadable_key: str
    split: Callable[[Tree, list[Row]], tuple[list[Row], list[Row]]]


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """The facts of a corpus. Of what a file's name holds, each group that is a column becomes a label.

    Attributes:
        name: as in the column `corpus`.
        licence: one line.
        access: where its owners give it out.
        layout: what is expected below the folder, for messages.
        file_name: form of a file's name without its suffix, with named groups.
        columns: label columns of the manifest, in order; `corpus` is added.
        label: the column that the corpus is for: "emotion" or "diagnosis".
        speaker: the label `speaker`, made of groups: "emodb_{speaker}".
        codes: column -> the corpus's codes and what they mean.
        people: the group `speaker` -> further labels of each one; where it is given there are no others.
        num_utterances: of the complete corpus, None: not known.
        num_speakers: of the complete corpus, None: not known.
        may_share: splits that may have speakers in common with one another.
        gives_way: splits that lose the speakers who are also in another one, except in those before it.
        below: folders, one of which each file lies in at some depth; any other file is extra. None: anywhere.
        set_aside: path of a file below the folder -> why it is left out on purpose, or "".
        tables: what the corpus's tables say, in any form; notes in the tree which IDs they expect.
        labels: further labels of a file, given the tables; or why the file is not of the corpus.
        missing: what else was expected, given the files by ID and the tables, and is not there.
        further: a second manifest.
    """

    name: str
    licence: str
    access: str
    layout: str
    file_name: str
    columns: tuple[str, ...]
    label: str = "emotion"
    speaker: str = ""
    codes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    people: Mapping[str, Labels] = field(default_factory=dict)
    num_utterances: int | None = None
    num_speakers: int | None = None
    may_share: tuple[str, ...] = ()
    gives_way: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    set_aside: Callable[[str], str] = lambda place: ""
    tables: Callable[[Tree], Any] = lambda tree: None
    labels: Callable[[NamedFile, Any], Labels | str] = lambda file, tables: {}
    missing: Callable[[Mapping[str, NamedFile], Any], Iterable[str]] = lambda found, tables: ()
    further: Further | None = None

    def read(self, tree: Tree) -> list[Row]:
        """The rows of a tree; what is left out and what is missing is noted in it."""
        files, rows, found = [], [], {}
        for path in tree.audio:
            place = tree.place(path)
            if reason := self.set_aside(place):
                tree.dropped.append(f"{place}: {reason}")
            elif self.below and not {name.lower() for name in self.below} & {*place.lower().split("/")}:
                tree.extra.append(f"{place}: not below {self.below[0]}")
            else:
                files.append(path)
        tables = self.tables(tree)
        for file in tree.named(files, re.compile(self.file_name)):
            known = self.labels(file, tables)
            if isinstance(known, str):
                tree.extra.append(f"{file.place}: {known}")
            else:
                found[file.id] = file
                rows.append(Row(file.id, file.path, self._named_labels(file) | known))
        for where, names in tree.expected.items():
            tree.missing += [f"{name}.wav: named in {where}" for name in names if name not in found]
        tree.missing += self.missing(found, tables)
        return rows

    def _named_labels(self, file: NamedFile) -> Labels:
        """What the name says, and what is known of its speaker."""
        labels = {name: text for name, text in file.groups.items() if name in self.columns}
        if self.label in labels and "original_label" in self.columns:
            labels["original_label"] = labels[self.label]
        if self.people:
            labels |= decode(self.people, file["speaker"], "speaker", file.path)
        for column in (name for name in self.codes if name in file.groups):
            labels[column] = decode(self.codes[column], labels[column], column, file.path)
        return labels | ({"speaker": self.speaker.format(**file.groups)} if self.speaker else {})


def codes_of(text: str) -> dict[str, str]:
    """Codes and what they mean, from "W angry, L bored"."""
    return dict(pair.split() for pair in text.split(", "))


def decode(codes: Mapping[str, Any], code: str, what: str, place: object) -> Any:
    """What a corpus means by a code, as it is written or in small letters; `what` and `place` are for the refusal."""
    if code in codes:
        return codes[code]
    if code.lower() in codes:
        return codes[code.lower()]
    problem = f"{place}: {what} {code!r} is none of this corpus ({', '.join(codes)})"
    raise InputError(f"{problem}; correct the label or the file's name, or take the file out")
