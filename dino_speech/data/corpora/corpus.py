"""What a corpus is: its facts, stated once. What is done with them is in `preparing.py`, its files are a `Tree`.

All corpora share the names of emotions (`CANONICAL`), so that a system trained on one can be tested on another; a blank
(`UNLABELLED`) stands where a corpus means no single emotion (no agreement, other), or where common usage leaves the
class out. What a corpus itself wrote stays in the column `original_label`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dino_speech.data.corpora.tree import NamedFile, Tree
from dino_speech.errors import InputError

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


def decode(codes: Mapping[str, Any], code: str, what: str, place: object) -> Any:
    """What a corpus means by a code, as it is written or in small letters.

    Args:
        codes: the corpus's codes.
        code: what the corpus wrote.
        what: the column, for the message.
        place: file, and row if there is one, for the message.

    Raises:
        InputError: the corpus has no such code.
    """
    if code in codes:
        return codes[code]
    if code.lower() in codes:
        return codes[code.lower()]
    raise InputError(
        f"{place}: {what} {code!r} is none of this corpus ({', '.join(codes)}); correct the label or the file's name,"
        " or take the file out"
    )
