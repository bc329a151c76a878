"""Finished parts of a long piece of work, each in a file that is named by all that the part depends on."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dino_speech import __version__
from dino_speech.data.atomic import read_json, write_atomically, write_json_atomically
from dino_speech.studies.grid import safe_name

Arrays = dict[str, NDArray[Any]]
Part = TypeVar("Part")


class Kept:
    """Parts in a folder: asked for again, with the same dependencies, a part is read instead of made.

    A part is written in one move, so that it is complete or absent whenever the process is killed; one that cannot be
    read is made again. Another version of this package makes all parts anew.

    Args:
        folder: made with its parents when the first part is finished.
        depends_on: plain data that all parts depend on.
        reuse: False makes every part once more.
    """

    def __init__(self, folder: Path, depends_on: Any = None, *, reuse: bool = True) -> None:
        self.folder = folder
        self.depends_on = depends_on
        self.reuse = reuse

    def data(self, name: str, depends_on: Any, make: Callable[[], Any]) -> Any:
        """Plain data, as JSON holds it.

        Args:
            name: of the part, for people.
            depends_on: plain data, beside what all parts depend on.
            make: called where there is no such part yet.
        """
        return self._part(self._path(name, depends_on, "json"), make, read_json, write_json_atomically)

    def arrays(self, name: str, depends_on: Any, make: Callable[[], Mapping[str, NDArray[Any]]]) -> Arrays:
        """Arrays by name; the arguments are those of `data`."""
        return self._part(self._path(name, depends_on, "npz"), lambda: dict(make()), _read_arrays, _write_arrays)

    def _path(self, name: str, depends_on: Any, suffix: str) -> Path:
        facts = json.dumps([__version__, self.depends_on, depends_on], sort_keys=True, default=str)
        return self.folder / f"{safe_name(name)}_{hashlib.sha256(facts.encode()).hexdigest()[:12]}.{suffix}"

    def _part(
        self, path: Path, make: Callable[[], Part], read: Callable[[Path], Part], write: Callable[[Path, Part], None]
    ) -> Part:
        if self.reuse and path.is_file():
            try:
                return read(path)
            except (OSError, ValueError, KeyError):  # damaged: made again
                pass
        part = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, part)
        return part


def _read_arrays(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _write_arrays(path: Path, arrays: Arrays) -> None:
    write_atomically(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]
