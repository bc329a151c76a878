"""CREMA-D as its owners give it out -> a manifest.

Facts (Cao et al. 2014, doi 10.1109/TAFFC.2014.2336244; the owners' README and `VideoDemographics.csv`,
github.com/CheyneyComputerScience/CREMA-D): 7,442 clips of 91 actors (48 male, 43 female, 20 to 74 years old), twelve
sentences in six emotions, played as intended; most sentences at an unspecified level, one at three levels. Audio at 16
kHz. Licence: Open Database License (ODbL 1.0), contents under the Database Contents License.

Layout: `AudioWAV/1001_IEO_ANG_HI.wav` (the same clips in `AudioMP3` are left out and listed) = actor, sentence,
emotion, level (LO, MD, HI; XX, once X: unspecified); `VideoDemographics.csv` (ActorID, Age, Sex, Race, Ethnicity),
`SentenceFilenames.csv` (all clips; column Filename).

There is no official split. `fold` (1 to 5) is ours: actor number modulo 5, so that it does not depend on what is there.
Without `SentenceFilenames.csv` missing clips cannot be named, only missing actors.
"""

import re
from pathlib import Path
from typing import Any

from dino_speech.data.corpora.emotions import canonical_emotion
from dino_speech.data.corpora.layout import Corpus, Findings, Row, audio_below, match_names, relative, write_corpus
from dino_speech.data.corpora.tables import SEX, find_papers, number, read_table
from dino_speech.errors import InputError

CORPUS = Corpus(
    name="CREMA-D",
    licence="Open Database License (ODbL 1.0)",
    layout="AudioWAV/1001_IEO_ANG_HI.wav and VideoDemographics.csv",
    columns=("speaker", "sex", "age", "emotion", "original_label", "level", "statement", "fold"),
    num_utterances=7_442,
    num_speakers=91,
)
EMOTIONS = {
    "ANG": "angry",
    "DIS": "disgusted",
    "FEA": "fearful",
    "HAP": "happy",
    "NEU": "neutral",
    "SAD": "sad",
}
LEVELS = {"LO": "low", "MD": "medium", "HI": "high", "XX": "", "X": ""}
NAME = re.compile(r"(?P<actor>1\d{3})_(?P<sentence>[A-Z]{3})_(?P<emotion>[A-Z]{3})_(?P<level>LO|MD|HI|XX?)")
ACTORS = range(1001, 1092)
NUM_FOLDS = 5  # ours


def prepare_cremad(source: str | Path, output: str | Path) -> dict[str, Any]:
    """Write `manifest.csv`: emotion as intended by the actor, level, speaker, sex and age, fold.

    Args:
        source: the corpus.
        output: where the files go; made if absent.

    Returns:
        The summary of `layout.write_corpus`.

    Raises:
        InputError: no such folder, no clip in it, or a file name with an emotion or an actor of no such
            code.
    """
    findings = Findings()
    people = _people(source, findings)
    files = audio_below(source, CORPUS.layout)
    findings.dropped = [f"{relative(f, source)}: the clips as mp3" for f in files if f.parent.name == "AudioMP3"]
    clips = match_names([f for f in files if f.parent.name != "AudioMP3"], NAME, findings, source)
    for name, (match, file) in clips.items():
        actor = match["actor"]
        if int(actor) not in ACTORS:
            raise InputError(f"{file}: actor {actor} is none of this corpus (1001 to 1091); correct the file's name")
        labels = {
            "speaker": f"cremad_{actor}",
            **people.get(actor, {}),
            "emotion": canonical_emotion(EMOTIONS, match["emotion"], str(file)),
            "original_label": match["emotion"],
            "level": LEVELS[match["level"]],
            "statement": match["sentence"],
            "fold": str((int(actor) - ACTORS[0]) % NUM_FOLDS + 1),
        }
        findings.rows.append(Row(name, file, labels))
    present = {match["actor"] for match, _ in clips.values()}
    findings.missing += [f"actor {actor}: no file of this actor" for actor in ACTORS if str(actor) not in present]
    findings.missing += [
        f"{name}.wav: named in SentenceFilenames.csv"
        for name in _listed(source)
        if name not in clips and name[:4] in present
    ]
    return write_corpus(CORPUS, findings, source, output)


def _people(source: str | Path, findings: Findings) -> dict[str, dict[str, str]]:
    papers = find_papers(source, "VideoDemographics.csv")
    if not papers:
        findings.missing.append("VideoDemographics.csv: sex and age stay blank")
        return {}
    return {
        row["actorid"]: {"sex": SEX.get(row["sex"].lower(), ""), "age": number(row["age"], row.place, "Age")}
        for row in read_table(papers[0], ("ActorID", "Age", "Sex"))
    }


def _listed(source: str | Path) -> list[str]:
    papers = find_papers(source, "SentenceFilenames.csv")
    return [row["filename"] for row in read_table(papers[0], ("Filename",))] if papers else []
