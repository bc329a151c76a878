"""Tables that people open hold text, whatever a stranger's labels and file names are."""

import csv
from pathlib import Path

import pytest

from dino_speech.data.atomic import write_csv_atomically, write_rows_atomically
from dino_speech.data.loading.skipped import SkippedFiles, write_failures
from dino_speech.data.utterances import Skipped

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
