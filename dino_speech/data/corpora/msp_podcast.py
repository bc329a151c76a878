"""MSP-Podcast as its owners give it out -> a manifest.

Facts (Lotfian & Busso 2019, doi 10.1109/TAFFC.2017.2736999; the release's readme 1.12; the owners' page
ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html; columns also from public preparation scripts): speaking
turns of podcasts, each with a primary emotion and activation (arousal), valence, dominance from 1 to 7, means over at
least five people. Version 1.11: 151,654 turns, 238 hours; train 84,030 (also turns whose speaker nobody knows),
development 19,815, test1 30,647, test2 14,815, test3 2,347 (no labels given out). The owners say that the TEST sets
share some speakers with one another. Licence: by signed agreement with the University of Texas at Dallas (academic or
commercial); not to be passed on.

Layout: `Audios/MSP-PODCAST_0001_0008.wav` (some releases `Audio/`); `Labels/labels_consensus.csv`
(`labels_concensus.csv` in old releases): FileName, EmoClass, EmoAct, EmoVal, EmoDom, SpkrID, Gender, Split_Set;
`Partitions.txt` (`Partition.txt`), lines `Test3; MSP-PODCAST_2000_0001.wav`, is read for files that the table does not
have.

`transcript` is the text of `Transcripts/MSP-PODCAST_0001_0008.txt`, where a release has such files (not certain: their
name and place), else blank.

`split` is the owners' partition: train, dev, test1, test2, test3. Counts differ by version, so none is expected. Not
certain: that train and development share no speaker with the tests in every version; if they do, it is refused here.
"""

import re
from pathlib import Path
from typing import Any

from dino_speech.data.corpora.emotions import UNLABELLED, canonical_emotion
from dino_speech.data.corpora.layout import Corpus, Findings, Row, audio_below, match_names, relative, write_corpus
from dino_speech.data.corpora.tables import SEX, Cells, find_papers, need_paper, number, read_table
from dino_speech.errors import InputError

TESTS = ("test1", "test2", "test3")
CORPUS = Corpus(
    name="MSP-Podcast",
    licence="by signed agreement with the University of Texas at Dallas",
    layout="Audios/MSP-PODCAST_0001_0008.wav and Labels/labels_consensus.csv",
    columns=(
        *("speaker", "sex", "emotion", "original_label", "arousal", "dominance", "valence"),
        *("recording", "transcript", "split"),
    ),
    may_share=TESTS,
)
EMOTIONS = {
    "A": "angry",
    "C": "contemptuous",
    "D": "disgusted",
    "F": "fearful",
    "H": "happy",
    "N": "neutral",
    "S": "sad",
    "U": "surprised",
    "O": UNLABELLED,  # another emotion
    "X": UNLABELLED,  # no agreement
}
SPLITS = {"train": "train", "development": "dev", **{name: name for name in TESTS}}
NAME = re.compile(r"(?P<podcast>MSP-PODCAST_\d+)_\d+(?:_\d+)?")
TABLES = ("labels_consensus.csv", "labels_concensus.csv")
COLUMNS = ("FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set")
UNKNOWN = ("", "unknown", "unk", "na", "nan")


def prepare_msp_podcast(source: str | Path, output: str | Path) -> dict[str, Any]:
    """Write `manifest.csv` (split train, dev, test1, test2, test3) and `emotion.csv` (turns with an agreed emotion).

    Args:
        source: the corpus.
        output: where the files go; made if absent.

    Returns:
        The summary of `layout.write_corpus`.

    Raises:
        InputError: no such folder, no turn or no table of labels in it, a label or a split that the corpus does not
            have, or a speaker of train or dev in another split.
    """
    findings = Findings()
    table = need_paper(source, TABLES, CORPUS.layout)
    labels = {row["filename"].removesuffix(".wav"): _labels(row) for row in read_table(table, COLUMNS)}
    unlabelled = {name: split for name, split in _partitions(source).items() if name not in labels}
    said = _transcripts(source)
    found = match_names(audio_below(source, CORPUS.layout), NAME, findings, source)
    for name, (match, file) in found.items():
        if name in labels or name in unlabelled:
            known = labels.get(name) or {"split": unlabelled[name]}
            findings.rows.append(
                Row(name, file, {"recording": match["podcast"], "transcript": said.get(name, "")} | known)
            )
        else:
            findings.extra.append(f"{relative(file, source)}: not named in {table.name}")
    findings.missing += [f"{name}.wav: named in {table.name}" for name in labels if name not in found]
    findings.missing += [f"{name}.wav: named in the partitions" for name in unlabelled if name not in found]
    return write_corpus(CORPUS, findings, source, output)


def _transcripts(source: str | Path) -> dict[str, str]:
    """Turn -> what was said, on one line; empty where there are no transcripts."""
    papers = find_papers(source, "MSP-PODCAST_*.txt")
    return {path.stem: " ".join(path.read_text("utf-8", "replace").split()) for path in papers}


def _labels(row: Cells) -> dict[str, str]:
    speaker = row["spkrid"]
    return {
        "speaker": "" if speaker.lower() in UNKNOWN else f"msp_{speaker}",
        "sex": SEX.get(row["gender"].lower(), ""),
        "emotion": canonical_emotion(EMOTIONS, row["emoclass"], row.place),
        "original_label": row["emoclass"],
        "arousal": number(row["emoact"], row.place, "EmoAct"),
        "dominance": number(row["emodom"], row.place, "EmoDom"),
        "valence": number(row["emoval"], row.place, "EmoVal"),
        "split": _split(row["split_set"], row.place),
    }


def _split(name: str, place: str) -> str:
    if name.lower() not in SPLITS:
        raise InputError(f"{place}: split {name!r} is none of this corpus ({', '.join(SPLITS)})")
    return SPLITS[name.lower()]


def _partitions(source: str | Path) -> dict[str, str]:
    """File -> split; empty where there is no such list."""
    splits = {}
    for path in [*find_papers(source, "Partitions.txt"), *find_papers(source, "Partition.txt")][:1]:
        for index, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
            split, separator, file = line.partition(";")
            if separator and file.strip():
                splits[file.strip().removesuffix(".wav")] = _split(split.strip(), f"{path} row {index}")
    return splits
