"""Cells are run once, kept, resumed; a failing cell costs only itself; the table is what was measured."""

import csv
from pathlib import Path

import pytest

from dino_speech.errors import InputError
from dino_speech.studies.grid import CellResult, Setting, run_grid

AXES: dict[str, list[Setting]] = {"system": ["dino", "none"], "chunk_s": [1.0, 2.0]}


class Cells:
    """Gives a figure that follows from the settings and the seed, and counts its calls."""

    def __init__(self, fail: tuple[str, int] | None = None, stop_after: int | None = None) -> None:
        self.calls: list[tuple[dict, int]] = []
        self.fail, self.stop_after = fail, stop_after

    def __call__(self, settings: dict[str, Setting], seed: int, folder: Path) -> CellResult:
        if self.stop_after is not None and len(self.calls) == self.stop_after:
            raise KeyboardInterrupt
        if self.fail == (settings["system"], seed):
            raise InputError("class 'sad' has one speaker")
        self.calls.append((settings, seed))
        assert folder.is_dir()
        uar = 0.5 * (settings["system"] == "dino") + 0.1 * float(settings["chunk_s"]) + 0.01 * seed  # type: ignore[arg-type]
        return CellResult({"uar": uar}, {"uar": (uar - 0.05, uar + 0.05)})


def run(cells: Cells, folder: Path, **options: object):
    given = {"seeds": [1, 2], "identity": {"manifest": "abc"}} | options
    return run_grid(AXES, cells, output_folder=folder, **given)  # type: ignore[arg-type]


def test_every_combination_is_run_with_every_seed_and_the_table_holds_means(tmp_path: Path) -> None:
    cells = Cells()
    table = run(cells, tmp_path)
    assert len(cells.calls) == 8
    row = table.rows[1]
    assert row.settings == {"system": "dino", "chunk_s": 2.0}
    assert row.mean("uar") == pytest.approx(0.715)
    assert row.spread("uar") == pytest.approx((0.71, 0.72))
    assert row.interval("uar") == pytest.approx((0.665, 0.765))
    assert "| dino | 2 | 2 | 0.715 [0.710 0.720] ci 0.665 to 0.765 |" in (tmp_path / "table.md").read_text()
    with (tmp_path / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 8
    assert float(lines[0]["uar_low"]) == pytest.approx(float(lines[0]["uar"]) - 0.05)


def test_an_interrupted_grid_goes_on_and_repeats_nothing(tmp_path: Path) -> None:
    first, second = Cells(stop_after=5), Cells()
    with pytest.raises(KeyboardInterrupt):
        run(first, tmp_path)
    table = run(second, tmp_path)
    assert len(first.calls) + len(second.calls) == 8
    assert [row.seeds for row in table.rows] == [[1, 2]] * 4
    assert table.to_markdown() == run(Cells(), tmp_path / "other").to_markdown()


def test_other_data_are_other_cells(tmp_path: Path) -> None:
    run(Cells(), tmp_path)
    again = Cells()
    run(again, tmp_path, identity={"manifest": "xyz"})
    assert len(again.calls) == 8


def test_what_a_system_stands_for_makes_other_cells_of_its_own(tmp_path: Path) -> None:
    run(Cells(), tmp_path, identity=lambda settings: {"weights": settings["system"]})
    again = Cells()
    run(again, tmp_path, identity=lambda settings: {"weights": {"none": "other"}.get(settings["system"], "dino")})
    assert {call[0]["system"] for call in again.calls} == {"none"}


def test_a_cell_that_fails_is_listed_and_tried_again(tmp_path: Path) -> None:
    table = run(Cells(fail=("none", 2)), tmp_path)
    assert [row.seeds for row in table.rows] == [[1, 2], [1, 2], [1], [1]]
    assert "not run: system none, chunk_s 1, seed 2: class 'sad' has one speaker" in table.to_markdown()
    again = Cells()
    assert not run(again, tmp_path).failures
    assert len(again.calls) == 2


def test_an_empty_axis_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="seeds: expected at least one value"):
        run(Cells(), tmp_path, seeds=[])


def test_a_change_of_the_code_makes_cells_anew_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run(Cells(), tmp_path, seeds=[1])
    monkeypatch.setattr("dino_speech.data.resumable_store.code_digest", lambda: "99" * 32)
    again, once_more = Cells(), Cells()
    run(again, tmp_path, seeds=[1, 2])
    assert len(again.calls) == 8
    said = [text for text in caplog.messages if "the code of dino_speech has changed" in text]
    assert len(said) == 4  # of seed 1: there are none of seed 2 by the former code
    assert said[0].startswith("dino_1_1_")
    run(once_more, tmp_path, seeds=[1, 2])
    assert not once_more.calls
