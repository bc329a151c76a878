"""What the preparation of every corpus shares: finding files, writing manifest, problems and summary.

A corpus's module states its facts (`Corpus`), reads its own names and tables into `Row`s, and notes in `Findings` what
it did not find or did not use. Emotions are in `emotions.py`, tables are read in `tables.py`.

Written to the output folder: `manifest.csv` (every row); `emotion.csv` or `diagnosis.csv` (the rows whose label is
known, only where some have none); `missing.txt`, `extra.txt`, `dropped.txt`, `unreadable.txt` where there is something
to say; `prepared.json` (all of the summary) and `README.md` (counts).
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dino_speech.audio.io import SAMPLE_RATE, find_audio
from dino_speech.data.corpora.summary import counts_page
from dino_speech.data.folds import check_disjoint
from dino_speech.data.manifest import Manifest, Utterance, read_headers, write_manifest
from dino_speech.data.utterances import list_some
from dino_speech.errors import InputError


@dataclass(frozen=True, slots=True)
class Corpus:
    """What is known of a corpus.

    Attributes:
        name: as in the column `corpus`.
        licence: one line.
        layout: what is expected below the folder, for messages.
        columns: label columns of the manifest, in order; `corpus` is added.
        label: the column that the corpus is for: "emotion" or "diagnosis".
        num_utterances: of the complete corpus, None: not known.
        num_speakers: of the complete corpus, None: not known.
        may_share: splits that may have speakers in common with one another.
    """

    name: str
    licence: str
    layout: str
    columns: tuple[str, ...]
    label: str = "emotion"
    num_utterances: int | None = None
    num_speakers: int | None = None
    may_share: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One utterance to be: its ID, its file, its labels, and a span in samples at 16 kHz where it is part of a file."""

    id: str
    file: Path
    labels: dict[str, str]
    span: tuple[int, int] | None = None


@dataclass
class Findings:
    """Rows, and what is to be told: `missing` was expected, `extra` was not, `dropped` is left out on purpose."""

    rows: list[Row] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)


def audio_below(source: str | Path, layout: str) -> list[Path]:
    """All audio of a corpus, sorted.

    Raises:
        InputError: no such folder, or no audio in it; says what layout is expected.
    """
    folder = Path(source).absolute()
    if not folder.is_dir():
        raise InputError(f"{source}: no such folder; expected {layout}")
    try:
        return find_audio(folder)
    except InputError as error:
        raise InputError(f"{error}; expected {layout}") from None


def match_names(
    files: Iterable[Path], pattern: "re.Pattern[str]", findings: Findings, source: str | Path
) -> dict[str, tuple["re.Match[str]", Path]]:
    """Files whose name without its suffix has the corpus's form, by that name; all others are noted as extra.

    Of several files of one name a wav goes first: the others may have been made from it.
    """
    found: dict[str, tuple[re.Match[str], Path]] = {}
    for file in sorted(files, key=lambda file: (file.suffix.lower() != ".wav", file)):
        match = pattern.fullmatch(file.stem)
        if match is None:
            findings.extra.append(f"{relative(file, source)}: not a name of this corpus")
        elif file.stem in found:
            findings.extra.append(f"{relative(file, source)}: a second copy of {relative(found[file.stem][1], source)}")
        else:
            found[file.stem] = (match, file)
    return found


def relative(file: Path, source: str | Path) -> str:
    """The path below the corpus's folder."""
    return file.relative_to(Path(source).absolute()).as_posix()


def refuse_leaks(manifest: Manifest, column: str, *, name: str, may_share: Sequence[str] = ()) -> None:
    """Refuse splits or folds that have a speaker in common.

    Args:
        manifest: with the columns `speaker` and `column`; blank cells are not compared.
        column: "split" or "fold".
        name: of the corpus, for the message.
        may_share: parts that may have speakers in common with one another.

    Raises:
        InputError: naming the two parts and the speakers.
    """
    parts: dict[str, set[str]] = {}
    for utterance in manifest:
        parts.setdefault(utterance.labels.get(column, ""), set()).add(utterance.labels.get("speaker", ""))
    found = sorted(parts.keys() - {""})
    for i, first in enumerate(found):
        for second in found[i + 1 :]:
            if first in may_share and second in may_share:
                continue
            try:
                check_disjoint(sorted(parts[first]), sorted(parts[second]))
            except InputError as error:
                raise InputError(f"{name}: {column} {first} and {second}: {error}") from None


def write_corpus(corpus: Corpus, findings: Findings, source: str | Path, output: str | Path) -> dict[str, Any]:
    """Read the durations, check the splits, write everything (see above).

    Returns:
        Summary: `corpus`, `manifest`, `num_utterances`, `num_speakers`, `num_official_utterances`,
        `num_official_speakers`, `hours`, `counts` {column: {value: utterances}}, `without_label` {original label:
        utterances}, and `missing`, `extra`, `dropped`, `unreadable` (lists, also written as txt).

    Raises:
        InputError: no file is readable, or a speaker is on two sides of a split.
    """
    manifest, unreadable = build_manifest(corpus, findings.rows, source)
    for column in ("split", "fold"):
        if column in manifest.columns:
            refuse_leaks(manifest, column, name=corpus.name, may_share=corpus.may_share)
    folder = Path(output)
    problems = {
        "missing": findings.missing,
        "extra": findings.extra,
        "dropped": findings.dropped,
        "unreadable": unreadable,
    }
    summary = {
        "corpus": corpus.name,
        "manifest": str(write_manifest(manifest, folder / "manifest.csv")),
        "num_utterances": len(manifest),
        "num_official_utterances": corpus.num_utterances,
        "num_speakers": len(set(manifest.label("speaker")) - {""}),
        "num_official_speakers": corpus.num_speakers,
        "hours": round(manifest.duration_s / 3600, 3),
        "counts": _counts(manifest, corpus),
        "without_label": _without_label(manifest, corpus, folder),
        **problems,
    }
    write_problems(problems, folder)
    _write_text(folder / "prepared.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    _write_text(folder / "README.md", counts_page(manifest, summary, label=corpus.label, licence=corpus.licence))
    return summary


def build_manifest(corpus: Corpus, rows: Sequence[Row], source: str | Path) -> tuple[Manifest, list[str]]:
    """The manifest of all readable rows in the order of their IDs, and the files that cannot be read.

    Raises:
        InputError: there is no row, or none is readable.
    """
    if not rows:
        raise InputError(f"{source}: no file of {corpus.name} in it; expected {corpus.layout}")
    rows = sorted(rows, key=lambda row: row.id)
    utterances, unreadable = [], []
    for row, info in zip(rows, read_headers([row.file for row in rows]), strict=True):
        if isinstance(info, str):
            unreadable.append(info)
            continue
        start, stop = row.span or (None, None)
        duration = info.duration_s
        if start is not None and stop is not None:
            stop = min(stop, info.num_samples_at(SAMPLE_RATE))
            duration = (stop - start) / SAMPLE_RATE
        if duration <= 0:
            unreadable.append(f"{row.file}: span {row.id} begins at sample {start}, after the end of the file")
            continue
        labels = {**dict.fromkeys(corpus.columns, ""), **row.labels, "corpus": corpus.name}
        utterances.append(Utterance(row.id, os.path.normpath(row.file), duration, start, stop, labels, str(row.file)))
    if not utterances:
        raise InputError(f"{source}: none of {len(rows)} files can be read ({list_some(unreadable)})")
    return Manifest(utterances, columns=[*corpus.columns, "corpus"]), unreadable


def write_further(corpus: Corpus, rows: Sequence[Row], source: str | Path, path: Path) -> tuple[int, list[str]]:
    """A second manifest of the same corpus, such as parts of its recordings: how many rows, and what is unreadable."""
    path.unlink(missing_ok=True)
    if not rows:
        return 0, []
    manifest, unreadable = build_manifest(corpus, rows, source)
    write_manifest(manifest, path)
    return len(manifest), unreadable


def write_problems(problems: dict[str, list[str]], output: Path) -> None:
    """One txt per kind of problem; those of an earlier run that are solved go away."""
    for name, lines in problems.items():
        path = output / f"{name}.txt"
        path.unlink(missing_ok=True)
        if lines:
            _write_text(path, "".join(f"{line}\n" for line in lines))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _counts(manifest: Manifest, corpus: Corpus) -> dict[str, dict[str, int]]:
    columns = [name for name in (corpus.label, "split", "fold", "sex") if name in manifest.columns]
    return {name: dict(sorted(Counter(manifest.label(name)).items())) for name in columns}


def _without_label(manifest: Manifest, corpus: Corpus, folder: Path) -> dict[str, int]:
    """How many rows of each original label have no label of ours; the others get a manifest of their own."""
    labelled = [i for i, value in enumerate(manifest.label(corpus.label)) if value]
    path = folder / f"{corpus.label}.csv"
    path.unlink(missing_ok=True)
    if len(labelled) == len(manifest):
        return {}
    if labelled:
        write_manifest(manifest.subset(labelled), path)
    original = "original_label" if "original_label" in manifest.columns else corpus.label
    blank = [u.labels[original] for u in manifest if not u.labels[corpus.label]]
    return dict(sorted(Counter(blank).items()))
