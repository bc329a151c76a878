"""From the facts of a corpus and its files on disk to manifests, a summary, and lists of what is odd.

Written to the output folder: `manifest.csv` (every row); `emotion.csv` or `diagnosis.csv` (the rows whose label is
known, only where some have none); `missing.txt`, `extra.txt`, `dropped.txt`, `unreadable.txt` where there is something
to say; `prepared.json` (all of the summary) and `README.md` (counts).
"""

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dino_speech.audio.io import SAMPLE_RATE
from dino_speech.data.atomic import write_text_atomically
from dino_speech.data.corpora.corpus import Corpus, Row
from dino_speech.data.corpora.counts_page import counts_page
from dino_speech.data.corpora.tree import Tree
from dino_speech.data.folds import check_disjoint
from dino_speech.data.manifest import Manifest, Utterance, read_headers, write_manifest
from dino_speech.data.utterances import list_some
from dino_speech.errors import InputError


def prepare_corpus(corpus: Corpus, source: str | Path, output: str | Path) -> dict[str, Any]:
    """Read the names, tables and durations of a corpus, check its splits, and write everything (see above).

    Args:
        corpus: its facts.
        source: the corpus.
        output: where the files go; made if absent.

    Returns:
        Summary: `corpus`, `manifest`, `num_utterances`, `num_speakers`, `num_official_utterances`,
        `num_official_speakers`, `hours`, `counts` {column: {value: utterances}}, `without_label` {original label:
        utterances}, and `missing`, `extra`, `dropped`, `unreadable` (lists, also written as txt); the number of rows of
        a second manifest, and what of them is unreadable, under its own keys.

    Raises:
        InputError: no such folder, no file of the corpus or no readable one, what the corpus refuses, or a speaker on
            two sides of a split.
    """
    tree, folder = Tree(source, corpus.layout), Path(output)
    rows = corpus.read(tree)
    if corpus.further:
        rows, further_rows = corpus.further.split(tree, rows)
    manifest, unreadable = build_manifest(corpus, rows, source)
    for column in ("split", "fold"):
        if column in manifest.columns:
            refuse_leaks(manifest, column, name=corpus.name, may_share=corpus.may_share)
    problems = {"missing": tree.missing, "extra": tree.extra, "dropped": tree.dropped, "unreadable": unreadable}
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
    write_text_atomically(folder / "prepared.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    write_text_atomically(
        folder / "README.md", counts_page(manifest, summary, label=corpus.label, licence=corpus.licence)
    )
    if corpus.further:
        num, unreadable = _write_further(corpus, further_rows, source, folder / corpus.further.file)
        summary |= {corpus.further.num_key: num, corpus.further.unreadable_key: unreadable}
    return summary


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


def build_manifest(corpus: Corpus, rows: Sequence[Row], source: str | Path) -> tuple[Manifest, list[str]]:
    """The manifest of all readable rows in the order of their IDs, and the files that cannot be read.

    Raises:
        InputError: there is no row, or none is readable.
    """
    if not rows:
        raise InputError(f"{source}: no file of {corpus.name} in it; expected {corpus.layout}")
    columns = [*corpus.columns, "corpus"]
    utterances, unreadable = read_rows(sorted(rows, key=lambda row: row.id), columns, source)
    for utterance in utterances:
        utterance.labels["corpus"] = corpus.name
    return Manifest(utterances, columns=columns), unreadable


def read_rows(rows: Sequence[Row], columns: Sequence[str], source: str | Path) -> tuple[list[Utterance], list[str]]:
    """The rows whose files are readable, with blanks in the columns that they lack, and the files that are not.

    Raises:
        InputError: none is readable.
    """
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
        labels = {**dict.fromkeys(columns, ""), **row.labels}
        utterances.append(Utterance(row.id, os.path.normpath(row.file), duration, start, stop, labels, str(row.file)))
    if not utterances:
        raise InputError(f"{source}: none of {len(rows)} files can be read ({list_some(unreadable)})")
    return utterances, unreadable


def _write_further(corpus: Corpus, rows: Sequence[Row], source: str | Path, path: Path) -> tuple[int, list[str]]:
    """How many rows the second manifest has, and what is unreadable."""
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
            write_text_atomically(path, "".join(f"{line}\n" for line in lines))


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
