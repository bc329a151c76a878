"""The rows of a manifest; many of them in little memory: some tens of bytes a row instead of some hundred.

Rows that are objects cost 565 bytes each, and again in each reading process: whoever looks at a Python object writes
its reference count, and the page that it lies on is copied. So a long manifest is packed into columns of bytes and
numbers, which all processes that are forked share, and a row is made when it is asked for.
"""

import itertools
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, overload

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.packed.texts import Paths, Texts

# Rows that are packed together, so that the codes of repeated texts fit into 16 bits, and little more than the packed
# rows is in memory meanwhile. A shorter manifest keeps its objects, in at most 9 MB. # ours
BLOCK = 16_384
NONE = np.iinfo(np.int64).min  # a start or stop that is not given
# What stands for the row number of an origin such as "train.csv row 17" where it is another text, the ID, or the file.
TEXT, THE_ID, THE_FILE = -1, -2, -3


@dataclass(frozen=True, slots=True)
class Utterance:
    """One row of a manifest: `duration` in seconds, `wav` an absolute path, the span in samples, blank labels as "".

    `start` None is 0, `stop` (exclusive) None the end of the file; `origin` is file and row that it came from.
    """

    id: str
    wav: str
    duration: float
    start: int | None = None
    stop: int | None = None
    labels: dict[str, str] = field(default_factory=dict)
    origin: str = field(default="", compare=False, repr=False)

    @property
    def span(self) -> tuple[str, int | None, int | None]:
        """What is heard, whatever it is called: file, start, stop."""
        return self.wav, self.start, self.stop


def pack(utterances: Iterable[Utterance]) -> "list[Utterance] | PackedUtterances":
    """The utterances, packed where they are many."""
    if isinstance(utterances, PackedUtterances):
        return utterances if len(utterances) >= BLOCK else list(utterances)
    rows = iter(utterances)
    first = list(itertools.islice(rows, BLOCK))
    if len(first) < BLOCK:
        return first
    blocks = [_Block(first)]
    del first
    while more := list(itertools.islice(rows, BLOCK)):
        blocks.append(_Block(more))
    return PackedUtterances(blocks)


class PackedUtterances(Sequence[Utterance]):
    """Many utterances; `rows` are the positions of those that are meant and their order, None: all."""

    def __init__(self, blocks: "Sequence[_Block]", rows: NDArray[np.int64] | None = None) -> None:
        self._blocks, self._rows = blocks, rows
        self._starts = [0, *itertools.accumulate(map(len, blocks))]

    def __len__(self) -> int:
        return self._starts[-1] if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> "PackedUtterances": ...
    def __getitem__(self, index: int | slice) -> "Utterance | PackedUtterances":
        if isinstance(index, slice):
            return self.take(range(len(self))[index])
        row = range(len(self))[index]  # counts from the end, and refuses what is beyond
        if self._rows is not None:
            row = int(self._rows[row])
        block = bisect_right(self._starts, row) - 1
        return self._blocks[block][row - self._starts[block]]

    def __iter__(self) -> Iterator[Utterance]:
        rows = self._rows
        if rows is None:
            yield from itertools.chain.from_iterable(self._blocks)
        elif (np.diff(rows) <= 0).any():
            yield from (self[index] for index in range(len(self)))
        else:  # in order: a block is unpacked at once, which is several times as quick
            places = np.searchsorted(rows, self._starts)
            for number, block in enumerate(self._blocks):
                wanted = set((rows[places[number] : places[number + 1]] - self._starts[number]).tolist())
                yield from (row for place, row in enumerate(block if wanted else ()) if place in wanted)

    def ids(self) -> Iterator[str]:
        """The IDs alone."""
        if self._rows is None:
            return itertools.chain.from_iterable(block.ids for block in self._blocks)
        return (utterance.id for utterance in self)

    def take(self, indices: Iterable[int]) -> "PackedUtterances":
        """Those at these positions, in this order; what is packed is shared."""
        rows = np.fromiter(indices, np.int64)
        return PackedUtterances(self._blocks, rows if self._rows is None else self._rows[rows])


class Files(Sequence[str]):
    """The audio file of each row, read when it is asked for."""

    def __init__(self, utterances: Sequence[Utterance]) -> None:
        self._utterances = utterances

    def __len__(self) -> int:
        return len(self._utterances)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Files": ...
    def __getitem__(self, index: int | slice) -> "str | Files":
        found = self._utterances[index]
        return found.wav if isinstance(found, Utterance) else Files(found)


class _Block:
    """Up to `BLOCK` utterances. A file's path is its folder, and the rest around the ID where that is part of it."""

    def __init__(self, utterances: Sequence[Utterance]) -> None:
        self.ids = Paths([u.id for u in utterances])
        parts = [u.wav.rpartition(u.id) if u.id else ("", "", u.wav) for u in utterances]
        # "=.wav" is what follows the ID, "" that the path does not hold it.
        self._before = Paths([before if found else after for before, found, after in parts])
        self._after = Texts(f"={after}" if found else "" for _, found, after in parts)
        self._durations = np.array([u.duration for u in utterances], np.float64)
        self._starts = _numbers([u.start for u in utterances])
        self._stops = _numbers([u.stop for u in utterances])
        columns = dict.fromkeys(name for u in utterances for name in u.labels)
        self._labels = {name: Texts(u.labels.get(name) for u in utterances) for name in columns}
        origins = [_number_at_end(u) for u in utterances]
        self._origins = Texts(text for text, _ in origins)
        rows = [row for _, row in origins]
        self._rows = np.array(rows, np.min_scalar_type(min(THE_FILE, -1 - max(rows))))

    def __len__(self) -> int:
        return len(self._durations)

    def __getitem__(self, row: int) -> Utterance:
        starts, stops = self._starts, self._stops
        start, stop = (None if column is None else int(column[row]) for column in (starts, stops))
        labels = [texts[row] for texts in self._labels.values()]
        fields = self.ids[row], self._before[row], self._after[row], float(self._durations[row]), start, stop
        return self._utterance(*fields, labels, self._origins[row], int(self._rows[row]))

    def __iter__(self) -> Iterator[Utterance]:
        starts, stops = (
            itertools.repeat(None) if column is None else column.tolist() for column in (self._starts, self._stops)
        )
        labels = zip(*self._labels.values(), strict=True) if self._labels else itertools.repeat(())
        fields = self.ids, self._before, self._after, self._durations.tolist(), starts, stops
        return map(self._utterance, *fields, labels, self._origins, self._rows.tolist())

    def _utterance(
        self,
        name: str,
        before: str,
        after: str,
        duration: float,
        start: int | None,
        stop: int | None,
        labels: Iterable[str | None],
        origin: str,
        row: int,
    ) -> Utterance:
        wav = f"{before}{name}{after[1:]}" if after else before
        known = ReadOnly((key, value) for key, value in zip(self._labels, labels, strict=True) if value is not None)
        place = f"{origin}{row}" if row >= 0 else {TEXT: origin, THE_ID: name, THE_FILE: wav}[row]
        return Utterance(name, wav, duration, _given(start), _given(stop), known, place)


class ReadOnly(dict[str, str]):
    """The labels of a packed row, which is made anew each time: what were written there would be lost."""

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(
            "the rows of a long manifest cannot be changed in place; make a new one, such as "
            "Manifest(dataclasses.replace(row, labels={**row.labels, 'sex': 'F'}) for row in manifest)"
        )

    __setitem__ = __delitem__ = setdefault = update = pop = popitem = clear = __ior__ = _refuse

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


def _numbers(found: Sequence[int | None]) -> NDArray[np.int64] | None:
    if all(number is None for number in found):
        return None
    return np.array([NONE if number is None else number for number in found], np.int64)


def _given(number: int | None) -> int | None:
    return None if number is None or number == NONE else number


def _number_at_end(utterance: Utterance) -> tuple[str, int]:
    """An origin as the text before a row number, and that; or what stands for it."""
    origin = utterance.origin
    if origin in (utterance.id, utterance.wav):
        return "", THE_ID if origin == utterance.id else THE_FILE
    number = origin.rpartition(" ")[2]
    if number.isdecimal() and number.isascii() and len(number) < 19 and str(int(number)) == number:
        return origin.removesuffix(number), int(number)
    return origin, TEXT
