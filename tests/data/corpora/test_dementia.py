"""ADReSS and ADReSSo: one row per recording, official split, MMSE, chunks and the participant's spans."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dino_speech.data.corpora.preparing import prepare
from dino_speech.data.manifest import read_manifest
from dino_speech.errors import InputError

Plant = Callable[..., Path]
WHOLE, CHUNKS = "Full_wave_enhanced_audio", "Normalised_audio-chunks"


@pytest.fixture
def adress(plant: Plant) -> Path:
    source = plant(
        "ADReSS",
        [
            f"train/{WHOLE}/cc/S001.wav",
            f"train/{WHOLE}/cd/S079.wav",
            f"train/{CHUNKS}/cc/S001-1-0-1430.wav",
            f"train/{CHUNKS}/cc/S001-2-1500-3000.wav",
            f"test/{WHOLE}/S160.wav",
            f"test/{WHOLE}/S161.wav",
        ],
    )
    header = "ID   ; age ; gender ; mmse\n"
    (source / "train" / "cc_meta_data.txt").write_text(f"{header}S001 ; 74 ; male ; 30\nS002 ; 65 ; female ; NA\n")
    (source / "train" / "cd_meta_data.txt").write_text(f"{header}S079 ; 73 ; female ; 20\n")
    (source / "test" / "meta_data.txt").write_text("ID   ; age ; gender\nS160 ; 70 ; female\nS161 ; 68 ; male\n")
    return source


def test_adress_with_the_answers(tmp_path: Path, adress: Path, labels_of) -> None:
    answers = "ID   ; age ; gender ; Label ; mmse\nS160 ; 70 ; 1 ; 1 ; 18\nS161 ; 68 ; 0 ; 0 ; 30\n"
    (adress / "meta_data_test.txt").write_text(answers)
    summary = prepare("adress", adress, tmp_path / "out")
    found = labels_of()
    assert found["S001"] == {
        "speaker": "adress_S001",
        "sex": "M",
        "age": "74",
        "diagnosis": "control",
        "mmse": "30",
        "recording": "S001",
        "split": "train",
        "corpus": "ADReSS",
    }
    assert [tuple(found[name].values())[:5] for name in ("S079", "S160", "S161")] == [
        ("adress_S079", "F", "73", "ad", "20"),
        ("adress_S160", "F", "70", "ad", "18"),
        ("adress_S161", "M", "68", "control", "30"),
    ]
    assert [labels["split"] for labels in found.values()] == ["train", "train", "test", "test"]
    assert summary["missing"] == ["S002.wav: named in the tables"]
    assert summary["num_chunks"] == 2
    chunks = labels_of("chunks.csv")
    assert list(chunks) == ["S001-1-0-1430", "S001-2-1500-3000"]
    assert {labels["speaker"] for labels in chunks.values()} == {"adress_S001"}
    assert not (tmp_path / "out" / "diagnosis.csv").exists()


def test_adress_without_the_answers(tmp_path: Path, adress: Path, labels_of) -> None:
    summary = prepare("adress", adress, tmp_path / "out")
    assert labels_of()["S160"]["diagnosis"] == labels_of()["S160"]["mmse"] == ""
    assert labels_of("diagnosis.csv").keys() == {"S001", "S079"}
    assert "meta_data_test.txt (with Label and mmse): the test has no diagnosis" in summary["missing"]
    assert summary["without_label"] == {"": 2}


def test_adress_takes_no_copy_from_elsewhere_in_place_of_a_recording(tmp_path: Path, adress: Path, plant) -> None:
    plant("ADReSS", ["a_copy/S001.wav"])
    summary = prepare("adress", adress, tmp_path / "out")
    assert summary["extra"] == ["a_copy/S001.wav: not below Full_wave_enhanced_audio"]
    manifest = read_manifest(tmp_path / "out" / "manifest.csv")
    assert Path(manifest[manifest.by_id()["S001"]].wav).parent.name == "cc"


def test_adress_refuses_a_subject_in_two_tables(tmp_path: Path, adress: Path) -> None:
    path = adress / "test" / "meta_data.txt"
    path.write_text(path.read_text() + "S001 ; 74 ; male\n")
    with pytest.raises(InputError, match=r"meta_data\.txt row 4: subject S001 is also in split train as control"):
        prepare("adress", adress, tmp_path / "out")


def test_adress_refuses_a_recording_in_a_wrong_folder(tmp_path: Path, adress: Path, plant: Plant) -> None:
    plant("ADReSS", [f"test/{WHOLE}/S079.wav"])
    with pytest.raises(InputError, match=r"test/.*S079\.wav: lies in the folder.*but the tables say train, ad"):
        prepare("adress", adress, tmp_path / "out")


def test_adress_refuses_malformed_answers(tmp_path: Path, adress: Path) -> None:
    (adress / "meta_data_test.txt").write_text("ID ; age ; gender ; Label ; mmse\nS160 ; 70 ; 1 ; AD ; 18\n")
    with pytest.raises(InputError, match=r"row 2, column 'Label': found 'AD'; expected 0 \(control\) or 1"):
        prepare("adress", adress, tmp_path / "out")
    (adress / "train" / "cd_meta_data.txt").unlink()
    with pytest.raises(InputError, match=r"no file cd_meta_data\.txt in it; it holds the labels"):
        prepare("adress", adress, tmp_path / "out")


@pytest.fixture
def adresso(plant: Plant) -> Path:
    audio = [f"diagnosis/train/audio/{name}.wav" for name in ("ad/adrso024", "cn/adrso002")]
    test = [f"diagnosis/test-dist/audio/{name}.wav" for name in ("adrsdt1", "adrsdt2")]
    source = plant("ADReSSo", [*audio, *test, "progression/train/audio/decline/adrsp001.wav"])
    train = source / "diagnosis" / "train"
    scores = ",adressfname,mmse,dx\n1,adrso024,20,ad\n2,adrso002,29,cn\n3,adrso003,30,cn\n"
    (train / "adresso-train-mmse-scores.csv").write_text(scores)
    (train / "segmentation" / "ad").mkdir(parents=True)
    (train / "segmentation" / "ad" / "adrso024.csv").write_text(
        ",speaker,begin,end\n1,INV,0,100\n2,PAR,100,250\n3,PAR,300,900\n"
    )
    (source / "diagnosis" / "test-dist" / "task1.csv").write_text("ID,Dx\nadrsdt1,Control\nadrsdt2,ProbableAD\n")
    (source / "diagnosis" / "test-dist" / "task2.csv").write_text("ID,MMSE\nadrsdt1,28\nadrsdt2,17\n")
    return source


def test_adresso(tmp_path: Path, adresso: Path, labels_of) -> None:
    summary = prepare("adresso", adresso, tmp_path / "out")
    found = labels_of()
    assert found["adrso024"] == {
        "speaker": "adresso_adrso024",
        "diagnosis": "ad",
        "mmse": "20",
        "recording": "adrso024",
        "split": "train",
        "corpus": "ADReSSo",
    }
    assert {n: (x["diagnosis"], x["mmse"], x["split"]) for n, x in found.items()} == {
        "adrsdt1": ("control", "28", "test"),
        "adrsdt2": ("ad", "17", "test"),
        "adrso002": ("control", "29", "train"),
        "adrso024": ("ad", "20", "train"),
    }
    assert summary["missing"] == ["adrso003.wav: named in the tables"]
    assert summary["dropped"] == ["progression/train/audio/decline/adrsp001.wav: of the task of progression"]
    assert summary["num_participant_spans"] == 2
    spans = read_manifest(tmp_path / "out" / "participant.csv", must_exist=True)
    assert [(u.id, u.start, u.stop, u.duration) for u in spans] == [
        ("adrso024_000", 1_600, 4_000, 0.15),
        ("adrso024_001", 4_800, 8_000, 0.2),  # ends with the file
    ]
    assert spans[0].labels == found["adrso024"]


def test_adresso_without_tables(tmp_path: Path, adresso: Path, labels_of) -> None:
    for path in [*adresso.rglob("task*.csv"), *adresso.rglob("adresso-*.csv")]:
        path.unlink()
    summary = prepare("adresso", adresso, tmp_path / "out")
    assert summary["missing"] == [
        "adresso-train-mmse-scores.csv: mmse stays blank",
        "task1.csv: the test has no diagnosis",
        "task2.csv: the test has no mmse",
    ]
    assert labels_of("diagnosis.csv").keys() == {"adrso002", "adrso024"}


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("adresso-train-mmse-scores.csv", "20,ad", "20,cn", r"lies in 'ad', but the table of scores says 'control'"),
        ("adresso-train-mmse-scores.csv", "20,ad", "20,mci", r"row 2, column 'dx': found 'mci'; expected cn or ad"),
        ("task1.csv", "ProbableAD", "Maybe", r"row 3, column 'Dx': found 'Maybe'; expected Control or ProbableAD"),
        ("adrso024.csv", "300,900", "900,300", r"row 4: begin 900, end 300; expected begin before end"),
        ("adrso024.csv", "300,900", "600,900", None),
    ],
)
def test_adresso_malformed(tmp_path: Path, adresso: Path, file: str, old: str, new: str, message: str | None) -> None:
    path = next(adresso.rglob(file))
    path.write_text(path.read_text().replace(old, new))
    if message:
        with pytest.raises(InputError, match=message):
            prepare("adresso", adresso, tmp_path / "out")
    else:  # a span after the end of the recording is listed
        assert (
            "adrso024_001 begins at sample 9600" in prepare("adresso", adresso, tmp_path / "out")["unreadable_spans"][0]
        )


def test_adresso_refuses_a_training_file_in_no_group(tmp_path: Path, plant: Plant) -> None:
    source = plant("ADReSSo", ["diagnosis/train/audio/adrso024.wav"])
    with pytest.raises(InputError, match=r"lies in 'audio'; expected the folder ad or cn"):
        prepare("adresso", source, tmp_path / "out")
