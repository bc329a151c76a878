"""What all corpora share: extra and broken files, the summary on disk, leaks, tables."""

import ast
import inspect
import json
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest

from dino_speech.data.corpora.catalogue import CORPORA, HOMES
from dino_speech.data.corpora.corpus import CANONICAL, UNLABELLED, Corpus, Tree, number, read_table
from dino_speech.data.corpora.preparing import prepare, prepare_corpus
from dino_speech.errors import InputError

STATED = {name: corpus for name in CORPORA if isinstance(corpus := CORPORA[name], Corpus)}
EMOTIONAL = [name for name, corpus in STATED.items() if corpus.label == "emotion"]
Plant = Callable[..., Path]


def test_everything_in_the_catalogue_is_there() -> None:
    assert len(STATED) == 9
    assert [name for name in CORPORA if name not in STATED] == ["folder", "voxceleb1", "voxceleb2"]


@pytest.mark.parametrize("name", EMOTIONAL)
def test_emotions_have_the_shared_names(name: str) -> None:
    emotions = {*STATED[name].codes["emotion"].values()}
    assert emotions <= {*CANONICAL, UNLABELLED}
    assert {"angry", "happy", "neutral", "sad"} <= emotions


def test_diagnoses_have_the_shared_names() -> None:
    for name in STATED.keys() - EMOTIONAL:
        assert set(STATED[name].codes["diagnosis"].values()) == {"ad", "control"}


@pytest.mark.parametrize("home", sorted({*HOMES.values()} - {"preparing", "voxceleb"}))
def test_a_corpus_states_source_licence_layout_and_split(home: str) -> None:
    """What stands below `NAME = Corpus(...)`, where the reference shows it."""
    module = import_module(f"dino_speech.data.corpora.{home}")
    corpora = {name: value for name, value in vars(module).items() if isinstance(value, Corpus)}
    assert corpora
    body = ast.parse(inspect.getsource(module)).body
    for statement, below in pairwise(body):
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", "") in corpora:
            corpus = corpora.pop(statement.targets[0].id)
            assert isinstance(below, ast.Expr)
            facts = ast.literal_eval(below.value)
            for word in ("\n\nFacts (", "\n\nLayout: "):
                assert word in facts
            assert "fold" in facts or "split" in facts
            assert all((corpus.licence, corpus.access, corpus.layout))
            assert {"speaker", corpus.label} <= {*corpus.columns}
    assert not corpora


def test_wrong_folders(tmp_path: Path, plant: Plant) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such folder; expected wav/03a01Wa\.wav"):
        prepare("emodb", tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no audio found.*expected wav/03a01Wa\.wav"):
        prepare("emodb", tmp_path / "empty", tmp_path / "out")
    source = plant("other", ["hello.wav"])
    with pytest.raises(InputError, match=r"no file of EmoDB in it; expected wav/03a01Wa\.wav"):
        prepare("emodb", source, tmp_path / "out")


def test_extra_and_unreadable_files_are_listed(tmp_path: Path, plant: Plant, labels_of) -> None:
    source = plant("EmoDB", ["wav/03a01Wa.wav", "wav/08a01Fd.wav", "copy/03a01Wa.flac", "notes/hello.wav"])
    (source / "wav" / "08a01Fd.wav").write_bytes(b"")
    summary = prepare("emodb", source, tmp_path / "out")
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
    prepare("emodb", source, tmp_path / "out")
    (source / "hello.wav").unlink()
    assert prepare("emodb", source, tmp_path / "out")["extra"] == []
    assert not (tmp_path / "out" / "extra.txt").exists()


def test_leak_is_refused_with_the_names(tmp_path: Path, plant: Plant) -> None:
    source = plant("mine", ["a_train.wav", "b_train.wav", "c_test1.wav"])
    facts = {"licence": "mine", "access": "here", "layout": "*.wav", "may_share": ("test1", "test2")}
    form, columns = r"[abc]_(?P<split>\w+)", ("speaker", "emotion", "split")
    corpus = Corpus(
        name="Mine", file_name=form, columns=columns, labels=lambda f, t: {"speaker": "ann", "emotion": "sad"}, **facts
    )
    with pytest.raises(InputError, match=r"Mine: split test1 and train: 1 speakers are on both sides.*\(ann\)"):
        prepare_corpus(corpus, source, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.csv").exists()
    for name in ("a_train.wav", "b_train.wav"):
        (source / name).rename(source / name.replace("train", "test2"))
    assert prepare_corpus(corpus, source, tmp_path / "out")["num_speakers"] == 1


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
    (tmp_path / "a.wav").touch()
    tree = Tree(tmp_path, "tables")
    assert tree.find("table.txt") == tree.find("t*.txt") == [path]
    with pytest.raises(InputError, match=r"Table\.TXT row 1: no column 'gender'; found id, age, mmse"):
        read_table(path, ("ID", "gender"), delimiter=";")
    with pytest.raises(InputError, match=r"row 4, column 'mmse': found 'good'; expected a number"):
        number("good", rows[1].place, "mmse")
    path.write_text("ID;age\nS001\n")
    with pytest.raises(InputError, match=r"row 2: found 1 cells; expected 2"):
        read_table(path, ("ID",), delimiter=";")
