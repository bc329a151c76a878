"""What all corpora share: extra and broken files, the summary on disk, leaks, tables."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dino_speech.cli.data import CORPORA
from dino_speech.data.corpora import adress, adresso, cremad, emodb, iemocap, msp_podcast, nemo, ravdess, urdu
from dino_speech.data.corpora.emodb import prepare_emodb
from dino_speech.data.corpora.emotions import CANONICAL, UNLABELLED
from dino_speech.data.corpora.layout import Corpus, Findings, Row, write_corpus
from dino_speech.data.corpora.tables import find_papers, number, read_table
from dino_speech.errors import InputError

EMOTION_CORPORA = [cremad, emodb, iemocap, msp_podcast, nemo, ravdess, urdu]
Plant = Callable[..., Path]


@pytest.mark.parametrize("corpus", EMOTION_CORPORA, ids=lambda corpus: corpus.__name__.rpartition(".")[2])
def test_emotions_have_the_shared_names(corpus) -> None:
    assert set(corpus.EMOTIONS.values()) <= {*CANONICAL, UNLABELLED}
    assert {"angry", "happy", "neutral", "sad"} <= set(corpus.EMOTIONS.values())


def test_diagnoses_have_the_shared_names() -> None:
    assert set(adress.DIAGNOSES.values()) == set(adresso.DIAGNOSES.values()) == {"ad", "control"}


@pytest.mark.parametrize("corpus", [*EMOTION_CORPORA, adress, adresso], ids=lambda c: c.__name__.rpartition(".")[2])
def test_module_states_layout_licence_and_split(corpus) -> None:
    text = " ".join(corpus.__doc__.split())
    for word in ("Facts (", "Licence", "Layout: "):
        assert word in text
    assert "fold" in text or "split" in text
    assert corpus.__name__.rpartition(".")[2] in {module for module, _ in CORPORA.values()}


def test_wrong_folders(tmp_path: Path, plant: Plant) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such folder; expected wav/03a01Wa\.wav"):
        prepare_emodb(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no audio found.*expected wav/03a01Wa\.wav"):
        prepare_emodb(tmp_path / "empty", tmp_path / "out")
    source = plant("other", ["hello.wav"])
    with pytest.raises(InputError, match=r"no file of EmoDB in it; expected wav/03a01Wa\.wav"):
        prepare_emodb(source, tmp_path / "out")


def test_extra_and_unreadable_files_are_listed(tmp_path: Path, plant: Plant, labels_of) -> None:
    source = plant("EmoDB", ["wav/03a01Wa.wav", "wav/08a01Fd.wav", "copy/03a01Wa.flac", "notes/hello.wav"])
    (source / "wav" / "08a01Fd.wav").write_bytes(b"")
    summary = prepare_emodb(source, tmp_path / "out")
    assert list(labels_of()) == ["03a01Wa"]
    assert summary["extra"] == [
        "notes/hello.wav: not a name of this corpus",
        "copy/03a01Wa.flac: a second copy of wav/03a01Wa.wav",
    ]
    assert len(summary["unreadable"]) == 1
    assert "empty file" in summary["unreadable"][0]
    assert json.loads((tmp_path / "out" / "prepared.json").read_text()) == summary
    page = (tmp_path / "out" / "README.md").read_text()
    assert "1 utterances of 535, 1 known speakers of 10" in page
    assert "| emotion | fold 1 | all |\n| --- | --- | --- |\n| angry | 1 | 1 |" in page
    assert "## Extra: 2 there and not expected\n\n- notes/hello.wav" in page
    assert (tmp_path / "out" / "extra.txt").read_text().splitlines() == summary["extra"]


def test_solved_problems_go_away(tmp_path: Path, plant: Plant) -> None:
    source = plant("EmoDB", ["wav/03a01Wa.wav", "hello.wav"])
    prepare_emodb(source, tmp_path / "out")
    (source / "hello.wav").unlink()
    assert prepare_emodb(source, tmp_path / "out")["extra"] == []
    assert not (tmp_path / "out" / "extra.txt").exists()


def test_leak_is_refused_with_the_names(tmp_path: Path, plant: Plant) -> None:
    source = plant("mine", ["a.wav", "b.wav", "c.wav"])
    corpus = Corpus("Mine", "mine", "*.wav", ("speaker", "emotion", "split"), may_share=("test1", "test2"))

    def findings(*splits: str) -> Findings:
        rows = zip("abc", splits, strict=True)
        return Findings(
            [Row(n, source / f"{n}.wav", {"speaker": "ann", "emotion": "sad", "split": s}) for n, s in rows]
        )

    with pytest.raises(InputError, match=r"Mine: split test1 and train: 1 speakers are on both sides.*\(ann\)"):
        write_corpus(corpus, findings("train", "train", "test1"), source, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.csv").exists()
    assert write_corpus(corpus, findings("test1", "test2", "test1"), source, tmp_path / "out")["num_speakers"] == 1


def test_tables(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "Table.TXT"
    path.parent.mkdir()
    path.write_bytes(b"\xef\xbb\xbfID   ; Age ;mmse\r\nS001 ; 70 ; NA\r\n\r\nS002;71;29.0\r\n")
    rows = read_table(path, ("ID", "mmse"), delimiter=";")
    assert [row.values for row in rows] == [
        {"id": "S001", "age": "70", "mmse": "NA"},
        {"id": "S002", "age": "71", "mmse": "29.0"},
    ]
    assert [number(row["mmse"], row.place, "mmse") for row in rows] == ["", "29"]
    assert find_papers(tmp_path, "table.txt") == find_papers(tmp_path, "t*.txt") == [path]
    with pytest.raises(InputError, match=r"Table\.TXT row 1: no column 'gender'; found id, age, mmse"):
        read_table(path, ("ID", "gender"), delimiter=";")
    with pytest.raises(InputError, match=r"row 4, column 'mmse': found 'good'; expected a number"):
        number("good", rows[1].place, "mmse")
    path.write_text("ID;age\nS001\n")
    with pytest.raises(InputError, match=r"row 2: found 1 cells; expected 2"):
        read_table(path, ("ID",), delimiter=";")
