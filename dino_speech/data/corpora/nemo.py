"""nEMO as its owners give it out -> a manifest.

Facts (Christop 2024, LREC-COLING, arXiv 2404.06292; the owners' README and `data.tsv`, github.com/amu-cai/nEMO): nine
Polish actors, 90 sentences, six emotions, 4,481 recordings, over three hours, 24 kHz. Licence: CC BY-NC-SA 4.0.

Layout: `samples/WR0_surprised_64.wav` = speaker, emotion, sentence; `data.tsv` (file_id, emotion, raw_text,
normalized_text, speaker_id, gender, age; speaker_id is padded with spaces).

The owners give no split; `fold` is the speaker (1 to 9): leave one speaker out.
"""

import csv
import re
from pathlib import Path
from typing import Any

from dino_speech.data.corpora.emotions import canonical_emotion
from dino_speech.data.corpora.layout import Corpus, Findings, Row, audio_below, match_names, relative, write_corpus
from dino_speech.data.corpora.tables import SEX, Cells, find_papers, number, read_table
from dino_speech.errors import InputError

CORPUS = Corpus(
    name="nEMO",
    licence="CC BY-NC-SA 4.0",
    layout="samples/WR0_surprised_64.wav and data.tsv",
    columns=("speaker", "sex", "age", "emotion", "original_label", "statement", "fold"),
    num_utterances=4_481,
    num_speakers=9,
)
EMOTIONS = {
    "anger": "angry",
    "fear": "fearful",
    "happiness": "happy",
    "neutral": "neutral",
    "sadness": "sad",
    "surprised": "surprised",
}
SPEAKERS = ("EB0", "IC0", "KD0", "KS0", "MK0", "MP0", "SM0", "TP0", "WR0")
NAME = re.compile(r"(?P<speaker>[A-Z]{2}\d)_(?P<emotion>[a-z]+)_(?P<sentence>\d+)")


def prepare_nemo(source: str | Path, output: str | Path) -> dict[str, Any]:
    """Write `manifest.csv`: emotion, statement, speaker, sex, age, fold.

    Args:
        source: the corpus.
        output: where the files go; made if absent.

    Returns:
        The summary of `layout.write_corpus`.

    Raises:
        InputError: no such folder, no recording in it, an emotion or a speaker that the corpus does not have, or
            `data.tsv` says otherwise than the name of the file.
    """
    findings = Findings()
    table = _table(source, findings)
    found = match_names(audio_below(source, CORPUS.layout), NAME, findings, source)
    for name, (match, file) in found.items():
        if table and name not in table:
            findings.extra.append(f"{relative(file, source)}: not named in data.tsv")
            continue
        findings.rows.append(Row(name, file, _labels(match, file, table.get(name))))
    findings.missing += [f"{name}.wav: named in data.tsv" for name in table if name not in found]
    return write_corpus(CORPUS, findings, source, output)


def _table(source: str | Path, findings: Findings) -> dict[str, Cells]:
    papers = find_papers(source, "data.tsv")
    if not papers:
        findings.missing.append("data.tsv: sex and age stay blank, and missing recordings cannot be named")
        return {}
    columns = ("file_id", "emotion", "speaker_id", "gender", "age")
    # The texts hold quotation marks that are none of CSV's.
    rows = read_table(papers[0], columns, delimiter="\t", quoting=csv.QUOTE_NONE)
    return {row["file_id"].removesuffix(".wav"): row for row in rows}


def _labels(match: "re.Match[str]", file: Path, cells: Cells | None) -> dict[str, str]:
    speaker, emotion = match["speaker"], match["emotion"]
    if speaker not in SPEAKERS:
        raise InputError(f"{file}: speaker {speaker!r} is none of this corpus ({', '.join(SPEAKERS)})")
    if cells and (cells["speaker_id"], cells["emotion"]) != (speaker, emotion):
        raise InputError(
            f"{cells.place}: says speaker {cells['speaker_id']!r} and emotion {cells['emotion']!r}, the name of {file}"
            f" {speaker!r} and {emotion!r}; take both from the owners' archive"
        )
    return {
        "speaker": f"nemo_{speaker}",
        "sex": SEX.get(cells["gender"].lower(), "") if cells else "",
        "age": number(cells["age"], cells.place, "age") if cells else "",
        "emotion": canonical_emotion(EMOTIONS, emotion, str(file)),
        "original_label": emotion,
        "statement": match["sentence"],
        "fold": str(SPEAKERS.index(speaker) + 1),
    }
