"""What a collection of noises or rooms holds: its files, with what is known of each.

A collection is a manifest (CSV with `wav` or `path`, relative to it, and optionally `kind`, `category`, `rt60_s`), or a
folder. Decoding is `banks.py`'s business.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dino_speech.audio.decoding import StrPath
from dino_speech.audio.files import find_audio
from dino_speech.errors import InputError

KINDS = ("noise", "music", "speech", "rir")


@dataclass(frozen=True, slots=True)
class Sound:
    """One file of a noise or room collection."""

    path: Path
    kind: str
    category: str
    rt60_s: float | None


def list_sounds(source: StrPath, *, exclude: Sequence[str] = ()) -> list[Sound]:
    """The files of a noise or room collection.

    Args:
        source: a manifest; or a folder, which may hold a `manifest.csv`. In a folder without one, the kind of a file is
            the name of a folder above it (`noise`, `music`, `speech` as in MUSAN, `rir`), else "noise".
        exclude: categories to leave out (column `category`; in a folder, the name of the file's own folder).

    Raises:
        InputError: no such source, a manifest without a column for the path, an unknown kind, or nothing left.
    """
    source = Path(source)
    manifest = source / "manifest.csv" if source.is_dir() else source
    sounds = _from_manifest(manifest) if manifest.is_file() else [_from_path(p, source) for p in find_audio(source)]
    categories = {sound.category for sound in sounds}
    for name in exclude:
        if name not in categories:
            raise InputError(f"{source}: no category {name!r} to leave out; it has {', '.join(sorted(categories))}")
    kept = [sound for sound in sounds if sound.category not in exclude]
    if not kept:
        raise InputError(f"{source}: nothing is left of {len(sounds)} sounds; leave fewer categories out")
    return kept


def _from_path(path: Path, folder: Path) -> Sound:
    above = [part.lower() for part in path.relative_to(folder).parts[:-1]]
    kind = next((part for part in above if part in KINDS), "noise")
    return Sound(path, kind, above[-1] if above else "", None)


def _from_manifest(manifest: Path) -> list[Sound]:
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    sounds = []
    for number, row in enumerate(rows, start=2):
        path, kind = row.get("wav") or row.get("path"), row.get("kind") or "noise"
        kind = "speech" if kind == "babble" else kind
        if not path:
            raise InputError(f"{manifest} row {number}: no path; expected a column `wav` or `path`")
        if kind not in KINDS:
            raise InputError(f"{manifest} row {number}: kind is {kind!r}; expected one of {', '.join(KINDS)}")
        try:
            rt60_s = float(row["rt60_s"]) if row.get("rt60_s") else None
        except ValueError:
            raise InputError(f"{manifest} row {number}: rt60_s is {row['rt60_s']!r}; expected seconds") from None
        sounds.append(Sound(manifest.parent / path, kind, row.get("category") or "", rt60_s))
    if not sounds:
        raise InputError(f"{manifest}: no sounds; expected a row per file below the line of column names")
    return sounds
