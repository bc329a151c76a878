"""IEMOCAP: four classes, dimensions, who speaks, folds by session."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dino_speech.data.corpora.preparing import prepare
from dino_speech.errors import InputError

WAV = "Session{0}/sentences/wav/{1}/{1}_{2}.wav"
HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
LINES = """[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.0000, 3.5000]
C-E2:\tNeutral;\t()
A-E3:\tval 3; act 2; dom  2;\t()

[10.0100 - 11.3925]\tSes01F_impro01_M000\texc\t[4.0000, 3.5000, 3.0000]
[14.8872 - 18.0175]\tSes01F_impro01_F001\txxx\t[2.0000, 3.0000, 3.0000]
[19.2900 - 20.7875]\tSes01F_impro01_F002\tfea\t[1.5000, 4.0000, 1.0000]
"""
SAID = "Ses01F_impro01_M000 [010.0100-011.3925]:  Do you have, uh: forms?\nM: nothing\n"
SCRIPTED = "[1.00 - 2.00]\tSes05M_script01_1b_FXX0\tang\t[1.5000, 4.0000, 4.5000]\n"


@pytest.fixture
def iemocap(plant: Callable[..., Path]) -> Path:
    """Two sessions, the second scripted; `._` files as archives made on a Mac hold them."""
    first = [WAV.format(1, "Ses01F_impro01", name) for name in ("F000", "F001", "M000")]
    others = [WAV.format(5, "Ses05M_script01_1b", "FXX0"), "Session1/dialog/wav/Ses01F_impro01.wav"]
    source = plant("IEMOCAP", [*first, *others])
    for session, name, text in ((1, "Ses01F_impro01", LINES), (5, "Ses05M_script01_1b", SCRIPTED)):
        folder = source / f"Session{session}" / "dialog" / "EmoEvaluation"
        (folder / "Categorical").mkdir(parents=True)
        (folder / f"{name}.txt").write_text(HEADER + text)
        (folder / f"._{name}.txt").write_bytes(b"\xff\x00")
        (folder.parent / "transcriptions").mkdir()
        (folder.parent / "transcriptions" / f"{name}.txt").write_text(SAID if session == 1 else "")
        (folder / "Categorical" / f"{name}_e2_cat.txt").write_text("Ses01F_impro01_F000 :Neutral; ()\n")
    return source


def test_rows(tmp_path: Path, iemocap: Path, labels_of) -> None:
    summary = prepare("iemocap", iemocap, tmp_path / "out")
    found = labels_of()
    assert found["Ses01F_impro01_M000"] == {
        "speaker": "iemocap_Ses01M",  # the woman wears the markers, the man speaks
        "sex": "M",
        "emotion": "happy",
        "original_label": "exc",
        "arousal": "3.5",
        "dominance": "3",
        "valence": "4",
        "recording": "Ses01F_impro01",
        "style": "improvised",
        "transcript": "Do you have, uh: forms?",
        "fold": "1",
        "corpus": "IEMOCAP",
    }
    assert {name: (labels["emotion"], labels["speaker"], labels["fold"]) for name, labels in found.items()} == {
        "Ses01F_impro01_F000": ("neutral", "iemocap_Ses01F", "1"),
        "Ses01F_impro01_F001": ("", "iemocap_Ses01F", "1"),
        "Ses01F_impro01_M000": ("happy", "iemocap_Ses01M", "1"),
        "Ses05M_script01_1b_FXX0": ("angry", "iemocap_Ses05F", "5"),
    }
    assert found["Ses05M_script01_1b_FXX0"]["style"] == "scripted"
    assert found["Ses05M_script01_1b_FXX0"]["transcript"] == ""
    assert labels_of("emotion.csv").keys() == found.keys() - {"Ses01F_impro01_F001"}
    assert summary["without_label"] == {"xxx": 1}
    assert summary["dropped"] == ["Session1/dialog/wav/Ses01F_impro01.wav: a whole dialogue"]
    assert summary["missing"] == [
        "Ses01F_impro01_F002.wav: named in EmoEvaluation",
        *(f"Session{n}: no utterance of this session" for n in (2, 3, 4)),
    ]


def test_utterance_without_a_label_is_extra(tmp_path: Path, iemocap: Path, plant) -> None:
    plant("IEMOCAP", [WAV.format(1, "Ses01F_impro01", "M009")])
    summary = prepare("iemocap", iemocap, tmp_path / "out")
    assert summary["extra"] == [f"{WAV.format(1, 'Ses01F_impro01', 'M009')}: no label in EmoEvaluation"]


def test_malformed_label(tmp_path: Path, iemocap: Path) -> None:
    path = iemocap / "Session1" / "dialog" / "EmoEvaluation" / "Ses01F_impro01.txt"
    path.write_text(HEADER + LINES.replace("\texc\t", "\thappi\t"))
    with pytest.raises(InputError, match=r"Ses01F_impro01\.txt row 7: emotion 'happi' is none of this corpus \(ang, "):
        prepare("iemocap", iemocap, tmp_path / "out")
    path.write_text(HEADER + LINES.replace("[4.0000, 3.5000, 3.0000]", "[4.0000, 3.5000]"))
    with pytest.raises(InputError, match=r"row 7: found \[4\.0000, 3\.5000\]; expected \[valence, activation, domina"):
        prepare("iemocap", iemocap, tmp_path / "out")


def test_speaker_in_the_folder_of_another_session(tmp_path: Path, iemocap: Path) -> None:
    path = iemocap / WAV.format(1, "Ses01F_impro01", "F000")
    target = iemocap / WAV.format(5, "Ses01F_impro01", "F000")
    target.parent.mkdir()
    path.rename(target)
    with pytest.raises(InputError, match="lies in Session5, but its name says session 1; a speaker would be"):
        prepare("iemocap", iemocap, tmp_path / "out")


def test_labels_are_needed(tmp_path: Path, plant) -> None:
    source = plant("IEMOCAP", [WAV.format(1, "Ses01F_impro01", "F000")])
    with pytest.raises(InputError, match=r"no Session\*/dialog/EmoEvaluation/Ses\*\.txt, which hold the labels"):
        prepare("iemocap", source, tmp_path / "out")
