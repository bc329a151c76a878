"""The Berlin Database of Emotional Speech (EmoDB) as its owners give it out -> a manifest.

Facts (Burkhardt et al. 2005, Interspeech; the owners' pages emodb.bilderbar.info/docu and database.syntheticspeech.de):
ten German actors (five men, five women), ten sentences, seven emotions; of about 800 recordings the 535 are given out
that listeners recognised and found natural. Age and sex of each speaker are on the owners' page. Licence: free for
research, to be cited; the pages carry no licence text that could be checked here (not certain).

Layout: `wav/03a01Wa.wav` = speaker, sentence, first letter of the German emotion, version.

No official split; `fold` is the speaker (1 to 10): leave one speaker out, the usual protocol. Not certain: that the
complete set has 535 files in every mirror; missing files other than whole speakers cannot be named.
"""

import re
from pathlib import Path
from typing import Any

from dino_speech.data.corpora.emotions import canonical_emotion
from dino_speech.data.corpora.layout import Corpus, Findings, Row, audio_below, match_names, write_corpus
from dino_speech.errors import InputError

CORPUS = Corpus(
    name="EmoDB",
    licence="free for research, to be cited; no licence text",
    layout="wav/03a01Wa.wav",
    columns=("speaker", "sex", "age", "emotion", "original_label", "statement", "version", "fold"),
    num_utterances=535,
    num_speakers=10,
)
EMOTIONS = {
    "W": "angry",  # Wut
    "L": "bored",  # Langeweile
    "E": "disgusted",  # Ekel
    "A": "fearful",  # Angst
    "F": "happy",  # Freude
    "T": "sad",  # Trauer
    "N": "neutral",
}
SPEAKERS = {
    "03": ("M", "31"),
    "08": ("F", "34"),
    "09": ("F", "21"),
    "10": ("M", "32"),
    "11": ("M", "26"),
    "12": ("M", "30"),
    "13": ("F", "32"),
    "14": ("F", "35"),
    "15": ("M", "25"),
    "16": ("F", "31"),
}  # sex, age
NAME = re.compile(r"(?P<speaker>\d\d)(?P<sentence>[ab]\d\d)(?P<emotion>[A-Z])(?P<version>[a-z]?)")


def prepare_emodb(source: str | Path, output: str | Path) -> dict[str, Any]:
    """Write `manifest.csv`: emotion, statement, version, speaker, sex, age, fold.

    Args:
        source: the corpus.
        output: where the files go; made if absent.

    Returns:
        The summary of `layout.write_corpus`.

    Raises:
        InputError: no such folder, no utterance in it, or a name with a speaker or an emotion of no such code.
    """
    findings = Findings()
    found = match_names(audio_below(source, CORPUS.layout), NAME, findings, source)
    folds = {speaker: str(number) for number, speaker in enumerate(SPEAKERS, start=1)}
    for name, (match, file) in found.items():
        speaker = match["speaker"]
        if speaker not in SPEAKERS:
            raise InputError(f"{file}: speaker {speaker!r} is none of this corpus ({', '.join(SPEAKERS)})")
        sex, age = SPEAKERS[speaker]
        labels = {
            "speaker": f"emodb_{speaker}",
            "sex": sex,
            "age": age,
            "emotion": canonical_emotion(EMOTIONS, match["emotion"], str(file)),
            "original_label": match["emotion"],
            "statement": match["sentence"],
            "version": match["version"],
            "fold": folds[speaker],
        }
        findings.rows.append(Row(name, file, labels))
    present = {match["speaker"] for match, _ in found.values()}
    findings.missing += [f"speaker {name}: no file of this speaker" for name in SPEAKERS if name not in present]
    return write_corpus(CORPUS, findings, source, output)
