"""URDU as its owners give it out -> a manifest.

Facts (Latif et al. 2018, arXiv 1812.10411; github.com/siddiquelatif/URDU-Dataset): 400 utterances of about 2.5 s from
Urdu talk shows on YouTube, unscripted, 100 for each of four emotions. The owners speak of 38 speakers (27 men, 11
women); the names of the files give 29. Licence: the owners' README, "for research purposes only".

Layout: `Angry/SM1_F10_A010.wav` (by the README with a folder per speaker between) = speaker (SM: man, SF: woman),
number of the speaker's file, first letter of the emotion and number within it (A01 to A0100); folders Angry, Happy,
Neutral, Sad.

No official split and very uneven speakers, so there is no `fold`: `evaluate classification` makes its own
speaker-disjoint folds. Not certain: whether some of the 29 names stand for several people.
"""

import re
from pathlib import Path
from typing import Any

from dino_speech.data.corpora.emotions import canonical_emotion
from dino_speech.data.corpora.layout import Corpus, Findings, Row, audio_below, match_names, relative, write_corpus
from dino_speech.errors import InputError

CORPUS = Corpus(
    name="URDU",
    licence="for research purposes only (the owners' README)",
    layout="Angry/SM1_F10_A010.wav, and the same in Happy, Neutral, Sad",
    columns=("speaker", "sex", "emotion", "original_label"),
    num_utterances=400,
    num_speakers=29,
)
EMOTIONS = {"A": "angry", "H": "happy", "N": "neutral", "S": "sad"}
FOLDERS = {"angry", "happy", "neutral", "sad"}
NUM_EACH = 100
NAME = re.compile(r"S(?P<sex>[MF])(?P<speaker>\d+)_F\d+_(?P<emotion>[A-Z])(?P<number>\d+)")


def prepare_urdu(source: str | Path, output: str | Path) -> dict[str, Any]:
    """Write `manifest.csv`: emotion, speaker, sex.

    Args:
        source: the corpus.
        output: where the files go; made if absent.

    Returns:
        The summary of `layout.write_corpus`.

    Raises:
        InputError: no such folder, no utterance in it, an emotion that the corpus does not have, or a file in the
            folder of another emotion.
    """
    findings = Findings()
    found = match_names(audio_below(source, CORPUS.layout), NAME, findings, source)
    present = set()
    for name, (match, file) in found.items():
        emotion = canonical_emotion(EMOTIONS, match["emotion"], str(file))
        wrong = FOLDERS.intersection(relative(file, source).lower().split("/")) - {emotion}
        if wrong:
            raise InputError(
                f"{file}: lies in the folder {min(wrong)!r}, but its name says {match['emotion']} ({emotion});"
                " take the file from the owners' archive"
            )
        present.add((match["emotion"], int(match["number"])))
        labels = {
            "speaker": f"urdu_S{match['sex']}{match['speaker']}",
            "sex": match["sex"],
            "emotion": emotion,
            "original_label": match["emotion"],
        }
        findings.rows.append(Row(name, file, labels))
    expected = [(letter, index) for letter in EMOTIONS for index in range(1, NUM_EACH + 1)]
    findings.missing += [f"{letter}0{index}: no file" for letter, index in expected if (letter, index) not in present]
    return write_corpus(CORPUS, findings, source, output)
