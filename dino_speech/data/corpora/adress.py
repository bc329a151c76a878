"""The ADReSS challenge of 2020 as its owners give it out -> a manifest, one row per recording.

Facts (Luz et al. 2020, arXiv 2004.06833; the READMEs of the archives; the form of the tables also from public scripts):
descriptions of the Cookie Theft picture from DementiaBank's Pitt corpus, one recording per subject, matched for age and
sex; train 54 controls (cc) and 54 people with dementia (cd), test 48 subjects, half and half. Licence: members of
DementiaBank (TalkBank) only, under its ground rules; medical data of people, not to be passed on.

Layout: `train/Full_wave_enhanced_audio/cc/S001.wav` (noise removed) and `train/Normalised_audio-chunks/cc/S001-*.wav`;
`train/cc_meta_data.txt`, `train/cd_meta_data.txt` (`ID ; age ; gender ; mmse`);
`test/Full_wave_enhanced_audio/S160.wav`; `test/meta_data.txt` (`ID ; age ; gender`), and with the answers
`meta_data_test.txt` or a later `meta_data.txt` (`ID ; age ; gender ; Label ; mmse`). `manifest.csv` has the whole
recordings, `chunks.csv` the chunks.

`split` is the official one. Not certain: the coding in the table with the answers, taken to be gender 0 male, 1 female
and Label 0 control, 1 dementia, as public scripts do. ON SILENCE ALONE recordings of the Pitt corpus are classified
almost perfectly (arXiv 2406.07410): report the control on the non-speech parts beside every result. ADReSSo is drawn
from the same corpus; whether they share subjects is not published, so do not train on one and test on the other.
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
from dino_speech.data.corpora.tables import SEX, Cells, find_papers, need_paper, number, read_table
from dino_speech.errors import InputError

CORPUS = Corpus(
    name="ADReSS",
    licence="members of DementiaBank only, under its ground rules",
    layout="train/Full_wave_enhanced_audio/cc/S001.wav, cd, test/..., and cc_meta_data.txt, cd_meta_data.txt",
    columns=("speaker", "sex", "age", "diagnosis", "mmse", "recording", "split"),
    label="diagnosis",
    num_utterances=156,
    num_speakers=156,
)
DIAGNOSES = {"cc": "control", "cd": "ad"}
ANSWERS = {"0": "control", "1": "ad"}
SEXES = {**SEX, "0": "M", "1": "F"}
WHOLE, CHUNKS = "full_wave_enhanced_audio", "normalised_audio-chunks"
NAME = re.compile(r"(?P<subject>S\d{3})(?:-.+)?")


def prepare_adress(source: str | Path, output: str | Path) -> dict[str, Any]:
    """Write `manifest.csv` (whole recordings, split train and test) and `chunks.csv` (the owners' speech chunks).

    Args:
        source: the corpus.
        output: where the files go; made if absent.

    Returns:
        The summary of `layout.write_corpus`, `num_chunks` and `unreadable_chunks`.

    Raises:
        InputError: no such folder, no recording or no table in it, a recording in the folder of another group or split
            than its subject's, or a subject in two tables.
    """
    findings, chunks = Findings(), Findings()
    subjects = _subjects(source, findings)
    files: dict[str, list[Path]] = {WHOLE: [], CHUNKS: []}
    for file in audio_below(source, CORPUS.layout):
        kind = next((kind for kind in files if kind in relative(file, source).lower().split("/")), None)
        if kind:
            files[kind].append(file)
            _check_folder(file, source, subjects)
        else:
            findings.extra.append(f"{relative(file, source)}: not below Full_wave_enhanced_audio")
    for kind, where in ((WHOLE, findings), (CHUNKS, chunks)):
        for name, (match, file) in match_names(files[kind], NAME, findings, source).items():
            labels = subjects.get(match["subject"])
            if labels is None:
                findings.extra.append(f"{relative(file, source)}: a subject of no table")
                continue
            where.rows.append(Row(name, file, labels))
    present = {row.labels["recording"] for row in findings.rows}
    findings.missing += [f"{subject}.wav: named in the tables" for subject in subjects if subject not in present]
    summary = write_corpus(CORPUS, findings, source, output)
    num_chunks, unreadable = write_further(CORPUS, chunks.rows, source, Path(output) / "chunks.csv")
    return summary | {"num_chunks": num_chunks, "unreadable_chunks": unreadable}


def _subjects(source: str | Path, findings: Findings) -> dict[str, dict[str, str]]:
    """Subject -> labels, of both splits."""
    subjects: dict[str, dict[str, str]] = {}
    for group, diagnosis in DIAGNOSES.items():
        path = need_paper(source, (f"{group}_meta_data.txt",), CORPUS.layout)
        for row in read_table(path, ("ID", "age", "gender", "mmse"), delimiter=";"):
            _add(subjects, row, "train", diagnosis)
    tables = [*find_papers(source, "meta_data_test.txt"), *find_papers(source, "meta_data.txt")]
    tests = [rows for path in tables if (rows := read_table(path, ("ID", "age", "gender"), delimiter=";"))]
    if not tests:
        findings.missing.append("test/meta_data.txt: the test subjects are not known")
        return subjects
    answered = next((rows for rows in tests if "label" in rows[0].values), None)
    if answered is None:
        findings.missing.append("meta_data_test.txt (with Label and mmse): the test has no diagnosis")
    for row in answered or tests[0]:
        label = row.get("label")
        if label and label not in ANSWERS:
            raise InputError(f"{row.place}, column 'Label': found {label!r}; expected 0 (control) or 1 (dementia)")
        _add(subjects, row, "test", ANSWERS.get(label, ""))
    return subjects


def _add(subjects: dict[str, dict[str, str]], row: Cells, split: str, diagnosis: str) -> None:
    subject = row["id"]
    if subject in subjects:
        known = subjects[subject]
        raise InputError(
            f"{row.place}: subject {subject} is also in split {known['split']} as {known['diagnosis'] or 'unknown'}; a"
            " subject stands in one table once: a result would measure how well subjects are recognised"
        )
    subjects[subject] = {
        "speaker": f"adress_{subject}",
        "sex": SEXES.get(row["gender"].lower(), ""),
        "age": number(row["age"], row.place, "age"),
        "diagnosis": diagnosis,
        "mmse": number(row.get("mmse"), row.place, "mmse"),
        "recording": subject,
        "split": split,
    }


def _check_folder(file: Path, source: str | Path, subjects: dict[str, dict[str, str]]) -> None:
    """A recording of the training part lies in the folder of its group, one of the test in neither."""
    match = NAME.fullmatch(file.stem)
    labels = subjects.get(match["subject"]) if match else None
    if labels is None:
        return
    expected = labels["diagnosis"] if labels["split"] == "train" else None
    if DIAGNOSES.get(file.parent.name.lower()) != expected:
        raise InputError(
            f"{relative(file, source)}: lies in the folder {file.parent.name!r}, but the tables say {labels['split']},"
            f" {labels['diagnosis'] or 'diagnosis unknown'}; take both from the owners' archive"
        )
