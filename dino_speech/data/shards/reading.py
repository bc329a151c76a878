"""Reading shards: their manifest, whose utterances lie within tar archives, and whether the archives are whole.

Nothing else needs to know of shards: an utterance's `wav` is the place of its bytes within an archive (see
`audio/sources.py`), so training, embedding and evaluation read it like a file.
"""

import os
from pathlib import Path
from typing import Any

from dino_speech.audio.sources import join_place, open_bytes
from dino_speech.audio.urls import is_url
from dino_speech.data.manifest import Manifest, read_manifest
from dino_speech.data.rows import StrPath, Where
from dino_speech.errors import InputError
from dino_speech.received_files import MAX_JSON_BYTES, parse_json

INDEX, MANIFEST, FAILURES = "index.json", "manifest.csv", "failures.csv"
VERSION = 1


def read_shards(source: StrPath, *, where: Where | None = None) -> Manifest:
    """The utterances of shards, in the order of the manifest that they were made of.

    Args:
        source: the folder that `write_shards` wrote, or its `index.json`; a path or a URL.
        where: keep only rows with these values, as in `read_manifest`.

    Raises:
        InputError: there are no shards, one is missing or was cut off, or nothing is left by `where`.
    """
    folder = shards_folder(source)
    index = read_index(folder)
    if not is_url(folder):
        _refuse_damaged(Path(folder), index)
    return read_manifest(join_place(folder, MANIFEST), where=where)


def shards_folder(source: StrPath) -> str:
    """The folder of shards, given itself or its `index.json`."""
    name = os.fspath(source)
    folder = name.removesuffix(INDEX) if name.endswith(INDEX) else name
    return folder if is_url(folder) else str(Path(folder))


def is_shards(folder: StrPath) -> bool:
    """Whether a local folder holds shards."""
    return all(Path(folder, name).is_file() for name in (INDEX, MANIFEST)) and any(Path(folder).glob("shard-*.tar"))


def read_index(folder: StrPath) -> dict[str, Any]:
    """What `index.json` of a folder of shards says, refused where it is damaged or of a later version."""
    place = join_place(os.fspath(folder), INDEX)
    try:
        with open_bytes(place) as file:
            index: dict[str, Any] = parse_json(file.read(MAX_JSON_BYTES))
    except (OSError, ValueError) as error:
        problem = f"{place}: no index of shards ({error}); give the folder that `dino-speech shard` wrote to its end"
        raise InputError(problem) from error
    if not isinstance(index, dict) or index.get("version", VERSION) > VERSION or "shards" not in index:
        raise InputError(f"{place}: not an index of shards that this version of dino_speech can read")
    shards: list[Any] = index["shards"] if isinstance(index["shards"], list) else [None]
    for shard in shards:
        # A shard lies beside its index: a name that leads elsewhere is not one that `write_shards` gave.
        named = isinstance(shard, dict) and Path(str(shard.get("file", "/"))).parent == Path()
        if not named or "num_bytes" not in shard:
            raise InputError(f"{place}: damaged: expected file and num_bytes of each shard; found {str(shard)[:100]}")
    return index


def _refuse_damaged(folder: Path, index: dict[str, Any]) -> None:
    for shard in index["shards"]:
        path = folder / shard["file"]
        size = os.path.getsize(path) if os.path.isfile(path) else None  # noqa: PTH113, PTH202  (Path: no long names)
        if size != shard["num_bytes"]:
            found = "is missing" if size is None else f"has {size} bytes"
            problem = f"{path}: {found}; expected {shard['num_bytes']} bytes: copy it again, or write the shards again"
            raise InputError(problem)
