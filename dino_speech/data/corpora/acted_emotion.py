"""Corpora of actors who say given sentences in given emotions; the names of the files hold the labels."""

import csv
import re
from collections.abc import Mapping
from itertools import product

from dino_speech.data.corpora.catalogue import CORPORA
from dino_speech.data.corpora.corpus import Cells, Corpus, Labels, NamedFile, Tree, codes_of
from dino_speech.errors import InputError

SONG_OR_VIDEO = re.compile(r"(^|/)(?!03-01)\d\d(-\d\d){6}\.\w+$")


def _ravdess_labels(file: NamedFile, tables: None) -> Labels:
    folder = re.fullmatch(r"actor_?(\d\d)", file.path.parent.name, re.IGNORECASE)
    if file["speaker"] not in RAVDESS.people or (folder and folder[1] != file["speaker"]):
        raise InputError(
            f"{file.path}: its name says actor {file['speaker']}; expected an actor from 01 to 24 in that actor's own"
            " folder: a wrong name would put one voice under two speakers. Take the file from the owners' archive"
        )
    return {}


def _ravdess_missing(found: Mapping[str, NamedFile], tables: None) -> list[str]:
    """Of the 1,440 names; neutral has no strong intensity."""
    codes = (RAVDESS.codes[name] for name in ("emotion", "intensity", "statement", "repetition"))
    names = (f"03-01-{'-'.join(cells)}-{actor}" for actor, *cells in product(RAVDESS.people, *codes))
    return [f"{name}.wav" for name in names if name not in found and not name.startswith("03-01-01-02")]


RAVDESS = Corpus(
    name="RAVDESS",
    licence="CC BY-NC-SA 4.0",
    access="zenodo.org/record/1188976",
    layout="Actor_01/03-01-06-01-02-01-01.wav",
    file_name=(
        r"\d\d-\d\d-(?P<emotion>\d\d)-(?P<intensity>\d\d)-(?P<statement>\d\d)-(?P<repetition>\d\d)-(?P<speaker>\d\d)"
    ),
    columns=("speaker", "sex", "emotion", "original_label", "intensity", "statement", "repetition", "fold"),
    speaker="ravdess_{speaker}",
    codes={
        "intensity": {"01": "normal", "02": "strong"},
        "statement": {"01": "kids", "02": "dogs"},
        "repetition": {"01": "1", "02": "2"},
        "emotion": codes_of("01 neutral, 02 calm, 03 happy, 04 sad, 05 angry, 06 fearful, 07 disgusted, 08 surprised"),
    },
    people={f"{n:02}": {"sex": "M" if n % 2 else "F", "fold": str((n - 1) // 4 + 1)} for n in range(1, 25)},
    num_utterances=1_440,
    num_speakers=24,
    set_aside=lambda place: "not audio-only speech (03-01)" if SONG_OR_VIDEO.search(place) else "",
    labels=_ravdess_labels,
    missing=_ravdess_missing,
)
"""The speech of RAVDESS.

Facts (Livingstone & Russo 2018, doi 10.1371/journal.pone.0196391): 24 actors (odd numbers men, even numbers women),
60 clips each: two sentences, twice, calm, happy, sad, angry, fearful, disgust, surprised at two intensities and
neutral at one. 1,440 files of 48 kHz; levels are low and differ by actor.

Layout: `Actor_01/03-01-06-01-02-01-01.wav` (Audio_Speech_Actors_01-24.zip) = modality (03: audio only), channel (01
speech, 02 song), emotion, intensity, statement (Kids are talking by the door; Dogs are sitting by the door),
repetition, actor. Song and video files are left out and listed. Some mirrors hold everything twice; the second copy
is listed as extra. No official split; `fold` (1 to 6) is ours: two men and two women each, actors in order.
"""


def _crema_d_tables(tree: Tree) -> tuple[dict[str, Labels], list[str]]:
    """Actor -> sex and age; and the names of all clips."""
    note = "VideoDemographics.csv: sex and age stay blank"
    rows = tree.table("VideoDemographics.csv", columns=("ActorID", "Age", "Sex"), otherwise=note)
    clips = tree.table("SentenceFilenames.csv", columns=("Filename",), otherwise="")
    people = {row["ActorID"]: {"sex": row.sex("Sex"), "age": row.number("Age")} for row in rows}
    return people, [row["Filename"] for row in clips]


def _crema_d_labels(file: NamedFile, tables: tuple[dict[str, Labels], list[str]]) -> Labels:
    actor = file["speaker"]
    if int(actor) not in CREMA_D_ACTORS:
        raise InputError(f"{file.path}: actor {actor} is none of this corpus (1001 to 1091); correct the file's name")
    return {**tables[0].get(actor, {}), "fold": str((int(actor) - CREMA_D_ACTORS[0]) % 5 + 1)}


def _crema_d_missing(found: Mapping[str, NamedFile], tables: tuple[dict[str, Labels], list[str]]) -> list[str]:
    present = {file["speaker"] for file in found.values()}
    actors = [f"actor {actor}: no file of this actor" for actor in CREMA_D_ACTORS if str(actor) not in present]
    clips = [name for name in tables[1] if name not in found and name[:4] in present]
    return actors + [f"{name}.wav: named in SentenceFilenames.csv" for name in clips]


CREMA_D_ACTORS = range(1001, 1092)
CREMA_D = Corpus(
    name="CREMA-D",
    licence="Open Database License (ODbL 1.0)",  # contents under the Database Contents License
    access="github.com/CheyneyComputerScience/CREMA-D",
    layout="AudioWAV/1001_IEO_ANG_HI.wav and VideoDemographics.csv",
    file_name=r"(?P<speaker>1\d{3})_(?P<statement>[A-Z]{3})_(?P<emotion>[A-Z]{3})_(?P<level>LO|MD|HI|XX?)",
    columns=("speaker", "sex", "age", "emotion", "original_label", "level", "statement", "fold"),
    speaker="cremad_{speaker}",
    codes={
        "emotion": codes_of("ANG angry, DIS disgusted, FEA fearful, HAP happy, NEU neutral, SAD sad"),
        "level": {"LO": "low", "MD": "medium", "HI": "high", "XX": "", "X": ""},
    },
    num_utterances=7_442,
    num_speakers=91,
    set_aside=lambda place: "the clips as mp3" if "AudioMP3" in place.split("/")[-2:-1] else "",
    tables=_crema_d_tables,
    labels=_crema_d_labels,
    missing=_crema_d_missing,
)
"""CREMA-D.

Facts (Cao et al. 2014, doi 10.1109/TAFFC.2014.2336244; the owners' README and `VideoDemographics.csv`): 7,442 clips
of 91 actors (48 male, 43 female, 20 to 74 years old), twelve sentences in six emotions, played as intended; most
sentences at an unspecified level, one at three levels. Audio at 16 kHz.

Layout: `AudioWAV/1001_IEO_ANG_HI.wav` (the same clips in `AudioMP3` are left out and listed) = actor, sentence,
emotion, level (LO, MD, HI; XX, once X: unspecified); `VideoDemographics.csv` (ActorID, Age, Sex, Race, Ethnicity),
`SentenceFilenames.csv` (all clips; column Filename): without it missing clips cannot be named, only missing actors.
No official split; `fold` (1 to 5) is ours: actor number modulo 5, so that it does not depend on what is there.
"""


def _emodb_missing(found: Mapping[str, NamedFile], tables: None) -> list[str]:
    present = {file["speaker"] for file in found.values()}
    return [f"speaker {name}: no file of this speaker" for name in EMODB.people if name not in present]


_EMODB_PEOPLE = {
    **{"03": ("M", "31"), "08": ("F", "34"), "09": ("F", "21"), "10": ("M", "32"), "11": ("M", "26")},
    **{"12": ("M", "30"), "13": ("F", "32"), "14": ("F", "35"), "15": ("M", "25"), "16": ("F", "31")},
}
EMODB = Corpus(
    name="EmoDB",
    licence="free for research, to be cited; no licence text",
    access="emodb.bilderbar.info",
    layout="wav/03a01Wa.wav",
    file_name=r"(?P<speaker>\d\d)(?P<statement>[ab]\d\d)(?P<emotion>[A-Z])(?P<version>[a-z]?)",
    columns=("speaker", "sex", "age", "emotion", "original_label", "statement", "version", "fold"),
    speaker="emodb_{speaker}",
    codes={"emotion": codes_of("W angry, L bored, E disgusted, A fearful, F happy, T sad, N neutral")},
    people={
        name: {"sex": sex, "age": age, "fold": str(fold)}
        for fold, (name, (sex, age)) in enumerate(_EMODB_PEOPLE.items(), start=1)
    },
    num_utterances=535,
    num_speakers=10,
    missing=_emodb_missing,
)
"""The Berlin Database of Emotional Speech.

Facts (Burkhardt et al. 2005, Interspeech; the owners' pages emodb.bilderbar.info/docu and database.syntheticspeech.de):
ten German actors (five men, five women), ten sentences, seven emotions; of about 800 recordings the 535 are given out
that listeners recognised and found natural. Age and sex of each speaker are on the owners' page.

Layout: `wav/03a01Wa.wav` = speaker, sentence, first letter of the German emotion (Wut, Langeweile, Ekel, Angst,
Freude, Trauer, neutral), version. No official split; `fold` is the speaker (1 to 10): leave one speaker out, the
usual protocol. Not certain: the licence (the pages carry no text that could be checked here), and that the complete
set has 535 files in every mirror; missing files other than whole speakers cannot be named.
"""


def _nemo_table(tree: Tree) -> dict[str, Cells]:
    """Recording -> its row."""
    columns = ("file_id", "emotion", "speaker_id", "gender", "age")
    note = "data.tsv: sex and age stay blank, and missing recordings cannot be named"
    # The texts hold quotation marks that are none of CSV's.
    rows = tree.table("data.tsv", columns=columns, otherwise=note, delimiter="\t", quoting=csv.QUOTE_NONE)
    table = {row["file_id"].removesuffix(".wav"): row for row in rows}
    tree.expected["data.tsv"] = table
    return table


def _nemo_labels(file: NamedFile, table: dict[str, Cells]) -> Labels | str:
    if not table:
        return {}
    if file.id not in table:
        return "not named in data.tsv"
    row = table[file.id]
    if (row["speaker_id"], row["emotion"]) != (file["speaker"], file["emotion"]):
        raise InputError(
            f"{row.place}: says speaker {row['speaker_id']!r} and emotion {row['emotion']!r}, the name of {file.path}"
            f" {file['speaker']!r} and {file['emotion']!r}; take both from the owners' archive"
        )
    return {"sex": row.sex("gender"), "age": row.number("age")}


NEMO = Corpus(
    name="nEMO",
    licence="CC BY-NC-SA 4.0",
    access="github.com/amu-cai/nEMO",
    layout="samples/WR0_surprised_64.wav and data.tsv",
    file_name=r"(?P<speaker>[A-Z]{2}\d)_(?P<emotion>[a-z]+)_(?P<statement>\d+)",
    columns=("speaker", "sex", "age", "emotion", "original_label", "statement", "fold"),
    speaker="nemo_{speaker}",
    codes={
        "emotion": codes_of(
            "anger angry, fear fearful, happiness happy, neutral neutral, sadness sad, surprised surprised"
        )
    },
    people={
        name: {"fold": str(fold)}
        for fold, name in enumerate(["EB0", "IC0", "KD0", "KS0", "MK0", "MP0", "SM0", "TP0", "WR0"], start=1)
    },
    num_utterances=4_481,
    num_speakers=9,
    tables=_nemo_table,
    labels=_nemo_labels,
)
"""nEMO.

Facts (Christop 2024, LREC-COLING, arXiv 2404.06292; the owners' README and `data.tsv`): nine Polish actors, 90
sentences, six emotions, 4,481 recordings, over three hours, 24 kHz.

Layout: `samples/WR0_surprised_64.wav` = speaker, emotion, sentence; `data.tsv` (file_id, emotion, raw_text,
normalized_text, speaker_id, gender, age; speaker_id is padded with spaces). No official split; `fold` is the speaker
(1 to 9): leave one speaker out.
"""

CORPORA.known |= {"crema-d": CREMA_D, "emodb": EMODB, "nemo": NEMO, "ravdess": RAVDESS}
