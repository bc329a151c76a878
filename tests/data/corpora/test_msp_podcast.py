"""MSP-Podcast: partitions, dimensions, unknown speakers, what the tests may share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dino_speech.data.corpora.preparing import prepare
from dino_speech.data.manifest import read_manifest
from dino_speech.errors import InputError

HEADER = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set\n"
ROWS = [
    "MSP-PODCAST_0001_0008.wav,H,4.8,5.2,4.4,12,Male,Train",
    "MSP-PODCAST_0001_0019.wav,X,3.6,3.4,3.8,Unknown,Unknown,Train",
    "MSP-PODCAST_0002_0033.wav,N,4.0,4.0,4.0,15,Female,Development",
    "MSP-PODCAST_0003_0001.wav,C,4.0,2.0,5.0,7,Female,Test1",
    "MSP-PODCAST_0004_0001.wav,U,5.5,4.5,4.0,7,Female,Test2",
    "MSP-PODCAST_0005_0001.wav,O,4.0,4.0,4.0,8,Male,Test2",
]
MISSING = "MSP-PODCAST_0006_0001.wav,A,6.0,2.0,6.0,9,Male,Train"


@pytest.fixture
def podcast(plant: Callable[..., Path]) -> Path:
    names = [row.partition(",")[0] for row in ROWS]
    source = plant("MSP", [f"Audios/{name}" for name in (*names, "MSP-PODCAST_2000_0001.wav", "hello.wav")])
    (source / "Labels").mkdir()
    (source / "Labels" / "labels_consensus.csv").write_text(HEADER + "\n".join([*ROWS, MISSING]) + "\n")
    (source / "Transcripts").mkdir()
    (source / "Transcripts" / "MSP-PODCAST_0001_0008.txt").write_text("So, that\nwas it. \n")
    lines = ["Train; MSP-PODCAST_0001_0008.wav", "Test3; MSP-PODCAST_2000_0001.wav", "Test3; MSP-PODCAST_2000_0002.wav"]
    (source / "Partitions.txt").write_text("\n".join(lines) + "\n")
    return source


def test_rows(tmp_path: Path, podcast: Path, labels_of) -> None:
    summary = prepare("msp-podcast", podcast, tmp_path / "out")
    found = labels_of()
    assert found["MSP-PODCAST_0001_0008"] == {
        "speaker": "msp_12",
        "sex": "M",
        "emotion": "happy",
        "original_label": "H",
        "arousal": "4.8",
        "dominance": "4.4",
        "valence": "5.2",
        "recording": "MSP-PODCAST_0001",
        "transcript": "So, that was it.",
        "split": "train",
        "corpus": "MSP-Podcast",
    }
    unknown = found["MSP-PODCAST_0001_0019"]
    assert (unknown["speaker"], unknown["sex"], unknown["emotion"], unknown["arousal"]) == ("", "", "", "3.6")
    assert unknown["transcript"] == ""
    hidden = found["MSP-PODCAST_2000_0001"]
    assert (hidden["split"], hidden["emotion"], hidden["arousal"], hidden["speaker"]) == ("test3", "", "", "")
    assert summary["counts"]["split"] == {"dev": 1, "test1": 1, "test2": 2, "test3": 1, "train": 2}
    assert summary["without_label"] == {"": 1, "O": 1, "X": 1}
    assert [u.labels["emotion"] for u in read_manifest(tmp_path / "out" / "emotion.csv")] == [
        *("happy", "neutral", "contemptuous", "surprised")
    ]
    assert summary["missing"] == [
        "MSP-PODCAST_0006_0001.wav: named in labels_consensus.csv",
        "MSP-PODCAST_2000_0002.wav: named in the partitions",
    ]
    assert summary["extra"] == ["Audios/hello.wav: not a name of this corpus"]
    assert (
        "Without emotion (original label and number): blank 1, O 1, X 1."
        in (tmp_path / "out" / "README.md").read_text()
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",H,4.8", ",Z,4.8", r"labels_consensus\.csv row 2: emotion 'Z' is none of this corpus \(A, C, D"),
        (",H,4.8", ",H,loud", r"row 2, column 'EmoAct': found 'loud'; expected a number"),
        ("Male,Train", "Male,Learn", r"row 2: split 'Learn' is none of this corpus \(train, development, test1"),
        ("SpkrID", "Speaker", r"row 1: no column 'SpkrID'; found filename, emoclass"),
    ],
)
def test_refused(tmp_path: Path, podcast: Path, old: str, new: str, message: str) -> None:
    table = podcast / "Labels" / "labels_consensus.csv"
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(InputError, match=message):
        prepare("msp-podcast", podcast, tmp_path / "out")


def test_a_speaker_in_two_partitions_is_left_out_before_the_tests(tmp_path: Path, podcast: Path, labels_of) -> None:
    table = podcast / "Labels" / "labels_consensus.csv"
    table.write_text(table.read_text().replace(",12,Male,Train", ",15,Male,Train"))
    summary = prepare("msp-podcast", podcast, tmp_path / "out")
    assert summary["dropped"] == ["MSP-PODCAST_0001_0008: left out of train: msp_15 is in another split"]
    assert (tmp_path / "out" / "dropped.txt").read_text().splitlines() == summary["dropped"]
    table.write_text(table.read_text().replace(",15,", ",7,"))
    summary = prepare("msp-podcast", podcast, tmp_path / "out")
    dropped = [f"MSP-PODCAST_{name}: left out of {part}: msp_7 is in another split" for name, part in LEFT_OUT]
    assert summary["dropped"] == dropped
    assert summary["counts"]["split"] == {"test1": 1, "test2": 2, "test3": 1, "train": 1}
    assert labels_of()["MSP-PODCAST_0003_0001"]["speaker"] == "msp_7"


def test_shared_speakers_are_said_and_kept_where_that_is_asked_for(tmp_path: Path, podcast: Path) -> None:
    table = podcast / "Labels" / "labels_consensus.csv"
    table.write_text(table.read_text().replace(",15,Female,Dev", ",7,Female,Dev"))
    said = "1 utterances of dev have a speaker of a later split, "
    assert prepare("msp-podcast", podcast, tmp_path / "out")["shared_speakers"] == [f"{said}left out of dev"]
    assert f"- {said}left out of dev" in (tmp_path / "out" / "README.md").read_text()
    summary = prepare("msp-podcast", podcast, tmp_path / "out", keep_shared_speakers=True)
    assert (summary["num_utterances"], summary["dropped"]) == (7, [])
    assert summary["shared_speakers"] == [f"{said}kept: results on that split are not of unseen speakers alone"]
    assert f"- {said}kept" in (tmp_path / "out" / "README.md").read_text()


LEFT_OUT = [("0001_0008", "train"), ("0002_0033", "dev")]


def test_no_table(tmp_path: Path, podcast: Path) -> None:
    table = podcast / "Labels" / "labels_consensus.csv"
    table.rename(table.with_name("labels_concensus.csv"))  # the name in old releases
    assert prepare("msp-podcast", podcast, tmp_path / "out")["num_utterances"] == 7
    table.with_name("labels_concensus.csv").unlink()
    with pytest.raises(InputError, match=r"no file labels_consensus\.csv or labels_concensus\.csv in it"):
        prepare("msp-podcast", podcast, tmp_path / "out")
