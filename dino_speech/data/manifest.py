"""Manifests on disk: a CSV with `ID`, `duration`, `wav` and label columns, checked row by row while it is read.

SpeechBrain's `DynamicItemDataset.from_csv` reads the same files. Rows are read in `rows.py`.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from dino_speech.audio.io import AudioError, AudioInfo, audio_info, find_audio
from dino_speech.audio.sources import exists, file_of, printable
from dino_speech.data.atomic import write_rows_atomically
from dino_speech.data.in_threads import in_order, watched
from dino_speech.data.rows import REQUIRED, SPANS, ManifestRows, StrPath, Where
from dino_speech.data.utterances import Manifest, Skipped, Utterance, list_some
from dino_speech.errors import InputError

NUM_THREADS = 8  # headers are read side by side: on network storage the waiting dominates


def read_manifest(
    path: StrPath | Sequence[StrPath], *, where: Where | None = None, must_exist: bool = False
) -> Manifest:
    """Read one manifest, or join several.

    Comma, semicolon and tab are all taken as the separator; a byte-order mark and Windows line ends do not matter.

    Args:
        path: a CSV file or its URL, or a list of them. Relative `wav` paths are relative to their own file's folder; a
            path may also be a URL, or a member of a tar archive (see `audio/sources.py`).
        where: keep only rows with these values, for example `{"split": ["pretrain", "train"]}`; every file needs the
            columns named here.
        must_exist: look for every audio file now (see `check_files`).

    Raises:
        InputError: the file is missing or empty, a column is missing, an ID occurs twice (in one file or across
            files), a row has a wrong number of cells, an empty ID or path, a duration that is not a positive number,
            or start >= stop; nothing is left by `where`; an audio file is missing and `must_exist` is given.

    Example:
        >>> import pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp(), "train.csv")
        >>> _ = file.write_text("ID,duration,wav,speaker\\na,1.5,a.wav,anna\\nb,2.0,b.wav,ben\\n")
        >>> read_manifest(file, where={"speaker": "ben"})[0].duration
        2.0
    """
    paths = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    if not paths:
        raise InputError("read_manifest was given no file; expected at least one CSV")
    manifests = [_read_one(p, where or {}) for p in paths]
    joined = manifests[0]
    if len(manifests) > 1:
        columns = dict.fromkeys(name for manifest in manifests for name in manifest.columns)
        sources = [p for manifest in manifests for p in manifest.paths]
        joined = Manifest((row for manifest in manifests for row in manifest), paths=sources, columns=list(columns))
    joined = joined.select(**where) if where else joined
    if must_exist:
        check_files(joined)
    return joined


def check_files(manifest: Manifest) -> None:
    """Look for every audio file before work begins; an InputError counts the missing ones and names the first few."""
    known = {file: exists(file) for file in {file_of(utterance.wav) for utterance in manifest}}
    missing = [f"{u.origin or u.id}: {u.wav}" for u in manifest if not known[file_of(u.wav)]]
    if missing:
        raise InputError(
            f"{manifest.name}: column 'wav': {len(missing)} of {len(manifest)} audio files do not exist"
            f" ({list_some(missing)}); relative paths start at the manifest's folder: correct them, or remove the rows"
        )


def write_manifest(manifest: Manifest, path: StrPath) -> Path:
    """Write a manifest, in one move; audio below its folder gets a relative path, other audio an absolute one."""
    target = Path(os.path.normpath(Path(path).absolute()))
    with_spans = any(u.start is not None or u.stop is not None for u in manifest)
    header = [*REQUIRED, *(SPANS if with_spans else ()), *manifest.columns]
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = f"{target.parent}{os.sep}"

    def rows() -> Iterator[list[object]]:
        yield header
        for u in manifest:
            spans = ["" if value is None else value for value in (u.start, u.stop)] if with_spans else []
            labels = (u.labels.get(name, "") for name in manifest.columns)
            yield [u.id, round(u.duration, 6), u.wav.removeprefix(folder), *spans, *labels]

    write_rows_atomically(target, rows())
    return target


def scan_folder(folder: StrPath, *, speaker_from_parent: bool = False) -> Manifest:
    """A manifest of all readable audio below a folder, sorted; IDs are paths relative to it, with forward slashes.

    Files whose header cannot be read are in `.skipped` with the reason. `speaker_from_parent`: the name of the folder
    that a file lies in is its `speaker`; files that lie directly in `folder` have none.
    """
    root = Path(os.path.normpath(Path(folder).absolute()))
    files = find_audio(root)
    utterances, skipped = [], []
    for file, answer in zip(files, read_headers(files), strict=True):
        name = printable(file.relative_to(root).as_posix())
        if isinstance(answer, str):
            skipped.append(Skipped(name, answer))
            continue
        speaker = file.parent.name if file.parent != root else ""
        labels = {"speaker": speaker} if speaker_from_parent else {}
        utterances.append(Utterance(name, str(file), answer.duration_s, labels=labels, origin=name))
    if not utterances:
        reasons = list_some([f"{s.name}: {s.reason}" for s in skipped])
        raise InputError(f"{root}: none of {len(skipped)} audio files can be read ({reasons})")
    columns = ["speaker"] if speaker_from_parent else []
    return Manifest(utterances, paths=[str(root / "manifest.csv")], columns=columns, skipped=skipped)


def read_headers(files: Sequence[Path]) -> list[AudioInfo | str]:
    """What the header of each file says, or the reason why it cannot be read."""
    answers = in_order(_info_or_reason, files, NUM_THREADS)
    return list(watched(answers, len(files), "reading headers"))


def _info_or_reason(file: Path) -> AudioInfo | str:
    try:
        return audio_info(file)
    except AudioError as error:
        return str(error)


def _read_one(path: StrPath, where: Where) -> Manifest:
    """All rows of one file, not yet selected; `where` only says which columns it must have."""
    selected = ManifestRows(path, where=where)
    rows = ManifestRows(path) if where else selected
    manifest = Manifest(rows, paths=[rows.name], columns=rows.columns)
    if not len(manifest):
        raise InputError(f"{path}: has a header but no rows; expected at least one utterance")
    return manifest
