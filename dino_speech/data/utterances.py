"""What a manifest holds: utterances with unique IDs, spans and labels. Files are read and written in `manifest.py`."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import overload

import numpy as np

from dino_speech.data.packed.utterances import Files, PackedUtterances, Utterance, pack
from dino_speech.errors import InputError
from dino_speech.plain_data import PlainData

NUM_LISTED = 5  # how many bad entries a message names before it only counts


@dataclass(frozen=True, slots=True)
class Skipped(PlainData):
    """Something that was left out, and why; reports list these."""

    name: str
    reason: str


class Manifest(Sequence[Utterance]):
    """A sequence of utterances with unique IDs; from 16,384 on they are packed, and cannot be changed in place.

    Args:
        utterances: the rows.
        paths: the files that they came from; their folders are what relative paths refer to.
        columns: names of the label columns; None: those that occur.
        skipped: files that `scan_folder` could not use.
    """

    def __init__(
        self,
        utterances: Iterable[Utterance],
        *,
        paths: Sequence[str] = (),
        columns: Sequence[str] | None = None,
        skipped: Sequence[Skipped] = (),
    ) -> None:
        self._utterances = pack(utterances)
        self.paths = tuple(paths)
        found = dict.fromkeys(name for row in self._utterances for name in row.labels) if columns is None else columns
        self.columns = tuple(found)
        self.skipped = tuple(skipped)
        _refuse_duplicates(self._utterances)

    def __len__(self) -> int:
        return len(self._utterances)

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> "Manifest": ...
    def __getitem__(self, index: int | slice) -> "Utterance | Manifest":
        return self.subset(range(len(self))[index]) if isinstance(index, slice) else self._utterances[index]

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self._utterances)

    def __repr__(self) -> str:
        return f"Manifest({self.name}: {len(self)} utterances, {self.duration_s / 3600:.2f} h, labels {self.columns})"

    @property
    def path(self) -> str | None:
        """The file, where there is one only."""
        return self.paths[0] if len(self.paths) == 1 else None

    @property
    def name(self) -> str:
        """For messages: the files, joined by a plus sign."""
        return " + ".join(self.paths) or "manifest"

    @property
    def files(self) -> Sequence[str]:
        """The audio file of each row, (N,)."""
        return Files(self._utterances)

    @property
    def duration_s(self) -> float:
        """Seconds of all utterances together."""
        return math.fsum(utterance.duration for utterance in self)

    def label(self, name: str, *, allow_blank: bool = True) -> list[str]:
        """One label column, (N,) strings, "" where the cell is blank.

        Raises:
            InputError: there is no such column, or a cell is blank and `allow_blank` is False.
        """
        if name not in self.columns:
            near = get_close_matches(name, self.columns, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(f"{self.name}: no column {name!r}; label columns are {', '.join(self.columns)}{hint}")
        values = [utterance.labels.get(name, "") for utterance in self]
        blank = [utterance.origin or utterance.id for utterance, value in zip(self, values, strict=True) if not value]
        if blank and not allow_blank:
            problem = f"{self.name}: column {name!r} is blank in {len(blank)} of {len(self)} rows ({list_some(blank)})"
            raise InputError(f"{problem}; expected a label in each; fill them in, or select the labelled rows")
        return values

    def numbers(self, name: str, *, allow_blank: bool = True) -> list[float]:
        """One label column of numbers, (N,), NaN where the cell is blank.

        Raises:
            InputError: there is no such column, a cell is no finite number, or blank and `allow_blank` is False.
        """
        numbers = []
        for utterance, cell in zip(self, self.label(name, allow_blank=allow_blank), strict=True):
            try:
                number = float(cell or "nan")
            except ValueError:
                number = math.nan
            if cell and not math.isfinite(number):
                place = utterance.origin or f"{self.name}, {utterance.id}"
                raise InputError(f"{place}, column {name!r}: found {cell!r}; expected a number, with a decimal point")
            numbers.append(number)
        return numbers

    def by_id(self) -> dict[str, int]:
        """Position of each ID."""
        return {utterance.id: position for position, utterance in enumerate(self)}

    def by_path(self) -> dict[str, int]:
        """Position of each audio file (absolute path); -1 for a file that several rows share as segments."""
        positions: dict[str, int] = {}
        for position, utterance in enumerate(self):
            positions[utterance.wav] = -1 if utterance.wav in positions else position
        return positions

    def subset(self, indices: Iterable[int]) -> "Manifest":
        """The utterances at these positions, in this order."""
        rows = self._utterances
        chosen = rows.take(indices) if isinstance(rows, PackedUtterances) else [rows[i] for i in indices]
        return Manifest(chosen, paths=self.paths, columns=self.columns)

    def select(self, **where: str | Sequence[str]) -> "Manifest":
        """The utterances whose labels have the given value, or one of the given values.

        Example: `manifest.select(split="test", sex=["F", "M"])`.

        Raises:
            InputError: no such column, or nothing is left.
        """
        kept = list(range(len(self)))
        for name, wanted in where.items():
            values = self.label(name)
            allowed = {wanted} if isinstance(wanted, str) else set(wanted)
            kept = [i for i in kept if values[i] in allowed]
            if not kept:
                found = ", ".join(sorted(set(values))[:20])
                raise InputError(f"{self.name}: no row has {name} in {sorted(allowed)}; found values: {found}")
        return self.subset(kept)


def list_some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are, for a message."""
    more = f" and {len(names) - NUM_LISTED} more" if len(names) > NUM_LISTED else ""
    return ", ".join(names[:NUM_LISTED]) + more


def _refuse_duplicates(utterances: Sequence[Utterance]) -> None:
    # Numbers and not the IDs themselves, which would be held in memory once more.
    ids = utterances.ids() if isinstance(utterances, PackedUtterances) else (row.id for row in utterances)
    hashes = np.fromiter(map(hash, ids), np.int64, len(utterances))
    found, counts = np.unique(hashes, return_counts=True)
    if found.size == hashes.size:
        return
    first: dict[str, Utterance] = {}
    for row in np.flatnonzero(np.isin(hashes, found[counts > 1])).tolist():
        utterance = utterances[row]
        if utterance.id in first:
            earlier = first[utterance.id]
            places = f"{earlier.origin} and {utterance.origin}" if utterance.origin else "two places"
            problem = f"column 'ID': found {utterance.id!r} twice, in {places}"
            raise InputError(f"{problem}; expected unique IDs. Rename one of them, or remove the row that was copied")
        first[utterance.id] = utterance
