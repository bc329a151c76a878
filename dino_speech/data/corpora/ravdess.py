"""The speech of RAVDESS as its owners give it out -> a manifest.

Facts (Livingstone & Russo 2018, doi 10.1371/journal.pone.0196391; zenodo.org/record/1188976): 24 actors (odd numbers
men, even numbers women), 60 clips each: two sentences, twice, calm, happy, sad, angry, fearful, disgust, surprised at
two intensities and neutral at one. 1,440 files of 48 kHz; levels are low and differ by actor. Licence: CC BY-NC-SA 4.0.

Layout: `Actor_01/03-01-06-01-02-01-01.wav` (Audio_Speech_Actors_01-24.zip) = modality (03: audio only), channel (01
speech, 02 song), emotion, intensity, statement, repetition, actor. Song and video files are left out and listed. Some
mirrors hold everything twice; the second copy is listed as extra.

There is no official split. `fold` (1 to 6) is ours: two men and two women each, actors in order.
"""

import re
from itertools import product
from pathlib import Path
from typing import Any

from dino_speech.data.corpora.emotions import canonical_emotion
from dino_speech.data.corpora.layout import Corpus, Findings, Row, audio_below, match_names, relative, write_corpus
from dino_speech.errors import InputError

CORPUS = Corpus(
    name="RAVDESS",
    licence="CC BY-NC-SA 4.0",
    layout="Actor_01/03-01-06-01-02-01-01.wav",
    columns=("speaker", "sex", "emotion", "original_label", "intensity", "statement", "repetition", "fold"),
    num_utterances=1_440,
    num_speakers=24,
)
EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fearful",
    "07": "disgusted",
    "08": "surprised",
}
INTENSITIES = {"01": "normal", "02": "strong"}
STATEMENTS = {"01": "kids", "02": "dogs"}  # Kids are talking by the door; Dogs are sitting by the door.
ACTORS = [f"{number:02}" for number in range(1, 25)]
NAME = re.compile(
    r"(?P<modality>\d\d)-(?P<channel>\d\d)-(?P<emotion>\d\d)-(?P<intensity>\d\d)-(?P<statement>\d\d)"
    r"-(?P<repetition>\d\d)-(?P<actor>\d\d)"
)
FOLDER = re.compile(r"actor_?(\d\d)", re.IGNORECASE)


def prepare_ravdess(source: str | Path, output: str | Path) -> dict[str, Any]:
    """Write `manifest.csv`: emotion, intensity, statement, repetition, speaker, sex, fold.

    Args:
        source: the corpus.
        output: where the files go; made if absent.

    Returns:
        The summary of `layout.write_corpus`.

    Raises:
        InputError: no such folder, no clip in it, a code that the corpus does not have, or a file in the folder of
            another actor.
    """
    findings = Findings()
    clips = match_names(audio_below(source, CORPUS.layout), NAME, findings, source)
    for name, (match, file) in clips.items():
        if (match["modality"], match["channel"]) != ("03", "01"):
            findings.dropped.append(f"{relative(file, source)}: not audio-only speech (03-01)")
            continue
        folder = FOLDER.fullmatch(file.parent.name)
        if match["actor"] not in ACTORS or (folder and folder[1] != match["actor"]):
            raise InputError(
                f"{file}: its name says actor {match['actor']}; expected an actor from 01 to 24 in that actor's own"
                " folder: a wrong name would put one voice under two speakers. Take the file from the owners' archive"
            )
        findings.rows.append(Row(name, file, _labels(match, file)))
    present = {row.id for row in findings.rows}
    findings.missing += [f"{name}.wav" for name in _all_names() if name not in present]
    return write_corpus(CORPUS, findings, source, output)


def _labels(match: "re.Match[str]", file: Path) -> dict[str, str]:
    for field, known in (("intensity", INTENSITIES), ("statement", STATEMENTS)):
        if match[field] not in known:
            raise InputError(f"{file}: {field} {match[field]!r} is none of this corpus ({', '.join(known)})")
    actor = int(match["actor"])
    return {
        "speaker": f"ravdess_{match['actor']}",
        "sex": "M" if actor % 2 else "F",
        "emotion": canonical_emotion(EMOTIONS, match["emotion"], str(file)),
        "original_label": match["emotion"],
        "intensity": INTENSITIES[match["intensity"]],
        "statement": STATEMENTS[match["statement"]],
        "repetition": str(int(match["repetition"])),
        "fold": str((actor - 1) // 4 + 1),
    }


def _all_names() -> list[str]:
    """The 1,440 names; neutral has no strong intensity."""
    fields = product(ACTORS, EMOTIONS, INTENSITIES, STATEMENTS, ("01", "02"))
    return [
        f"03-01-{emotion}-{intensity}-{statement}-{repetition}-{actor}"
        for actor, emotion, intensity, statement, repetition in fields
        if (emotion, intensity) != ("01", "02")
    ]
