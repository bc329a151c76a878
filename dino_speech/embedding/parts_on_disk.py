"""Embeddings on disk: a folder of parts that is written as the work goes on and read as one, or one file.

A part holds embeddings that follow each other in the input, and the reasons of those that are missing: it is complete
or absent. `index.json` is written last.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.atomic import read_json, write_json_atomically
from dino_speech.data.loading.skipped import write_failures
from dino_speech.data.resumable_store import DAMAGED, read_arrays
from dino_speech.data.utterances import Skipped
from dino_speech.embedding.one_file import checked, read_file
from dino_speech.errors import InputError
from dino_speech.models.embed_files import Embeddings

INDEX, FAILURES = "index.json", "failures.csv"
VERSION = 1


def part_path(folder: Path, number: int) -> Path:
    """Where a part of a folder is."""
    return folder / f"part-{number:06d}.npz"


def pack(found: Embeddings) -> dict[str, NDArray[Any]]:
    """Embeddings as named arrays."""
    return {
        "ids": np.array(found.ids, dtype=str),
        "embeddings": found.embeddings,
        "failed_ids": np.array([item.name for item in found.failures], dtype=str),
        "failed_reasons": np.array([item.reason for item in found.failures], dtype=str),
    }


def unpack(arrays: Mapping[str, NDArray[Any]]) -> Embeddings:
    """The inverse."""
    failed = zip(arrays["failed_ids"].tolist(), arrays["failed_reasons"].tolist(), strict=True)
    return Embeddings(arrays["ids"].tolist(), arrays["embeddings"], [Skipped(*item) for item in failed])


def read_part(path: Path, dim: int | None = None) -> Embeddings:
    """One part of a folder, whole by the checksums that npz files have; InputError: it is missing or damaged."""
    try:
        return checked(unpack(read_arrays(path)), dim)
    except DAMAGED as error:
        cure = "the same `dino-speech embed` command makes it again"
        raise InputError(f"{path}: a part of embeddings, missing or damaged ({error}); {cure}") from error


def write_index(folder: Path, num_parts: int, facts: dict[str, Any]) -> None:
    """Write `failures.csv` and then `index.json` of a folder whose parts are all there."""
    parts: list[dict[str, Any]] = []
    failures: list[Skipped] = []
    dim = 0
    for path in (part_path(folder, number) for number in range(num_parts)):
        part = read_part(path)
        failures += part.failures
        dim = part.embeddings.shape[1]
        parts.append({"file": path.name, "num_embedded": len(part.ids), "num_skipped": len(part.failures)})
    write_failures(failures, folder / FAILURES)
    counts = {"num_embedded": sum(part["num_embedded"] for part in parts), "num_skipped": len(failures)}
    index = {"version": VERSION, **counts, "embedding_dim": dim, **facts, "parts": parts}
    write_json_atomically(folder / INDEX, index)


def embedding_parts(path: str | Path) -> Iterator[Embeddings]:
    """The embeddings part by part, so that all need not fit into memory; of a file, one part."""
    path = Path(path)
    if path.is_dir():
        if not (path / INDEX).is_file():
            raise InputError(
                f"{path}: no {INDEX}: it holds no embeddings, or embedding was stopped; the same `dino-speech embed`"
                " command goes on with it"
            )
        try:
            index = read_json(path / INDEX)
            num_parts, dim = len(index["parts"]), int(index["embedding_dim"])
            if not num_parts:
                raise ValueError("it names no part")
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise InputError(f"{path / INDEX}: damaged ({error}); copy the folder again") from error
        # By number: no name in the index leads out of the folder.
        yield from (read_part(part_path(path, number), dim) for number in range(num_parts))
    else:
        yield read_file(path)


def read_embeddings(path: str | Path) -> Embeddings:
    """What `dino-speech embed` wrote, a file (npz, csv, parquet) or a folder, in the order of its input.

    Returns:
        `ids` (N,), `embeddings` (N, D) float32, and `failures` (of a folder) with their reasons.

    Raises:
        InputError: there is no such file or folder, it holds no embeddings, or not all of them yet.
    """
    parts = list(embedding_parts(path))
    if not parts:
        raise InputError(f"{path}: holds no embeddings; the same `dino-speech embed` command makes them")
    return Embeddings(
        [name for part in parts for name in part.ids],
        np.concatenate([part.embeddings for part in parts]),
        [failure for part in parts for failure in part.failures],
    )
