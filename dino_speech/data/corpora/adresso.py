"""The diagnosis task of the ADReSSo challenge of 2021 as its owners give it out -> a manifest, one row per recording.

Facts (Luz et al. 2021, arXiv 2104.09356; the README of the archive; the form of the tables also from public scripts):
descriptions of the Cookie Theft picture, audio only, noise reduced and level normalised; baseline accuracy 78.87 %
(acoustic and linguistic features together). 166 recordings to train on and 71 to test on (commonly reported; not
checked against the paper). Licence: members of DementiaBank (TalkBank) only, under its ground rules; not to be passed
on.

Layout: `diagnosis/train/audio/ad/adrso024.wav`, `.../cn/adrso002.wav`; who speaks when in
`diagnosis/train/segmentation/ad/adrso024.csv` (columns speaker (PAR, INV), begin, end in ms);
`adresso-train-mmse-scores.csv` (adressfname, mmse, dx); `diagnosis/test-dist/audio/adrsdt1.wav` and
`segmentation/adrsdt1.csv`; the answers `task1.csv` (ID, Dx: Control or ProbableAD) and `task2.csv` (ID, MMSE), in some
archives `test_results_task1_groundtruth.csv`, `...task2...`.

`manifest.csv` has the whole recordings, `participant.csv` the spans in which the participant speaks (start and stop in
samples at 16 kHz). `split` is the official one. The task of progression is left out and listed. Sex and age are not
given. Classifiers do better than chance ON THE NON-SPEECH PARTS of these recordings (arXiv 2409.12170): report that
control beside every result. On subjects shared with ADReSS see `adress.py`.
"""

import re
from pathlib import Path
from typing import Any

from dino_speech.data.corpora.layout import (
    Corpus,
    Findings,
    Row,
    audio_below,
    match_names,
    relative,
    write_corpus,
    write_further,
)
from dino_speech.data.corpora.tables import Cells, find_papers, number, read_table
from dino_speech.errors import InputError

CORPUS = Corpus(
    name="ADReSSo",
    licence="members of DementiaBank only, under its ground rules",
    layout="diagnosis/train/audio/ad/adrso024.wav, .../cn/..., diagnosis/test-dist/audio/adrsdt1.wav",
    columns=("speaker", "diagnosis", "mmse", "recording", "split"),
    label="diagnosis",
    num_utterances=237,
    num_speakers=237,
)
DIAGNOSES = {"cn": "control", "ad": "ad"}
ANSWERS = {"control": "control", "probablead": "ad"}
SCORES = "adresso-train-mmse-scores*.csv"
TASKS = {
    "dx": ("task1.csv", "test_results_task1_groundtruth.csv"),
    "mmse": ("task2.csv", "test_results_task2_groundtruth.csv"),
}
NAME = re.compile(r"adrs(?:o|dt)\d+")
SAMPLES_PER_MS = 16
PARTICIPANT = "PAR"


def prepare_adresso(source: str | Path, output: str | Path) -> dict[str, Any]:
    """Write `manifest.csv` (whole recordings, split train and test) and `participant.csv` (the participant's speech).

    Args:
        source: the corpus.
        output: where the files go; made if absent.

    Returns:
        The summary of `layout.write_corpus`, `num_participant_spans` and `unreadable_spans`.

    Raises:
        InputError: no such folder, no recording in it, a diagnosis that the corpus does not have, or a table that says
            otherwise than the folder.
    """
    findings, files = Findings(), []
    for file in audio_below(source, CORPUS.layout):
        if "progression" in relative(file, source).split("/"):
            findings.dropped.append(f"{relative(file, source)}: of the task of progression")
        else:
            files.append(file)
    scores, answers = _train_scores(source, findings), _test_answers(source, findings)
    found = match_names(files, NAME, findings, source)
    for name, (_, file) in found.items():
        test = name.startswith("adrsdt")
        known = answers.get(name, {}) if test else _train_labels(file, scores.get(name, {}))
        split = "test" if test else "train"
        labels = {"speaker": f"adresso_{name}", "recording": name, "split": split} | known
        findings.rows.append(Row(name, file, labels))
    findings.missing += [f"{name}.wav: named in the tables" for name in {**scores, **answers} if name not in found]
    summary = write_corpus(CORPUS, findings, source, output)
    spans = _participant_rows(source, findings.rows)
    num_spans, unreadable = write_further(CORPUS, spans, source, Path(output) / "participant.csv")
    return summary | {"num_participant_spans": num_spans, "unreadable_spans": unreadable}


def _train_labels(file: Path, known: dict[str, str]) -> dict[str, str]:
    folder = file.parent.name.lower()
    if folder not in DIAGNOSES:
        raise InputError(f"{file}: a recording to train on lies in {file.parent.name!r}; expected the folder ad or cn")
    if known.get("diagnosis", DIAGNOSES[folder]) != DIAGNOSES[folder]:
        raise InputError(f"{file}: lies in {folder!r}, but the table of scores says {known['diagnosis']!r}")
    return known | {"diagnosis": DIAGNOSES[folder]}


def _train_scores(source: str | Path, findings: Findings) -> dict[str, dict[str, str]]:
    papers = find_papers(source, SCORES)
    if not papers:
        findings.missing.append("adresso-train-mmse-scores.csv: mmse stays blank")
        return {}
    scores = {}
    for row in read_table(papers[0], ("adressfname", "mmse")):
        scores[row["adressfname"]] = {"mmse": number(row["mmse"], row.place, "mmse")}
        if dx := row.get("dx"):
            if dx.lower() not in DIAGNOSES:
                raise InputError(f"{row.place}, column 'dx': found {dx!r}; expected cn or ad")
            scores[row["adressfname"]]["diagnosis"] = DIAGNOSES[dx.lower()]
    return scores


def _test_answers(source: str | Path, findings: Findings) -> dict[str, dict[str, str]]:
    answers: dict[str, dict[str, str]] = {}
    for column, names in TASKS.items():
        papers = [path for name in names for path in find_papers(source, name)]
        if not papers:
            findings.missing.append(f"{names[0]}: the test has no {'diagnosis' if column == 'dx' else column}")
        for row in read_table(papers[0], ("ID", column)) if papers else ():
            cell = row[column]
            if column == "mmse":
                answers.setdefault(row["id"], {})["mmse"] = number(cell, row.place, "MMSE")
            elif cell.lower() in ANSWERS:
                answers.setdefault(row["id"], {})["diagnosis"] = ANSWERS[cell.lower()]
            else:
                raise InputError(f"{row.place}, column 'Dx': found {cell!r}; expected Control or ProbableAD")
    return answers


def _participant_rows(source: str | Path, rows: list[Row]) -> list[Row]:
    """One row per span of the participant, where the recording has a segmentation."""
    by_name = {row.id: row for row in rows}
    spans = []
    for path in find_papers(source, "adrs*.csv"):
        row = by_name.get(path.stem)
        if row is None or "segmentation" not in path.parts:
            continue
        cells = [c for c in read_table(path, ("speaker", "begin", "end")) if c["speaker"] == PARTICIPANT]
        for index, cell in enumerate(cells):
            start, stop = _sample(cell, "begin"), _sample(cell, "end")
            if start >= stop:
                raise InputError(f"{cell.place}: begin {cell['begin']}, end {cell['end']}; expected begin before end")
            spans.append(Row(f"{row.id}_{index:03}", row.file, row.labels, (start, stop)))
    return spans


def _sample(cells: Cells, side: str) -> int:
    milliseconds = number(cells[side], cells.place, side)
    if not milliseconds:
        raise InputError(f"{cells.place}, column {side!r}: blank; expected milliseconds")
    return round(float(milliseconds) * SAMPLES_PER_MS)
