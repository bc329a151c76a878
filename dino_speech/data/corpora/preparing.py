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
from dino_speech.data.corpora.catalogue import CORPORA
from dino_speech.data.corpora.corpus import Corpus, Row, Tree
from dino_speech.data.folds import check_disjoint
from dino_speech.data.manifest import Manifest, Utterance, read_headers, scan_folder, write_manifest
from dino_speech.data.outputs import check_output
from dino_speech.data.trials import make_trials, write_trials
from dino_speech.data.utterances import list_some
from dino_speech.errors import InputError


def prepare(name: str, source: str | Path, output: str | Path, **options: Any) -> dict[str, Any]:
    """Make manifests of a corpus's own tree, as its owners give it out; a summary of what was found.

    `name` is one of `CORPORA`; `options` are those of `prepare_corpus`, or of the function that prepares the corpus.

    Raises:
        InputError: no such corpus or folder, no utterance in it, or what the corpus itself refuses: a code that it does
            not have, a file in the folder of another speaker, a table that says otherwise.
    """
    corpus = CORPORA[name]
    check_output(output)
    found = corpus(source, output, **options) if callable(corpus) else prepare_corpus(corpus, source, output, **options)
    return dict(found)


def prepare_corpus(
    corpus: Corpus, source: str | Path, output: str | Path, *, keep_shared_speakers: bool = False
) -> dict[str, Any]:
    """Read the names, tables and durations of a corpus, check its splits, and write everything (see above).

    Where the owners' splits have a speaker in common, the utterances are left out of what is learnt from
    (`Corpus.gives_way`); with `keep_shared_speakers` all stay where the owners put them, and results on the tests say
    in part how well known speakers are recognised. The summary's `shared_speakers` says how many, and where.

    The summary: `corpus`, `manifest`, `num_utterances`, `num_speakers`, `num_official_utterances`,
    `num_official_speakers`, `hours`, `counts` {column: {value: utterances}}, `without_label` {original label:
    utterances}, and `missing`, `extra`, `dropped`, `unreadable` (lists, also written as txt); the number of rows of a
    second manifest, and what of them is unreadable, under its own keys.
    """
    tree, folder = Tree(source, corpus.layout), Path(output)
    rows = corpus.read(tree)
    if corpus.further:
        rows, further_rows = corpus.further.split(tree, rows)
    rows, shared = _without_shared(tree, rows, corpus.gives_way, keep=keep_shared_speakers)
    manifest, unreadable = build_manifest(corpus, rows, source)
    for column in ("split", "fold"):
        if column in manifest.columns and not (column == "split" and keep_shared_speakers and shared):
            refuse_leaks(manifest, column, name=corpus.name, may_share=corpus.may_share)
    problems = {"missing": tree.missing, "extra": tree.extra, "dropped": tree.dropped, "unreadable": unreadable}
    counted = [name for name in (corpus.label, "split", "fold", "sex") if name in manifest.columns]
    summary = {
        "corpus": corpus.name,
        "manifest": str(write_manifest(manifest, folder / "manifest.csv")),
        "num_utterances": len(manifest),
        "num_official_utterances": corpus.num_utterances,
        "num_speakers": len(set(manifest.label("speaker")) - {""}),
        "num_official_speakers": corpus.num_speakers,
        "hours": round(manifest.duration_s / 3600, 3),
        "counts": {name: dict(sorted(Counter(manifest.label(name)).items())) for name in counted},
        "without_label": _without_label(manifest, corpus, folder),
        **({"shared_speakers": shared} if corpus.gives_way else {}),
        **problems,
    }
    write_problems(problems, folder)
    write_text_atomically(folder / "prepared.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    page = counts_page(manifest, summary, label=corpus.label, licence=corpus.licence)
    write_text_atomically(folder / "README.md", page)
    if corpus.further:
        further, path = corpus.further, folder / corpus.further.file
        path.unlink(missing_ok=True)
        summary |= {further.num_key: 0, further.unreadable_key: []}
        if further_rows:
            manifest, summary[further.unreadable_key] = build_manifest(corpus, further_rows, source)
            summary[further.num_key] = len(manifest)
            write_manifest(manifest, path)
    return summary


def _without_shared(
    tree: Tree, rows: list[Row], gives_way: Sequence[str], *, keep: bool
) -> tuple[list[Row], list[str]]:
    """The rows without those of a split of `gives_way` whose speaker is also in a later one, or in no such split.

    Also what was found, in words; `keep`: that alone.
    """
    found = []
    for number, split in enumerate(gives_way):
        passed = ("", *gives_way[: number + 1])
        others = {row.labels.get("speaker", "") for row in rows if row.labels.get("split", "") not in passed} - {""}
        shared = [row for row in rows if row.labels.get("split") == split and row.labels.get("speaker") in others]
        if shared:
            fate = "kept: results on that split are not of unseen speakers alone" if keep else f"left out of {split}"
            found.append(f"{len(shared)} utterances of {split} have a speaker of a later split, {fate}")
        if keep:
            continue
        tree.dropped += [
            f"{row.id}: left out of {split}: {row.labels['speaker']} is in another split" for row in shared
        ]
        dropped = {row.id for row in shared}
        rows = [row for row in rows if row.id not in dropped]
    return rows, found


def refuse_leaks(manifest: Manifest, column: str, *, name: str, may_share: Sequence[str] = ()) -> None:
    """Refuse splits or folds that have a speaker in common; not compared are blank cells and parts that `may_share`."""
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
    """The manifest of all readable rows in the order of their IDs, and the files that cannot be read."""
    if not rows:
        raise InputError(f"{source}: no file of {corpus.name} in it; expected {corpus.layout}")
    columns = [*corpus.columns, "corpus"]
    utterances, unreadable = read_rows(sorted(rows, key=lambda row: row.id), columns, source)
    for utterance in utterances:
        utterance.labels["corpus"] = corpus.name
    return Manifest(utterances, columns=columns), unreadable


def read_rows(rows: Sequence[Row], columns: Sequence[str], source: str | Path) -> tuple[list[Utterance], list[str]]:
    """The rows whose files are readable, with blanks in the columns that they lack, and the files that are not."""
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


def write_problems(problems: dict[str, list[str]], output: Path) -> None:
    """One txt per kind of problem; those of an earlier run that are solved go away."""
    for name, lines in problems.items():
        path = output / f"{name}.txt"
        path.unlink(missing_ok=True)
        if lines:
            write_text_atomically(path, "".join(f"{line}\n" for line in lines))


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


NUM_LISTED = 10
PROBLEMS = {
    "missing": "expected and not there",
    "extra": "there and not expected",
    "dropped": "left out on purpose",
    "unreadable": "cannot be read",
}


def counts_page(manifest: Manifest, summary: dict[str, Any], *, label: str, licence: str) -> str:
    """Markdown: how much there is, the label by split or fold, and what is missing, extra, dropped, unreadable."""
    total = (
        f"{summary['num_utterances']:,} utterances{_of(summary['num_official_utterances'])},"
        f" {summary['num_speakers']:,} known speakers{_of(summary['num_official_speakers'])},"
        f" {summary['hours']:.2f} hours."
    )
    lines = [f"# {summary['corpus']}", "", f"Licence: {licence}", "", total, ""]
    lines += [f"- {found}" for found in summary.get("shared_speakers", ())] + [""]
    part = next((name for name in ("split", "fold") if name in manifest.columns), None)
    lines += _table(manifest, label, part)
    if summary["without_label"]:
        named = ", ".join(f"{name or 'blank'} {count}" for name, count in summary["without_label"].items())
        lines += [
            "",
            f"Without {label} (original label and number): {named}. `{label}.csv` holds the rows that have one.",
        ]
    for name, meaning in PROBLEMS.items():
        entries = summary[name]
        if entries:
            lines += ["", f"## {name.capitalize()}: {len(entries)} {meaning}", ""]
            lines += [f"- {entry}" for entry in entries[:NUM_LISTED]]
            lines += [f"- all of them: `{name}.txt`"] if len(entries) > NUM_LISTED else []
    return "\n".join(lines) + "\n"


def _of(official: int | None) -> str:
    return f" of {official:,}" if official else ""


def _table(manifest: Manifest, label: str, part: str | None) -> list[str]:
    """Utterances, one row per label and one column per split or fold."""
    parts = manifest.label(part) if part else [""] * len(manifest)
    labels = manifest.label(label)
    counts = Counter(zip(labels, parts, strict=True))
    columns = sorted(set(parts)) if part else []
    header = [label, *(f"{part} {name or 'none'}" for name in columns), "all"]
    rows: list[list[str | int]] = [
        [name or "none", *(counts[name, column] for column in columns), labels.count(name)]
        for name in sorted(set(labels))
    ]
    lines = [header, ["---"] * len(header), *([str(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def prepare_folder(
    source: str | Path, output: str | Path, *, speaker_from_parent: bool = False, seed: int = 0
) -> dict[str, Any]:
    """Any folder of audio -> `manifest.csv`, and `trials.txt` where the folders are named after speakers; the summary.

    `speaker_from_parent`: take the name of the folder that a file lies in as its `speaker`; `seed`: of the trials.
    """
    manifest = scan_folder(source, speaker_from_parent=speaker_from_parent)
    folder = Path(output)
    path = write_manifest(manifest, folder / "manifest.csv")
    speakers = {name for name in manifest.label("speaker") if name} if speaker_from_parent else set()
    trials: dict[str, int] = {}
    if len(speakers) > 1 and len(speakers) < len(manifest):
        drawn = make_trials(manifest, seed=seed)
        trials[write_trials(drawn, folder / "trials.txt").name] = len(drawn)
    unreadable = [f"{item.name}: {item.reason}" for item in manifest.skipped]
    write_problems({"unreadable": unreadable}, folder)
    return {
        "manifest": str(path),
        "num_utterances": len(manifest),
        "hours": round(manifest.duration_s / 3600, 3),
        "num_speakers": len(speakers) if speaker_from_parent else None,
        "trials": trials,
        "unreadable": unreadable,
    }


CORPORA.known |= {"folder": prepare_folder}
