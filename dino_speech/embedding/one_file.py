"""Embeddings in one file, of the format that its name says: npz, csv or parquet.

An npz holds `ids` (N,) and `embeddings` (N, D). The two tables have the columns `ID`, `embedding_0`, ...,
`embedding_<D-1>`; all three give back the very float32 numbers. Letters: `N` utterances, `D` embedding.
"""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.atomic import as_it_was, inert, write_atomically, write_rows_atomically
from dino_speech.data.resumable_store import DAMAGED, read_arrays, write_arrays
from dino_speech.errors import InputError, UsageError
from dino_speech.models.embed_files import Embeddings

Named = tuple[list[str], NDArray[np.float32]]


def check_format(path: Path) -> None:
    """Refuse a name that ends in no format of ours, or in one whose package is missing, before there is any work."""
    if path.suffix.lower() not in FORMATS:
        problem = f"{path}: embeddings are not written as {path.suffix or 'a file without ending'}"
        raise UsageError(f"{problem}; expected a name in {', '.join(FORMATS)}, or a folder of parts: {path}/")
    if path.suffix.lower() == ".parquet":
        _parquet()


def write_file(path: Path, found: Embeddings) -> None:
    """Write the embeddings, in one move; what was left out is not in the file."""
    check_format(path)
    FORMATS[path.suffix.lower()][1](path, found.ids, found.embeddings)


def read_file(path: Path) -> Embeddings:
    """The inverse; of a name with another ending an npz file is expected. InputError: it holds no embeddings."""
    try:
        ids, embeddings = FORMATS.get(path.suffix.lower(), FORMATS[".npz"])[0](path)
        return checked(Embeddings(ids, embeddings, []))
    except (*DAMAGED, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: no embeddings ({error}); give what `dino-speech embed` wrote") from error


def checked(found: Embeddings, dim: int | None = None) -> Embeddings:
    """The embeddings, `dim` numbers each; a ValueError where they are no such thing."""
    ids, kind, shape = np.array(found.ids, dtype=str), found.embeddings.dtype, found.embeddings.shape
    if kind.kind != "f" or len(shape) != 2 or ids.shape != shape[:1] or dim not in (None, shape[1]):
        wanted = "" if dim is None else f" of {dim} dimensions"
        raise ValueError(f"{ids.size} ids for {kind} of the shape {shape}; expected floats{wanted}")
    return found


def _read_npz(path: Path) -> Named:
    arrays = read_arrays(path)
    return arrays["ids"].tolist(), arrays["embeddings"]


def _write_npz(path: Path, ids: list[str], embeddings: NDArray[np.float32]) -> None:
    write_arrays(path, {"ids": np.array(ids), "embeddings": embeddings})


def _columns(dim: int) -> list[str]:
    return ["ID", *(f"embedding_{number}" for number in range(dim))]


def _read_csv(path: Path) -> Named:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        dim = _dim(next(reader, []))
        ids, rows = [], []
        for cells in reader:
            if len(cells) != dim + 1:
                raise ValueError(f"row {reader.line_num}: {len(cells)} cells; expected {dim + 1}")
            try:
                rows.append(np.array(cells[1:], dtype=np.float32))
            except ValueError as error:
                raise ValueError(f"row {reader.line_num}: {error}") from error
            ids.append(as_it_was(cells[0]))
    return ids, np.array(rows, dtype=np.float32).reshape(-1, dim)


def _write_csv(path: Path, ids: list[str], embeddings: NDArray[np.float32]) -> None:
    def rows() -> Iterator[list[object]]:
        yield list(_columns(embeddings.shape[1]))
        for name, row in zip(ids, embeddings, strict=True):
            yield [inert(name), *(f"{value:.9g}" for value in row.tolist())]  # nine digits tell float32 apart

    write_rows_atomically(path, rows())


def _read_parquet(path: Path) -> Named:
    table = _parquet().read_table(path)
    dim = _dim(table.column_names)
    embeddings = np.empty((table.num_rows, dim), np.float32)
    for number in range(dim):
        embeddings[:, number] = table.column(number + 1).to_numpy()
    return table.column(0).to_pylist(), embeddings


def _write_parquet(path: Path, ids: list[str], embeddings: NDArray[np.float32]) -> None:
    parquet = _parquet()
    import pyarrow

    arrays = [pyarrow.array(ids, pyarrow.string()), *map(pyarrow.array, np.ascontiguousarray(embeddings.T))]
    table = pyarrow.Table.from_arrays(arrays, names=_columns(embeddings.shape[1]))
    write_atomically(path, lambda file: parquet.write_table(table, file))


def _dim(header: list[str]) -> int:
    """`D` of a table's header."""
    dim = len(header) - 1
    if dim < 1 or header != _columns(dim):
        raise ValueError(f"found the columns {', '.join(header[:3]) or 'none'}; expected ID, embedding_0, ...")
    return dim


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        problem = f"parquet files need pyarrow, which cannot be imported ({error})"
        raise InputError(f"{problem}: pip install 'dino-speech[parquet]', or take .npz or .csv") from error
    return pyarrow.parquet


FORMATS: dict[str, tuple[Callable[[Path], Named], Callable[[Path, list[str], NDArray[np.float32]], None]]] = {
    ".npz": (_read_npz, _write_npz),
    ".csv": (_read_csv, _write_csv),
    ".parquet": (_read_parquet, _write_parquet),
}
