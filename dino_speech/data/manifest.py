"""Manifests on disk: a CSV with `ID`, `duration`, `wav` and label columns, checked row by row while it is read.

SpeechBrain's `DynamicItemDataset.from_csv` reads the same files. A `row` in a message is the line of the file as an
editor or a spreadsheet shows it: the header is row 1. What a manifest holds is in `utterances.py`, trials are in
`trials.py`, decoding in `audio/io.py`.
"""

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from difflib import get_close_matches
from pathlib import Path

from dino_speech.audio.io import AudioError, AudioInfo, audio_info, find_audio
from dino_speech.data.utterances import Manifest, Skipped, Utterance, list_some
from dino_speech.errors import InputError

__all__ = [
    "Manifest",
    "Skipped",
    "Utterance",
    "check_files",
    "read_headers",
    "read_manifest",
    "scan_folder",
    "write_manifest",
]

ALIASES = {"utt_id": "ID", "path": "wav", "duration_s": "duration"}
REQUIRED = ("ID", "duration", "wav")
SPANS = ("start", "stop")
FORM = "expected a header such as ID,duration,wav,speaker"
NUM_THREADS = 8  # headers are read side by side: on network storage the waiting dominates

StrPath = str | os.PathLike[str]
Where = Mapping[str, str | Sequence[str]]


def read_manifest(
    path: StrPath | Sequence[StrPath], *, where: Where | None = None, must_exist: bool = False
) -> Manifest:
    """Read one manifest, or join several.

    Comma, semicolon and tab are all taken as the separator; a byte-order mark and Windows line ends do not matter.

    Args:
        path: a CSV file, or a list of them. Relative `wav` paths are relative to their own file's folder.
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
    manifests = [_read_one(Path(p), where or {}) for p in paths]
    columns = dict.fromkeys(name for manifest in manifests for name in manifest.columns)
    joined = Manifest(
        (utterance for manifest in manifests for utterance in manifest),
        paths=[p for manifest in manifests for p in manifest.paths],
        columns=list(columns),
    )
    joined = joined.select(**where) if where else joined
    if must_exist:
        check_files(joined)
    return joined


def check_files(manifest: Manifest) -> None:
    """Look for every audio file before work begins.

    Raises:
        InputError: some do not exist; the message counts them and names the first few.
    """
    known = {path: Path(path).is_file() for path in {utterance.wav for utterance in manifest}}
    missing = [f"{u.origin or u.id}: {u.wav}" for u in manifest if not known[u.wav]]
    if missing:
        raise InputError(
            f"{manifest.name}: column 'wav': {len(missing)} of {len(manifest)} audio files do not exist"
            f" ({list_some(missing)}); relative paths start at the manifest's folder: correct them, or remove the rows"
        )


def write_manifest(manifest: Manifest, path: StrPath) -> Path:
    """Write a manifest; audio below its folder gets a relative path, other audio an absolute one.

    The file is written beside its place and moved there, so that nobody ever reads half of it. Returns its path.
    """
    target = Path(os.path.normpath(Path(path).absolute()))
    with_spans = any(u.start is not None or u.stop is not None for u in manifest)
    header = [*REQUIRED, *(SPANS if with_spans else ()), *manifest.columns]
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    folder = f"{target.parent}{os.sep}"
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for u in manifest:
            spans = ["" if value is None else value for value in (u.start, u.stop)] if with_spans else []
            labels = (u.labels.get(name, "") for name in manifest.columns)
            writer.writerow([u.id, round(u.duration, 6), u.wav.removeprefix(folder), *spans, *labels])
    partial.replace(target)
    return target


def scan_folder(folder: StrPath, *, speaker_from_parent: bool = False) -> Manifest:
    """A manifest of all audio below a folder; an ID is the file's path relative to it, with forward slashes.

    Args:
        folder: searched with all its subfolders.
        speaker_from_parent: take the name of the folder that a file lies in as its `speaker`; files that lie directly
            in `folder` have none.

    Returns:
        The readable files, sorted; those whose header cannot be read are in `.skipped` with the reason.

    Raises:
        InputError: there is no such folder, or no readable audio in it.
    """
    root = Path(os.path.normpath(Path(folder).absolute()))
    files = find_audio(root)
    utterances, skipped = [], []
    for file, answer in zip(files, read_headers(files), strict=True):
        name = file.relative_to(root).as_posix()
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
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return list(pool.map(_info_or_reason, files))


def _info_or_reason(file: Path) -> AudioInfo | str:
    try:
        return audio_info(file)
    except AudioError as error:
        return str(error)


def _read_one(path: Path, where: Where) -> Manifest:
    """All rows of one file, not yet selected; `where` only says which columns it must have."""
    text = _read_text(path)
    first_line = text.lstrip().partition("\n")[0]
    delimiter = max(",;\t", key=first_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    found = next((row for row in reader if row), [])
    header = _check_header(path, [name.strip() for name in found])
    absent = [name for name in where if name not in header]
    if absent:
        raise InputError(f"{path}: no column {absent[0]!r} to select rows by; found columns: {', '.join(found)}")
    utterances, layout = [], _Layout(path, header)
    try:
        for cells in reader:
            if cells:
                utterances.append(layout.utterance(cells, f"{path} row {reader.line_num}"))
    except csv.Error as error:
        raise InputError(f"{path} row {reader.line_num}: not valid CSV ({error}); check its quotes") from error
    except _BadCellError as error:
        place = f"{path} row {reader.line_num}, column {found[header.index(error.column)]!r}"
        raise InputError(f"{place}: found {error.found!r}; expected {error.expected}") from None
    if not utterances:
        raise InputError(f"{path}: has a header but no rows; expected at least one utterance")
    return Manifest(utterances, paths=[os.path.normpath(path.absolute())], columns=[name for _, name in layout.labels])


def _read_text(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder; expected a manifest (CSV)") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a manifest (CSV)") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8 text; save the manifest as CSV in UTF-8") from error
    if not text.strip():
        raise InputError(f"{path}: the file is empty; {FORM}")
    return text


def _check_header(path: Path, found: list[str]) -> list[str]:
    """The column names with aliases resolved: an alias stands in only where the name itself is absent."""
    header = [ALIASES[name] if name in ALIASES and ALIASES[name] not in found else name for name in found]
    for name in REQUIRED:
        if name not in header:
            alias = next(alias for alias, meaning in ALIASES.items() if meaning == name)
            near = get_close_matches(name.lower(), [other.lower() for other in found], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(
                f"{path} row 1: no column {name!r} (or {alias!r}); found columns: {', '.join(found)}{hint}; {FORM}"
            )
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise InputError(f"{path} row 1: column {twice[0]!r} occurs {header.count(twice[0])} times; expected it once")
    return header


class _BadCellError(Exception):
    """A cell that cannot be used; the reader adds the file, the row and the name that the file gives the column."""

    def __init__(self, column: str, found: str, expected: str) -> None:
        self.column, self.found, self.expected = column, found, expected


class _Layout:
    """Where each column of one file is; turns its rows into utterances."""

    def __init__(self, path: Path, header: list[str]) -> None:
        self.folder = os.path.normpath(path.absolute().parent)
        self.num_columns = len(header)
        self.id, self.duration, self.wav = (header.index(name) for name in REQUIRED)
        self.spans = [(name, header.index(name) if name in header else None) for name in SPANS]
        # A nameless column (the index that pandas writes) is no label.
        self.labels = [(i, name) for i, name in enumerate(header) if name and name not in REQUIRED + SPANS]

    def utterance(self, cells: list[str], origin: str) -> Utterance:
        if len(cells) != self.num_columns:
            raise InputError(
                f"{origin}: found {len(cells)} cells, but the header names {self.num_columns} columns;"
                " put a cell that holds the separator in double quotes"
            )
        name, wav = cells[self.id].strip(), cells[self.wav].strip()
        if not name:
            raise _BadCellError("ID", name, "a name that no other row has")
        if not wav:
            raise _BadCellError("wav", wav, "the path of an audio file, relative to the manifest's folder or absolute")
        start, stop = (None if i is None else _sample_index(column, cells[i]) for column, i in self.spans)
        if stop is not None and (start or 0) >= stop:
            raise _BadCellError("stop", str(stop), f"a sample index above start, which is {start or 0}")
        return Utterance(
            name,
            os.path.normpath(os.path.join(self.folder, wav)),  # noqa: PTH118  (Path costs ten times as much per row)
            _positive_seconds(cells[self.duration]),
            start,
            stop,
            {column: cells[i].strip() for i, column in self.labels},
            origin,
        )


def _positive_seconds(cell: str) -> float:
    try:
        seconds = float(cell)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise _BadCellError("duration", cell.strip(), "a positive number of seconds, with a decimal point")
    return seconds


def _sample_index(column: str, cell: str) -> int | None:
    """Blank: None. `48000.0` is taken too: pandas writes whole numbers so where a column has gaps."""
    if not cell.strip():
        return None
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not (number >= 0 and number.is_integer()):
        raise _BadCellError(column, cell.strip(), "a whole number of samples, at least 0")
    return int(number)
