"""Corpora whose file names hold the labels: RAVDESS, CREMA-D, EmoDB, nEMO, URDU."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dino_speech.data.corpora.preparing import prepare
from dino_speech.data.manifest import read_manifest
from dino_speech.errors import InputError

Plant = Callable[..., Path]


def test_ravdess(tmp_path: Path, plant: Plant, labels_of) -> None:
    source = plant("RAVDESS", ["Actor_01/03-01-01-01-01-01-01.wav", "Actor_12/03-01-06-02-02-01-12.wav"])
    summary = prepare("ravdess", source, tmp_path / "out")
    assert labels_of() == {
        "03-01-01-01-01-01-01": {
            "speaker": "ravdess_01",
            "sex": "M",
            "emotion": "neutral",
            "original_label": "01",
            "intensity": "normal",
            "statement": "kids",
            "repetition": "1",
            "fold": "1",
            "corpus": "RAVDESS",
        },
        "03-01-06-02-02-01-12": {
            "speaker": "ravdess_12",
            "sex": "F",
            "emotion": "fearful",
            "original_label": "06",
            "intensity": "strong",
            "statement": "dogs",
            "repetition": "1",
            "fold": "3",
            "corpus": "RAVDESS",
        },
    }
    assert len(summary["missing"]) == 1_438
    assert summary["missing"][0] == "03-01-01-01-01-02-01.wav"
    assert summary["counts"]["emotion"] == {"fearful": 1, "neutral": 1}
    assert read_manifest(tmp_path / "out" / "manifest.csv")[0].duration == pytest.approx(0.5)


def test_ravdess_leaves_song_out(tmp_path: Path, plant: Plant) -> None:
    source = plant("RAVDESS", ["Actor_01/03-01-01-01-01-01-01.wav", "Actor_01/03-02-01-01-01-01-01.wav"])
    assert prepare("ravdess", source, tmp_path / "out")["dropped"] == [
        "Actor_01/03-02-01-01-01-01-01.wav: not audio-only speech (03-01)"
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Actor_01/03-01-09-01-01-01-01.wav", r"emotion '09' is none of this corpus \(01, 02, .*08\); correct"),
        ("Actor_01/03-01-03-03-01-01-01.wav", r"intensity '03' is none of this corpus \(01, 02\)"),
        ("Actor_02/03-01-03-01-01-01-01.wav", r"its name says actor 01; .* one voice under two speakers"),
        ("03-01-03-01-01-01-25.wav", r"its name says actor 25; expected an actor from 01 to 24"),
    ],
)
def test_ravdess_refuses(tmp_path: Path, plant: Plant, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare("ravdess", plant("RAVDESS", [name]), tmp_path / "out")


PEOPLE = '"ActorID","Age","Sex","Race","Ethnicity"\n1001,51,"Male","Caucasian","Not Hispanic"\n'
SENTENCES = '"Stimulus_Number","Filename"\n1,"1001_IEO_NEU_XX"\n2,"1001_IEO_HAP_LO"\n3,"1002_IEO_NEU_XX"\n'


def test_cremad(tmp_path: Path, plant: Plant, labels_of) -> None:
    names = ["AudioWAV/1001_IEO_NEU_XX.wav", "AudioWAV/1007_ITH_SAD_X.wav", "AudioMP3/1001_IEO_NEU_XX.mp3"]
    source = plant("CREMA-D", names)
    (source / "VideoDemographics.csv").write_text(PEOPLE)
    (source / "SentenceFilenames.csv").write_text(SENTENCES)
    summary = prepare("crema-d", source, tmp_path / "out")
    assert labels_of()["1001_IEO_NEU_XX"] == {
        "speaker": "cremad_1001",
        "sex": "M",
        "age": "51",
        "emotion": "neutral",
        "original_label": "NEU",
        "level": "",
        "statement": "IEO",
        "fold": "1",
        "corpus": "CREMA-D",
    }
    found = labels_of()["1007_ITH_SAD_X"]
    assert (found["speaker"], found["sex"], found["emotion"], found["fold"]) == ("cremad_1007", "", "sad", "2")
    assert "actor 1002: no file of this actor" in summary["missing"]
    assert summary["missing"][-1] == "1001_IEO_HAP_LO.wav: named in SentenceFilenames.csv"
    assert len(summary["missing"]) == 90
    assert summary["dropped"] == ["AudioMP3/1001_IEO_NEU_XX.mp3: the clips as mp3"]
    assert summary["extra"] == []


def test_cremad_without_the_table_of_actors(tmp_path: Path, plant: Plant, labels_of) -> None:
    summary = prepare("crema-d", plant("CREMA-D", ["AudioWAV/1001_IEO_ANG_HI.wav"]), tmp_path / "out")
    assert summary["missing"][0] == "VideoDemographics.csv: sex and age stay blank"
    found = labels_of()["1001_IEO_ANG_HI"]
    assert (found["level"], found["sex"], found["age"]) == ("high", "", "")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("1001_IEO_JOY_HI", r"1001_IEO_JOY_HI\.wav: emotion 'JOY' is none of this corpus \(ANG, DIS"),
        ("1092_IEO_ANG_HI", r"actor 1092 is none of this corpus \(1001 to 1091\)"),
    ],
)
def test_cremad_refuses(tmp_path: Path, plant: Plant, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare("crema-d", plant("CREMA-D", [f"AudioWAV/{name}.wav"]), tmp_path / "out")


def test_emodb(tmp_path: Path, plant: Plant, labels_of) -> None:
    summary = prepare(
        "emodb", plant("EmoDB", ["wav/03a01Wa.wav", "wav/16b10Lb.wav", "wav/08a02N.wav"]), tmp_path / "out"
    )
    assert labels_of()["16b10Lb"] == {
        "speaker": "emodb_16",
        "sex": "F",
        "age": "31",
        "emotion": "bored",
        "original_label": "L",
        "statement": "b10",
        "version": "b",
        "fold": "10",
        "corpus": "EmoDB",
    }
    assert {name: labels["emotion"] for name, labels in labels_of().items()} == {
        "03a01Wa": "angry",
        "08a02N": "neutral",
        "16b10Lb": "bored",
    }
    assert summary["missing"] == [f"speaker {n}: no file of this speaker" for n in ("09", *range(10, 16))]


@pytest.mark.parametrize(
    ("name", "message"),
    [("03a01Xa", r"emotion 'X' is none of this corpus \(W, L"), ("17a01Wa", r"speaker '17' is none of this corpus")],
)
def test_emodb_refuses(tmp_path: Path, plant: Plant, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare("emodb", plant("EmoDB", [f"wav/{name}.wav"]), tmp_path / "out")


TSV = (
    "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage\n"
    'WR0_surprised_64.wav\tsurprised\t"Ród.\tród\t        WR0\tmale\t23\n'
    "EB0_anger_13.wav\tanger\tTak.\ttak\t        EB0\tfemale\t27\n"
    "EB0_fear_1.wav\tfear\tNie.\tnie\t        EB0\tfemale\t27\n"
)


@pytest.fixture
def nemo(plant: Plant) -> Path:
    source = plant("nEMO", ["samples/WR0_surprised_64.wav", "samples/EB0_anger_13.wav", "samples/EB0_sadness_7.wav"])
    (source / "data.tsv").write_text(TSV, encoding="utf-8")
    return source


def test_nemo(tmp_path: Path, nemo: Path, labels_of) -> None:
    summary = prepare("nemo", nemo, tmp_path / "out")
    assert labels_of() == {
        "EB0_anger_13": {
            "speaker": "nemo_EB0",
            "sex": "F",
            "age": "27",
            "emotion": "angry",
            "original_label": "anger",
            "statement": "13",
            "fold": "1",
            "corpus": "nEMO",
        },
        "WR0_surprised_64": {
            "speaker": "nemo_WR0",
            "sex": "M",
            "age": "23",
            "emotion": "surprised",
            "original_label": "surprised",
            "statement": "64",
            "fold": "9",
            "corpus": "nEMO",
        },
    }
    assert summary["missing"] == ["EB0_fear_1.wav: named in data.tsv"]
    assert summary["extra"] == ["samples/EB0_sadness_7.wav: not named in data.tsv"]


def test_nemo_refuses_a_table_that_says_otherwise(tmp_path: Path, nemo: Path) -> None:
    (nemo / "data.tsv").write_text(TSV.replace("\tanger\tTak", "\tfear\tTak"), encoding="utf-8")
    with pytest.raises(InputError, match=r"data\.tsv row 3: says speaker 'EB0' and emotion 'fear'.*'EB0' and 'anger'"):
        prepare("nemo", nemo, tmp_path / "out")
    (nemo / "data.tsv").unlink()
    assert prepare("nemo", nemo, tmp_path / "out")["missing"][0].startswith("data.tsv: sex and age stay blank")
    (nemo / "samples" / "EB0_anger_13.wav").rename(nemo / "samples" / "EB0_joy_13.wav")
    with pytest.raises(InputError, match="emotion 'joy' is none of this corpus"):
        prepare("nemo", nemo, tmp_path / "out")


def test_urdu(tmp_path: Path, plant: Plant, labels_of) -> None:
    source = plant("URDU", ["Angry/SM1_F10_A010.wav", "Sad/SF3/SF3_F2_S0100.wav"])
    summary = prepare("urdu", source, tmp_path / "out")
    assert labels_of() == {
        "SM1_F10_A010": {
            "speaker": "urdu_SM1",
            "sex": "M",
            "emotion": "angry",
            "original_label": "A",
            "corpus": "URDU",
        },
        "SF3_F2_S0100": {"speaker": "urdu_SF3", "sex": "F", "emotion": "sad", "original_label": "S", "corpus": "URDU"},
    }
    assert len(summary["missing"]) == 398
    assert "A010: no file" not in summary["missing"]
    assert "A01: no file" in summary["missing"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Happy/SM1_F1_A01.wav", r"lies in the folder 'happy', but its name says A \(angry\)"),
        ("Angry/SM1_F1_Z01.wav", r"emotion 'Z' is none of this corpus \(A, H, N, S\)"),
    ],
)
def test_urdu_refuses(tmp_path: Path, plant: Plant, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare("urdu", plant("URDU", [name]), tmp_path / "out")


@pytest.mark.slow
@pytest.mark.corpus
@pytest.mark.parametrize(
    ("pack", "corpus", "prefix"),
    [
        ("emotion_ravdess", "ravdess", "ravdess_"),
        ("emotion_nemo", "nemo", "nemo_"),
        ("emotion_urdu", "urdu", "urdu_"),
    ],
)
def test_real_files_get_the_labels_that_others_gave_them(
    tmp_path: Path, data_root: Path, pack: str, corpus: str, prefix: str
) -> None:
    """The packs keep the owners' file names; their manifests were written independently of this code."""
    summary = prepare(corpus, data_root / pack, tmp_path / "out")
    found = {prefix + u.id: u for u in read_manifest(tmp_path / "out" / "manifest.csv")}
    expected = read_manifest(data_root / pack / "manifest.csv")
    assert summary["extra"] == summary["unreadable"] == []
    assert found.keys() == {u.id for u in expected}
    for other in expected:
        ours = found[other.id]
        assert ours.labels["emotion"].removesuffix("ed") == other.labels["emotion"].removesuffix("ed")
        assert ours.labels["speaker"] == other.labels["speaker"]
        assert ours.duration == pytest.approx(other.duration, abs=0.01)
        for name in ("intensity", "statement", "repetition", "sex"):
            if name in other.labels and ours.labels.get(name):
                assert ours.labels[name] == other.labels[name]
