"""IEMOCAP as its owners give it out -> a manifest.

Facts (Busso et al. 2008, doi 10.1007/s10579-008-9076-6; the release's README; layout and the form of the label lines
also from public preparation scripts): five sessions of one woman and one man each, improvised and scripted dialogues,
10,039 utterances. `Ses01F_impro01_M000`: session 1, the woman wears the markers, the MAN speaks. Each utterance has a
categorical label (majority of three, `xxx` where there is none) and valence, activation, dominance (means, 1 to 5).
Licence: by signed request from USC SAIL, for research; not to be passed on.

Layout: `Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav`; labels in
`Session1/dialog/EmoEvaluation/Ses01F_impro01.txt`, lines `[6.2901 -
8.2357]<tab>Ses01F_impro01_F000<tab>neu<tab>[2.5000, 2.5000, 2.5000]`, the three numbers being valence, activation,
dominance. What was said, where it is unpacked: `Session1/dialog/transcriptions/Ses01F_impro01.txt`, lines
`Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.` The dialogues as a whole (`dialog/wav`) are left out and listed.

The usual task has four classes, excited counted as happy: 5,531 utterances (angry 1,103, happy 1,636, neutral 1,708,
sad 1,084); the other utterances keep their original label and their dimensions, with a blank `emotion`. No official
split; `fold` is the session: leave one session out.
"""

import re
from pathlib import Path
from typing import Any

from dino_speech.data.corpora.emotions import UNLABELLED, canonical_emotion
from dino_speech.data.corpora.layout import Corpus, Findings, Row, audio_below, match_names, relative, write_corpus
from dino_speech.data.corpora.tables import find_papers, number
from dino_speech.errors import InputError

CORPUS = Corpus(
    name="IEMOCAP",
    licence="by signed request from USC SAIL, for research",
    layout="Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav and Session1/dialog/EmoEvaluation/*.txt",
    columns=(
        *("speaker", "sex", "emotion", "original_label", "arousal", "dominance", "valence"),
        *("recording", "style", "transcript", "fold"),
    ),
    num_utterances=10_039,
    num_speakers=10,
)
EMOTIONS = {
    "ang": "angry",
    "hap": "happy",
    "exc": "happy",
    "neu": "neutral",
    "sad": "sad",
    # Outside the usual four classes.
    "fru": UNLABELLED,
    "fea": UNLABELLED,
    "sur": UNLABELLED,
    "dis": UNLABELLED,
    "oth": UNLABELLED,
    "xxx": UNLABELLED,
}
NAME = re.compile(r"(?P<dialog>Ses0(?P<session>[1-5])[FM]_(?P<style>impro|script)\w+)_(?P<sex>[FM])(?:\d{3}|XX\d)")
DIALOG = re.compile(r"Ses0[1-5][FM]_(?:impro|script)\d\d[ab]?(?:_\d[ab]?)?")
LINE = re.compile(r"\[\d+\.?\d* - \d+\.?\d*\]\s+(?P<id>\S+)\s+(?P<label>\S+)\s+\[(?P<numbers>[^\]]*)\]\s*")
SAID = re.compile(r"(?P<id>\S+)\s+\[[\d.]+-[\d.]+\]:\s*(?P<text>.*)")
STYLES = {"impro": "improvised", "script": "scripted"}


def prepare_iemocap(source: str | Path, output: str | Path) -> dict[str, Any]:
    """Write `manifest.csv` (all utterances) and `emotion.csv` (those of the four classes).

    Args:
        source: the corpus.
        output: where the files go; made if absent.

    Returns:
        The summary of `layout.write_corpus`.

    Raises:
        InputError: no such folder, no utterance or no label in it, a label that the corpus does not have, or an
            utterance in the folder of another session.
    """
    findings, files = Findings(), []
    for file in audio_below(source, CORPUS.layout):
        if DIALOG.fullmatch(file.stem):
            findings.dropped.append(f"{relative(file, source)}: a whole dialogue")
        else:
            files.append(file)
    labels, said = _labels(source), _transcripts(source)
    found = match_names(files, NAME, findings, source)
    for name, (match, file) in found.items():
        if name not in labels:
            findings.extra.append(f"{relative(file, source)}: no label in EmoEvaluation")
            continue
        folder = re.search(r"Session(\d)", relative(file, source))
        if folder and folder[1] != match["session"]:
            raise InputError(
                f"{file}: lies in Session{folder[1]}, but its name says session {match['session']}; a speaker would be"
                " in two folds. Take the file from the owners' archive"
            )
        speaker = {
            "speaker": f"iemocap_Ses0{match['session']}{match['sex']}",
            "sex": match["sex"],
            "recording": match["dialog"],
            "style": STYLES[match["style"]],
            "transcript": said.get(name, ""),
            "fold": match["session"],
        }
        findings.rows.append(Row(name, file, speaker | labels[name]))
    findings.missing += [f"{name}.wav: named in EmoEvaluation" for name in labels if name not in found]
    present = {match["session"] for match, _ in found.values()}
    findings.missing += [f"Session{n}: no utterance of this session" for n in "12345" if n not in present]
    return write_corpus(CORPUS, findings, source, output)


def _labels(source: str | Path) -> dict[str, dict[str, str]]:
    """Utterance -> its emotion and dimensions."""
    papers = [path for path in find_papers(source, "Ses*.txt") if path.parent.name == "EmoEvaluation"]
    if not papers:
        raise InputError(f"{source}: no Session*/dialog/EmoEvaluation/Ses*.txt, which hold the labels; unpack them too")
    labels = {}
    for path in papers:
        for index, line in enumerate(path.read_text("utf-8", "replace").splitlines(), start=1):
            match = LINE.fullmatch(line)
            if match:
                labels[match["id"]] = _read_line(match, f"{path} row {index}")
    return labels


def _transcripts(source: str | Path) -> dict[str, str]:
    """Utterance -> what was said; empty where the transcriptions are not there."""
    found: dict[str, str] = {}
    for path in find_papers(source, "Ses*.txt"):
        if path.parent.name == "transcriptions":
            lines = path.read_text("utf-8", "replace").splitlines()
            found |= {match["id"]: match["text"].strip() for match in map(SAID.fullmatch, lines) if match}
    return found


def _read_line(match: "re.Match[str]", place: str) -> dict[str, str]:
    numbers = [cell.strip() for cell in match["numbers"].split(",")]
    if len(numbers) != 3:
        raise InputError(f"{place}: found [{match['numbers']}]; expected [valence, activation, dominance]")
    valence, arousal, dominance = (number(cell, place, "dimensions") for cell in numbers)
    return {
        "emotion": canonical_emotion(EMOTIONS, match["label"], place),
        "original_label": match["label"],
        "arousal": arousal,
        "dominance": dominance,
        "valence": valence,
    }
