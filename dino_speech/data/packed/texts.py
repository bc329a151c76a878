"""Many texts in little memory: bytes and numbers, of which equal ones are kept once."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np


class Texts(Sequence[str | None]):
    """Texts, of which those that are equal are kept once; None is kept too."""

    def __init__(self, texts: Iterable[str | None]) -> None:
        numbers: dict[str | None, int] = {}
        codes = [numbers.setdefault(text, len(numbers)) for text in texts]
        self._codes = np.array(codes, np.min_scalar_type(len(numbers)))
        # Names of files that are not UTF-8 hold halves of surrogates.
        encoded = [(text or "").encode("utf-8", "surrogatepass") for text in numbers]
        ends = np.cumsum([0, *map(len, encoded)])
        self._bytes, self._ends = b"".join(encoded), ends.astype(np.min_scalar_type(ends[-1]))
        self._none = numbers.get(None, -1)

    def __len__(self) -> int:
        return len(self._codes)

    def __getitem__(self, index: Any) -> Any:
        return self._decoded(int(self._codes[index]))

    def __iter__(self) -> Iterator[str | None]:
        known = [self._decoded(code) for code in range(len(self._ends) - 1)]
        return map(known.__getitem__, self._codes.tolist())

    def _decoded(self, code: int) -> str | None:
        if code == self._none:
            return None
        return self._bytes[self._ends[code] : self._ends[code + 1]].decode("utf-8", "surrogatepass")


class Paths:
    """Texts that are kept in two parts, because those of many files begin with few folders."""

    def __init__(self, texts: Sequence[str]) -> None:
        parts = [text.rpartition("/") for text in texts]
        self._folders = Texts(folder + slash for folder, slash, _ in parts)
        self._names = Texts(name for _, _, name in parts)

    def __getitem__(self, row: int) -> str:
        return f"{self._folders[row]}{self._names[row]}"

    def __iter__(self) -> Iterator[str]:
        return (f"{folder}{name}" for folder, name in zip(self._folders, self._names, strict=True))
