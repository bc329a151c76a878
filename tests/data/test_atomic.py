"""Files and folders are the former or the new ones; tables hold text, whatever a stranger's labels are."""

import csv
from pathlib import Path

import pytest

from dino_speech.data import atomic
from dino_speech.data.atomic import (
    clear_unfinished,
    replace_folder,
    write_csv_atomically,
    write_rows_atomically,
    write_text_atomically,
)
from dino_speech.data.loading.skipped import SkippedFiles, write_failures
from dino_speech.data.utterances import Skipped
from dino_speech.errors import InputError

FORMULAS = ["=cmd|' /C calc'!A0", "+1+cmd", "-2+3", "@SUM(A1)", "\t=1+1", "\r=1+1", "\n=1+1"]


def cells(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return [cell for row in csv.reader(file) for cell in row]


@pytest.mark.parametrize("formula", FORMULAS)
def test_no_table_of_results_has_a_cell_that_a_spreadsheet_would_run(formula: str, tmp_path: Path) -> None:
    write_csv_atomically(tmp_path / "figures.csv", [{"label": formula, formula: -0.5}])
    write_failures([Skipped(formula, formula)], tmp_path / "failures.csv")
    SkippedFiles([formula], tmp_path / "skipped.csv").merge({formula: "empty"})
    for table in tmp_path.iterdir():
        found = cells(table)
        assert f"'{formula}" in found
        assert formula not in found


def test_numbers_stay_numbers(tmp_path: Path) -> None:
    write_csv_atomically(tmp_path / "figures.csv", [{"change": -0.5, "text": "-0.5", "name": "a=b"}])
    assert cells(tmp_path / "figures.csv")[3:] == ["-0.5", "-0.5", "a=b"]


@pytest.mark.parametrize("text", ["a\r=1+1", "a\n=1+1", "a\r\n=1+1", 'a,"b"'])
def test_a_line_within_a_cell_begins_no_row(text: str, tmp_path: Path) -> None:
    write_rows_atomically(tmp_path / "rows.csv", [["ID", "label"], [text, 1]])
    assert cells(tmp_path / "rows.csv") == ["ID", "label", text, "1"]
    assert (tmp_path / "rows.csv").read_bytes().startswith(b"ID,label\n")


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_folder_is_replaced_whole(exchanges: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchanges:  # as on a network file system
        monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    target = tmp_path / "encoder"
    for text in ("first", "second"):
        replace_folder(target, lambda folder, text=text: (folder / "a").write_text(text))
        assert [path.name for path in tmp_path.iterdir()] == ["encoder"]
        assert (target / "a").read_text() == text
    with pytest.raises(ZeroDivisionError):
        replace_folder(target, lambda folder: 1 / 0)
    assert (target / "a").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]


def test_what_a_killed_process_left_is_cleared_and_a_folder_that_stepped_aside_comes_back(tmp_path: Path) -> None:
    for name in (".last.pt.123.tmp", "last.pt", ".gitkeep"):
        (tmp_path / name).write_text("")
    for name in (".encoder.123.partial", ".encoder.123.old", ".best.9.old", "best"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("")
    clear_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".gitkeep", "best", "encoder", "last.pt"]
    assert (tmp_path / "encoder" / ".encoder.123.old").exists()
    assert (tmp_path / "best" / "best").exists()


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for write in (
        lambda: write_text_atomically(tmp_path / "file" / "a.json", "{}"),
        lambda: replace_folder(tmp_path / "file" / "encoder", lambda folder: None),
    ):
        with pytest.raises(
            InputError, match=r"file/.*: cannot be written \(Not a directory\); make room there, or allow"
        ):
            write()
