"""What was left out is listed so that no spreadsheet runs it, and is read back as it was."""

from pathlib import Path

from dino_speech.data.loading.skipped import read_failures, write_failures
from dino_speech.data.utterances import Skipped


def test_names_like_formulas_come_back(tmp_path: Path) -> None:
    found = [Skipped("=1+1", "-x is no file"), Skipped("'quoted'", "-0.5"), Skipped("a.wav", "empty")]
    write_failures(found, tmp_path / "failures.csv")
    assert "\n=" not in (tmp_path / "failures.csv").read_text()
    assert read_failures(tmp_path / "failures.csv") == found
