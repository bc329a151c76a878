"""What a person gives to be embedded: files, folders, manifests, shards, as one stream of utterances."""

import hashlib
import logging
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dino_speech.audio.io import find_audio
from dino_speech.audio.sources import join_place, printable
from dino_speech.audio.urls import is_url
from dino_speech.data.manifest import read_headers
from dino_speech.data.rows import ManifestRows
from dino_speech.data.shards.reading import INDEX, MANIFEST, is_shards, shards_folder
from dino_speech.data.utterances import Manifest, Skipped, Utterance
from dino_speech.distributed import is_main_process
from dino_speech.errors import InputError

logger = logging.getLogger(__name__)

MANIFEST_SUFFIXES = (".csv", ".tsv")
UNKNOWN_S = 0.0  # duration of a file whose header was not read yet


@dataclass(frozen=True, slots=True)
class Survey:
    """What one pass over all utterances found: how many, and a hash of their IDs and spans in order."""

    num_utterances: int
    sha256: str


class Inputs:
    """Utterances one after the other, to be gone through as often as needed; InputError: an input does not exist.

    Given are audio files, folders, manifests (CSV), folders of shards or their `index.json` (the latter two also as
    URLs), or the utterances themselves. Of manifests and shards one row at a time is in memory, of folders the names.
    The ID of a file in a folder is its path relative to the folder, that of a single file is its path as given. Where
    folders hold equal names, IDs begin with the last parts of the folders' paths, as many as tell them apart.
    """

    def __init__(self, inputs: Sequence[str | Path] | Manifest) -> None:
        self._sources: list[Iterable[Utterance]] = [inputs] if isinstance(inputs, Manifest) else []
        self._sources = self._sources or [_source(os.fspath(name)) for name in inputs]  # type: ignore[arg-type]
        _tell_apart([source for source in self._sources if isinstance(source, _Files)])

    def __iter__(self) -> Iterator[Utterance]:
        for source in self._sources:
            yield from source

    def survey(self) -> Survey:
        """Count them all, in little memory; InputError: two have one ID, or a manifest has a bad row."""
        digest, hashes = hashlib.sha256(), array("Q")
        for u in self:
            digest.update(f"{u.id}\x1f{u.start}\x1f{u.stop}\n".encode())
            hashes.append(_hash(u.id))
        seen, counts = np.unique(np.frombuffer(hashes, np.uint64), return_counts=True)
        if (counts > 1).any():
            self._refuse_duplicates(set(seen[counts > 1].tolist()))
        return Survey(len(hashes), digest.hexdigest())

    def _refuse_duplicates(self, suspects: set[int]) -> None:
        first: dict[str, Utterance] = {}
        for u in self:
            if _hash(u.id) in suspects and first.setdefault(u.id, u) is not u:
                places = f"{first[u.id].origin} and {u.origin}"
                raise InputError(f"found ID {u.id!r} twice, in {places}; expected unique IDs: rename one of them")


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def _source(name: str) -> Iterable[Utterance]:
    path = Path(name)
    if path.suffix.lower() in MANIFEST_SUFFIXES and (is_url(name) or path.exists()):
        return ManifestRows(name)
    if is_url(name) or path.name == INDEX or is_shards(name):
        return ManifestRows(join_place(shards_folder(name), MANIFEST))
    if path.is_dir():
        return _Files(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; give audio files, folders, manifests (CSV) or shards")
    return [Utterance(name, os.path.abspath(path), UNKNOWN_S, origin=name)]  # noqa: PTH100


class _Files:
    """The audio files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.root = Path(os.path.normpath(folder.absolute()))
        self.names = [file.relative_to(self.root).as_posix() for file in find_audio(self.root)]
        self.prefix = ""  # of the IDs

    def __iter__(self) -> Iterator[Utterance]:
        for name in self.names:
            id_ = printable(self.prefix + name)
            yield Utterance(id_, os.path.join(self.root, name), UNKNOWN_S, origin=id_)  # noqa: PTH118


def _tell_apart(folders: Sequence[_Files]) -> None:
    """Give folders that hold equal names the shortest ends of their paths that differ as prefixes."""
    names = [name for folder in folders for name in folder.names]
    if len(set(names)) == len(names):
        return
    paths = [folder.root.parts for folder in folders]
    twice = [folder.root for folder, path in zip(folders, paths, strict=True) if paths.count(path) > 1]
    if twice:
        raise InputError(f"{twice[0]}: given twice; give each folder once")
    length = next(n for n in range(1, 1 + max(map(len, paths))) if len({path[-n:] for path in paths}) == len(paths))
    for folder, path in zip(folders, paths, strict=True):
        folder.prefix = f"{Path(*path[-length:]).as_posix().rstrip('/')}/"
    if is_main_process():
        shown = ", ".join(printable(folder.prefix) for folder in folders)
        logger.info("the folders hold equal names: IDs begin with %s", shown)


def with_durations(utterances: Sequence[Utterance]) -> tuple[list[Utterance], list[Skipped]]:
    """Fill in the durations that only the files know; those whose header cannot be read are in the second list."""
    unknown = [u for u in utterances if u.duration == UNKNOWN_S]
    answers = dict(zip((u.id for u in unknown), read_headers([Path(u.wav) for u in unknown]), strict=True))
    known, skipped = [], []
    for u in utterances:
        answer = answers.get(u.id)
        if isinstance(answer, str):
            skipped.append(Skipped(u.id, answer))
        else:
            known.append(u if answer is None else replace(u, duration=answer.duration_s))
    return known, skipped


def collect(inputs: Sequence[str | Path]) -> Manifest:
    """All inputs as one manifest; files whose header cannot be read are in `.skipped`. Raises as `Inputs`."""
    utterances, skipped = with_durations(list(Inputs(inputs)))
    return Manifest(utterances, skipped=skipped)
