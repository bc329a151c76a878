"""Corpora of emotion in conversation: dialogues, podcasts, talk shows."""

import re
from collections.abc import Mapping

from dino_speech.data.corpora.catalogue import CORPORA
from dino_speech.data.corpora.corpus import UNLABELLED, Cells, Corpus, Labels, NamedFile, Tree, codes_of, decode, number
from dino_speech.errors import InputError
from dino_speech.received_files import read_bytes

RATED = ("speaker", "sex", "emotion", "original_label", "arousal", "dominance", "valence")
LABEL_LINE = re.compile(r"\[\d+\.?\d* - \d+\.?\d*\]\s+(?P<id>\S+)\s+(?P<label>\S+)\s+\[(?P<numbers>[^\]]*)\]\s*")
TEXT_LINE = re.compile(r"(?P<id>\S+)\s+\[[\d.]+-[\d.]+\]:\s*(?P<text>.*)")
DIALOGUE = re.compile(r"(.*/)?Ses0[1-5][FM]_(?:impro|script)\d\d[ab]?(?:_\d[ab]?)?\.\w+")


def _iemocap_tables(tree: Tree) -> dict[str, Labels]:
    """Utterance -> its emotion and dimensions, and what was said where the transcriptions are there."""
    folders: dict[str, list[tuple[str, str]]] = {"EmoEvaluation": [], "transcriptions": []}
    for path in tree.find("Ses*.txt"):
        if path.parent.name in folders:
            lines = read_bytes(path).decode("utf-8", "replace").splitlines()
            folders[path.parent.name] += [(f"{path} row {row}", line) for row, line in enumerate(lines, start=1)]
    if not folders["EmoEvaluation"]:
        problem = f"{tree.source}: no Session*/dialog/EmoEvaluation/Ses*.txt, which hold the labels; unpack them too"
        raise InputError(problem)
    matches = (TEXT_LINE.fullmatch(line) for _, line in folders["transcriptions"])
    said = {match["id"]: match["text"].strip() for match in matches if match}
    labels = {
        match["id"]: {"transcript": said.get(match["id"], ""), **_iemocap_line(match, place)}
        for place, line in folders["EmoEvaluation"]
        if (match := LABEL_LINE.fullmatch(line))
    }
    tree.expected["EmoEvaluation"] = labels
    return labels


def _iemocap_line(match: "re.Match[str]", place: str) -> Labels:
    numbers = [cell.strip() for cell in match["numbers"].split(",")]
    if len(numbers) != 3:
        raise InputError(f"{place}: found [{match['numbers']}]; expected [valence, activation, dominance]")
    emotion = decode(IEMOCAP.codes["emotion"], match["label"], "emotion", place)
    dimensions = zip(("valence", "arousal", "dominance"), numbers, strict=True)
    labels = {name: number(cell, place, "dimensions") for name, cell in dimensions}
    return {"emotion": emotion, "original_label": match["label"], **labels}


def _iemocap_labels(file: NamedFile, tables: dict[str, Labels]) -> Labels | str:
    if file.id not in tables:
        return "no label in EmoEvaluation"
    folder = re.search(r"Session(\d)", file.place)
    if folder and folder[1] != file["fold"]:
        problem = f"{file.path}: lies in Session{folder[1]}, but its name says session {file['fold']}"
        raise InputError(f"{problem}; a speaker would be in two folds. Take the file from the owners' archive")
    return tables[file.id]


def _iemocap_missing(found: Mapping[str, NamedFile], tables: dict[str, Labels]) -> list[str]:
    present = {file["fold"] for file in found.values()}
    return [f"Session{n}: no utterance of this session" for n in "12345" if n not in present]


IEMOCAP = Corpus(
    name="IEMOCAP",
    licence="by signed request from USC SAIL, for research",
    access="sail.usc.edu/iemocap",
    layout="Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav and Session1/dialog/EmoEvaluation/*.txt",
    file_name=r"(?P<recording>Ses0(?P<fold>[1-5])[FM]_(?P<style>impro|script)\w+)_(?P<sex>[FM])(?:\d{3}|XX\d)",
    columns=(*RATED, "recording", "style", "transcript", "fold"),
    speaker="iemocap_Ses0{fold}{sex}",
    codes={
        "style": {"impro": "improvised", "script": "scripted"},
        "emotion": {
            **codes_of("ang angry, hap happy, exc happy, neu neutral, sad sad"),
            **dict.fromkeys(("fru", "fea", "sur", "dis", "oth", "xxx"), UNLABELLED),  # outside the usual four classes
        },
    },
    num_utterances=10_039,
    num_speakers=10,
    set_aside=lambda place: "a whole dialogue" if DIALOGUE.fullmatch(place) else "",
    tables=_iemocap_tables,
    labels=_iemocap_labels,
    missing=_iemocap_missing,
)
"""IEMOCAP.

Facts (Busso et al. 2008, doi 10.1007/s10579-008-9076-6; the release's README; layout and the form of the label lines
also from public preparation scripts): five sessions of one woman and one man each, improvised and scripted dialogues,
10,039 utterances. `Ses01F_impro01_M000`: session 1, the woman wears the markers, the MAN speaks. Each utterance has a
categorical label (majority of three, `xxx` where there is none) and valence, activation, dominance (means, 1 to 5).
Not to be passed on.

Layout: `Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav`; labels in
`Session1/dialog/EmoEvaluation/Ses01F_impro01.txt`, lines `[6.2901 -
8.2357]<tab>Ses01F_impro01_F000<tab>neu<tab>[2.5000, 2.5000, 2.5000]`, the three numbers being valence, activation,
dominance. What was said, where it is unpacked: `Session1/dialog/transcriptions/Ses01F_impro01.txt`, lines
`Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.` The dialogues as a whole (`dialog/wav`) are left out and listed.
The usual task has four classes, excited counted as happy: 5,531 utterances (angry 1,103, happy 1,636, neutral 1,708,
sad 1,084); the other utterances keep their original label and their dimensions, with a blank `emotion`. No official
split; `fold` is the session: leave one session out.
"""

TESTS = ("test1", "test2", "test3")
SPLITS = {"train": "train", "development": "dev", **{name: name for name in TESTS}}


# The name of the table of labels; turn -> labels; turn -> what was said.
PodcastTables = tuple[str, dict[str, Labels], dict[str, str]]


def _podcast_tables(tree: Tree) -> PodcastTables:
    names = ("labels_consensus.csv", "labels_concensus.csv")
    columns = ("FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set")
    labels = {row["FileName"].removesuffix(".wav"): _podcast_row(row) for row in tree.table(*names, columns=columns)}
    splits: dict[str, Labels] = {}
    for partitions in tree.find("Partitions.txt", "Partition.txt")[:1]:
        for index, line in enumerate(read_bytes(partitions).decode("utf-8").splitlines(), start=1):
            split, separator, file = line.partition(";")
            name = file.strip().removesuffix(".wav")
            if separator and name:
                split = decode(SPLITS, split.strip(), "split", f"{partitions} row {index}")
                splits |= {} if name in labels else {name: {"split": split}}
    table = tree.find(*names)[0].name
    tree.expected = {table: labels, "the partitions": splits}
    texts = {path.stem: read_bytes(path).decode("utf-8", "replace") for path in tree.find("MSP-PODCAST_*.txt")}
    return table, labels | splits, {name: " ".join(text.split()) for name, text in texts.items()}


def _podcast_row(row: Cells) -> Labels:
    speaker = row["SpkrID"]
    return {
        "speaker": "" if speaker.lower() in ("", "unknown", "unk", "na", "nan") else f"msp_{speaker}",
        "sex": row.sex("Gender"),
        "emotion": decode(MSP_PODCAST.codes["emotion"], row["EmoClass"], "emotion", row.place),
        "original_label": row["EmoClass"],
        "arousal": row.number("EmoAct"),
        "dominance": row.number("EmoDom"),
        "valence": row.number("EmoVal"),
        "split": decode(SPLITS, row["Split_Set"], "split", row.place),
    }


def _podcast_labels(file: NamedFile, tables: PodcastTables) -> Labels | str:
    table, labels, said = tables
    if file.id not in labels:
        return f"not named in {table}"
    return {"transcript": said.get(file.id, ""), **labels[file.id]}


MSP_PODCAST = Corpus(
    name="MSP-Podcast",
    licence="by signed agreement with the University of Texas at Dallas",
    access="ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html",
    layout="Audios/MSP-PODCAST_0001_0008.wav and Labels/labels_consensus.csv",
    file_name=r"(?P<recording>MSP-PODCAST_\d+)_\d+(?:_\d+)?",
    columns=(*RATED, "recording", "transcript", "split"),
    codes={
        "emotion": {
            **codes_of("A angry, C contemptuous, D disgusted, F fearful, H happy, N neutral, S sad, U surprised"),
            **{"O": UNLABELLED, "X": UNLABELLED},  # another emotion, no agreement
        }
    },
    may_share=TESTS,
    gives_way=("train", "dev"),  # some releases have a speaker in two partitions; the tests stay whole
    tables=_podcast_tables,
    labels=_podcast_labels,
)
"""MSP-Podcast.

Facts (Lotfian & Busso 2019, doi 10.1109/TAFFC.2017.2736999; the release's readme 1.12; the owners' page; columns also
from public preparation scripts): speaking turns of podcasts, each with a primary emotion and activation (arousal),
valence, dominance from 1 to 7, means over at least five people. Version 1.11: 151,654 turns, 238 hours; train 84,030
(also turns whose speaker nobody knows), development 19,815, test1 30,647, test2 14,815, test3 2,347 (no labels given
out). The owners say that the TEST sets share some speakers with one another. Academic or commercial agreements; not
to be passed on.

Layout: `Audios/MSP-PODCAST_0001_0008.wav` (some releases `Audio/`); `Labels/labels_consensus.csv`
(`labels_concensus.csv` in old releases): FileName, EmoClass, EmoAct, EmoVal, EmoDom, SpkrID, Gender, Split_Set;
`Partitions.txt` (`Partition.txt`), lines `Test3; MSP-PODCAST_2000_0001.wav`, is read for files that the table does
not have. `transcript` is the text of `Transcripts/MSP-PODCAST_0001_0008.txt`, where a release has such files (not
certain: their name and place), else blank. `split` is the owners' partition: train, dev, test1, test2, test3. Counts
differ by version, so none is expected. Not certain: that train and development share no speaker with the tests in
every version; if they do, those turns are left out of train and development here, and the tests stay whole.
"""


def _urdu_labels(file: NamedFile, tables: None) -> Labels:
    emotions = URDU.codes["emotion"]
    emotion = decode(emotions, file["emotion"], "emotion", file.path)
    wrong = {*emotions.values()}.intersection(file.place.lower().split("/")) - {emotion}
    if wrong:
        problem = f"{file.path}: lies in the folder {min(wrong)!r}, but its name says {file['emotion']} ({emotion})"
        raise InputError(f"{problem}; take the file from the owners' archive")
    return {}


def _urdu_missing(found: Mapping[str, NamedFile], tables: None) -> list[str]:
    present = {(file["emotion"], int(file["number"])) for file in found.values()}
    expected = [(letter, index) for letter in URDU.codes["emotion"] for index in range(1, 101)]
    return [f"{letter}0{index}: no file" for letter, index in expected if (letter, index) not in present]


URDU = Corpus(
    name="URDU",
    licence="for research purposes only (the owners' README)",
    access="github.com/siddiquelatif/URDU-Dataset",
    layout="Angry/SM1_F10_A010.wav, and the same in Happy, Neutral, Sad",
    file_name=r"S(?P<sex>[MF])(?P<speaker>\d+)_F\d+_(?P<emotion>[A-Z])(?P<number>\d+)",
    columns=("speaker", "sex", "emotion", "original_label"),
    speaker="urdu_S{sex}{speaker}",
    codes={"emotion": {"A": "angry", "H": "happy", "N": "neutral", "S": "sad"}},
    num_utterances=400,
    num_speakers=29,
    labels=_urdu_labels,
    missing=_urdu_missing,
)
"""URDU.

Facts (Latif et al. 2018, arXiv 1812.10411): 400 utterances of about 2.5 s from Urdu talk shows on YouTube, unscripted,
100 for each of four emotions. The owners speak of 38 speakers (27 men, 11 women); the names of the files give 29.

Layout: `Angry/SM1_F10_A010.wav` (by the README with a folder per speaker between) = speaker (SM: man, SF: woman),
number of the speaker's file, first letter of the emotion and number within it (A01 to A0100); folders Angry, Happy,
Neutral, Sad. No official split and very uneven speakers, so there is no `fold`: `evaluate classification` makes its
own speaker-disjoint folds. Not certain: whether some of the 29 names stand for several people.
"""

CORPORA.known |= {"iemocap": IEMOCAP, "msp-podcast": MSP_PODCAST, "urdu": URDU}
