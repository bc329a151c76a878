"""Corpora of people with and without dementia. Who says what is medical: none of them may be passed on.

ON SILENCE ALONE recordings of DementiaBank's Pitt corpus, which both are drawn from, are classified almost perfectly
(arXiv 2406.07410), and on the non-speech parts of ADReSSo better than by chance (arXiv 2409.12170): report the control
on the non-speech parts beside every result. Whether ADReSS and ADReSSo share subjects is not published, so do not train
on one and test on the other.
"""

from dino_speech.data.corpora.catalogue import CORPORA
from dino_speech.data.corpora.corpus import Cells, Corpus, Further, Labels, NamedFile, Row, Tree, read_table
from dino_speech.errors import InputError

WHOLE, CHUNKS = "Full_wave_enhanced_audio", "Normalised_audio-chunks"
ADRESS_ANSWERS = {"0": "control", "1": "ad"}


def _adress_subjects(tree: Tree) -> dict[str, Labels]:
    """Subject -> labels, of both splits."""
    subjects: dict[str, Labels] = {}
    tree.expected["the tables"] = subjects
    for group, diagnosis in ADRESS.codes["diagnosis"].items():
        columns = ("ID", "age", "gender", "mmse")
        for row in tree.table(f"{group}_meta_data.txt", columns=columns, delimiter=";"):
            _add_subject(subjects, row, "train", diagnosis)
    tables = (
        read_table(p, ("ID", "age", "gender"), delimiter=";") for p in tree.find("meta_data_test.txt", "meta_data.txt")
    )
    tests = [rows for rows in tables if rows]
    if not tests:
        tree.missing.append("test/meta_data.txt: the test subjects are not known")
        return subjects
    answered = next((rows for rows in tests if "label" in rows[0].values), None)
    if answered is None:
        tree.missing.append("meta_data_test.txt (with Label and mmse): the test has no diagnosis")
    for row in answered or tests[0]:
        known = row.coded("Label", ADRESS_ANSWERS, "0 (control) or 1 (dementia)") if row["Label"] else ""
        _add_subject(subjects, row, "test", known)
    return subjects


def _add_subject(subjects: dict[str, Labels], row: Cells, split: str, diagnosis: str) -> None:
    subject = row["ID"]
    if subject in subjects:
        known = subjects[subject]
        raise InputError(
            f"{row.place}: subject {subject} is also in split {known['split']} as {known['diagnosis'] or 'unknown'}; a"
            " subject stands in one table once: a result would measure how well subjects are recognised"
        )
    subjects[subject] = {
        "sex": row.sex("gender"),
        "age": row.number("age"),
        "diagnosis": diagnosis,
        "mmse": row.number("mmse"),
        "split": split,
    }


def _adress_labels(file: NamedFile, subjects: dict[str, Labels]) -> Labels | str:
    """A recording of the training part lies in the folder of its group, one of the test in neither."""
    if file["recording"] not in subjects:
        return "a subject of no table"
    labels, folder = subjects[file["recording"]], file.path.parent.name
    expected = labels["diagnosis"] if labels["split"] == "train" else None
    if ADRESS.codes["diagnosis"].get(folder.lower()) != expected:
        problem = f"{file.place}: lies in the folder {folder!r}, but the tables say {labels['split']}"
        raise InputError(f"{problem}, {labels['diagnosis'] or 'diagnosis unknown'}; take both from the owners' archive")
    return labels


def _adress_chunks(tree: Tree, rows: list[Row]) -> tuple[list[Row], list[Row]]:
    whole = [row for row in rows if WHOLE.lower() in tree.place(row.file).lower().split("/")]
    return whole, [row for row in rows if row not in whole]


ADRESS = Corpus(
    name="ADReSS",
    licence="members of DementiaBank only, under its ground rules",
    access="dementia.talkbank.org, for members",
    layout="train/Full_wave_enhanced_audio/cc/S001.wav, cd, test/..., and cc_meta_data.txt, cd_meta_data.txt",
    file_name=r"(?P<recording>S\d{3})(?:-.+)?",
    columns=("speaker", "sex", "age", "diagnosis", "mmse", "recording", "split"),
    label="diagnosis",
    speaker="adress_{recording}",
    codes={"diagnosis": {"cc": "control", "cd": "ad"}},
    below=(WHOLE, CHUNKS),
    num_utterances=156,
    num_speakers=156,
    tables=_adress_subjects,
    labels=_adress_labels,
    further=Further("chunks.csv", "num_chunks", "unreadable_chunks", _adress_chunks),
)
"""The ADReSS challenge of 2020.

Facts (Luz et al. 2020, arXiv 2004.06833; the READMEs of the archives; the form of the tables also from public
scripts): descriptions of the Cookie Theft picture from the Pitt corpus, one recording per subject, matched for age
and sex; train 54 controls (cc) and 54 people with dementia (cd), test 48 subjects, half and half.

Layout: `train/Full_wave_enhanced_audio/cc/S001.wav` (noise removed) and
`train/Normalised_audio-chunks/cc/S001-*.wav`; `train/cc_meta_data.txt`, `train/cd_meta_data.txt` (`ID ; age ; gender
; mmse`); `test/Full_wave_enhanced_audio/S160.wav`; `test/meta_data.txt` (`ID ; age ; gender`), and with the answers
`meta_data_test.txt` or a later `meta_data.txt` (`ID ; age ; gender ; Label ; mmse`). `manifest.csv` has the whole
recordings, `chunks.csv` the chunks. `split` is the official one. Not certain: the coding in the table with the
answers, taken to be gender 0 male, 1 female and Label 0 control, 1 dementia, as public scripts do.
"""

ADRESSO_ANSWERS = {"control": "control", "probablead": "ad"}
SAMPLES_PER_MS = 16
PARTICIPANT = "PAR"


def _adresso_tables(tree: Tree) -> dict[str, Labels]:
    """Recording -> what the scores of the training part and the answers of the test say."""
    known: dict[str, Labels] = {}
    tree.expected["the tables"] = known
    note = "adresso-train-mmse-scores.csv: mmse stays blank"
    for row in tree.table("adresso-train-mmse-scores*.csv", columns=("adressfname", "mmse"), otherwise=note):
        known[row["adressfname"]] = {"mmse": row.number("mmse")}
        if row["dx"]:
            known[row["adressfname"]]["diagnosis"] = row.coded("dx", ADRESSO.codes["diagnosis"], "cn or ad")
    names, note = ("task1.csv", "test_results_task1_groundtruth.csv"), "task1.csv: the test has no diagnosis"
    for row in tree.table(*names, columns=("ID", "Dx"), otherwise=note):
        known.setdefault(row["ID"], {})["diagnosis"] = row.coded("Dx", ADRESSO_ANSWERS, "Control or ProbableAD")
    names, note = ("task2.csv", "test_results_task2_groundtruth.csv"), "task2.csv: the test has no mmse"
    for row in tree.table(*names, columns=("ID", "MMSE"), otherwise=note):
        known.setdefault(row["ID"], {})["mmse"] = row.number("MMSE")
    return known


def _adresso_labels(file: NamedFile, tables: dict[str, Labels]) -> Labels:
    known, folder, diagnoses = tables.get(file.id, {}), file.path.parent.name, ADRESSO.codes["diagnosis"]
    if file["part"] == "dt":
        return {"split": "test", **known}
    if folder.lower() not in diagnoses:
        raise InputError(f"{file.path}: a recording to train on lies in {folder!r}; expected the folder ad or cn")
    diagnosis = diagnoses[folder.lower()]
    if known.get("diagnosis", diagnosis) != diagnosis:
        problem = f"{file.path}: lies in {folder.lower()!r}, but the table of scores says {known['diagnosis']!r}"
        raise InputError(problem)
    return {"split": "train", **known, "diagnosis": diagnosis}


def _participant_spans(tree: Tree, rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """Besides the recordings, one row per span of the participant, where there is a segmentation."""
    by_name = {row.id: row for row in rows}
    spans = []
    for path in tree.find("adrs*.csv"):
        row = by_name.get(path.stem)
        if row is None or "segmentation" not in path.parts:
            continue
        cells = [c for c in read_table(path, ("speaker", "begin", "end")) if c["speaker"] == PARTICIPANT]
        for index, cell in enumerate(cells):
            start, stop = _sample(cell, "begin"), _sample(cell, "end")
            if start >= stop:
                raise InputError(f"{cell.place}: begin {cell['begin']}, end {cell['end']}; expected begin before end")
            spans.append(Row(f"{row.id}_{index:03}", row.file, row.labels, (start, stop)))
    return rows, spans


def _sample(cells: Cells, side: str) -> int:
    milliseconds = cells.number(side)
    if not milliseconds:
        raise InputError(f"{cells.place}, column {side!r}: blank; expected milliseconds")
    return round(float(milliseconds) * SAMPLES_PER_MS)


ADRESSO = Corpus(
    name="ADReSSo",
    licence="members of DementiaBank only, under its ground rules",
    access="dementia.talkbank.org, for members",
    layout="diagnosis/train/audio/ad/adrso024.wav, .../cn/..., diagnosis/test-dist/audio/adrsdt1.wav",
    file_name=r"(?P<recording>adrs(?P<part>o|dt)\d+)",
    columns=("speaker", "diagnosis", "mmse", "recording", "split"),
    label="diagnosis",
    speaker="adresso_{recording}",
    codes={"diagnosis": {"cn": "control", "ad": "ad"}},
    num_utterances=237,
    num_speakers=237,
    set_aside=lambda place: "of the task of progression" if "progression" in place.split("/") else "",
    tables=_adresso_tables,
    labels=_adresso_labels,
    further=Further("participant.csv", "num_participant_spans", "unreadable_spans", _participant_spans),
)
"""The diagnosis task of the ADReSSo challenge of 2021.

Facts (Luz et al. 2021, arXiv 2104.09356; the README of the archive; the form of the tables also from public scripts):
descriptions of the Cookie Theft picture, audio only, noise reduced and level normalised; baseline accuracy 78.87 %
(acoustic and linguistic features together). 166 recordings to train on and 71 to test on (commonly reported; not
checked against the paper).

Layout: `diagnosis/train/audio/ad/adrso024.wav`, `.../cn/adrso002.wav`; who speaks when in
`diagnosis/train/segmentation/ad/adrso024.csv` (columns speaker (PAR, INV), begin, end in ms);
`adresso-train-mmse-scores.csv` (adressfname, mmse, dx); `diagnosis/test-dist/audio/adrsdt1.wav` and
`segmentation/adrsdt1.csv`; the answers `task1.csv` (ID, Dx: Control or ProbableAD) and `task2.csv` (ID, MMSE), in
some archives `test_results_task1_groundtruth.csv`, `...task2...`. `manifest.csv` has the whole recordings,
`participant.csv` the spans in which the participant speaks (start and stop in samples at 16 kHz). `split` is the
official one. The task of progression is left out and listed. Sex and age are not given.
"""

CORPORA.known |= {"adress": ADRESS, "adresso": ADRESSO}
