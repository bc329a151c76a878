"""A grid of experiments: every combination of some settings and seeds is run once, kept, and put into one table.

What a cell does is the caller's: a function of its settings that returns figures. Pictures are in `pictures.py`.
"""

import itertools
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from dino_speech.data.atomic import write_csv_atomically, write_text_atomically
from dino_speech.data.outputs import check_output
from dino_speech.data.resumable_store import place_of, read_or_make
from dino_speech.errors import InputError
from dino_speech.evaluation.reports.report_file import markdown_table

logger = logging.getLogger(__name__)

Setting = str | int | float | bool | None
Identity = Mapping[str, Any] | Callable[[Mapping[str, Setting]], Mapping[str, Any]]


@dataclass(frozen=True)
class CellResult:
    """What one experiment gave: figures by name, and 95 % bounds (low, high) of those that have them."""

    figures: dict[str, float]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass
class Row:
    """One combination of settings (by axis), with its finished seeds, and a result and a folder for each of them."""

    settings: dict[str, Setting]
    seeds: list[int] = field(default_factory=list)
    results: list[CellResult] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)

    def mean(self, figure: str) -> float:
        """Over the seeds."""
        return sum(result.figures[figure] for result in self.results) / len(self.results)

    def spread(self, figure: str) -> tuple[float, float]:
        """The smallest and the largest of the seeds."""
        values = [result.figures[figure] for result in self.results]
        return min(values), max(values)

    def interval(self, figure: str) -> tuple[float, float] | None:
        """Mean of the seeds' interval bounds, None where there are none."""
        bounds = [result.intervals[figure] for result in self.results if figure in result.intervals]
        if not bounds:
            return None
        return sum(low for low, _ in bounds) / len(bounds), sum(high for _, high in bounds) / len(bounds)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: settings, seeds, and by figure `mean`, `min`, `max`, `interval`."""
        figures = {}
        for name in self.results[0].figures:
            low, high = self.spread(name)
            figures[name] = {"mean": self.mean(name), "min": low, "max": high, "interval": self.interval(name)}
        return {"settings": self.settings, "seeds": self.seeds, "figures": figures}


@dataclass(frozen=True)
class GridTable:
    """All rows with at least one finished seed, in the order of the axes; `failures`: why, by cell that was not run.

    `notes` are sentences that a reader of the figures must know.
    """

    axes: list[str]
    rows: list[Row]
    failures: dict[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def figures(self) -> list[str]:
        """Names of the figures, as they first occur."""
        return list(dict.fromkeys(name for row in self.rows for result in row.results for name in result.figures))

    def to_markdown(self, *, digits: int = 3) -> str:
        """A table: mean over seeds, their range where there are several, and the mean 95 % interval."""
        rows = [
            {axis: _show(row.settings[axis]) for axis in self.axes}
            | {"seeds": str(len(row.seeds))}
            | {name: _cell(row, name, digits) for name in self.figures}
            for row in self.rows
        ]
        notes = ["", "Mean over seeds; in brackets the smallest and the largest seed; `ci`: 95 %, mean over seeds."]
        notes += [f"- {note}" for note in self.notes]
        notes += [f"- not run: {cell}: {reason}" for cell, reason in self.failures.items()]
        return "\n".join([markdown_table(rows), *notes]) + "\n"

    def write_csv(self, path: Path) -> None:
        """One line per cell (settings, seed, figures, bounds), for anybody's own statistics."""
        bounds = [f"{figure}_{side}" for figure in self.figures for side in ("low", "high")]
        lines = []
        for row in self.rows:
            for seed, result in zip(row.seeds, row.results, strict=True):
                lows = {f"{name}_low": low for name, (low, _) in result.intervals.items()}
                highs = {f"{name}_high": high for name, (_, high) in result.intervals.items()}
                lines.append({**row.settings, "seed": seed, **result.figures, **lows, **highs})
        write_csv_atomically(path, lines, columns=[*self.axes, "seed", *self.figures, *bounds])


def run_grid(
    axes: Mapping[str, Sequence[Setting]],
    run_cell: Callable[[dict[str, Setting], int, Path], CellResult],
    *,
    seeds: Sequence[int],
    output_folder: str | PathLike[str],
    identity: Identity,
    notes: Sequence[str] = (),
) -> GridTable:
    """Run every cell that is not finished yet, and write `table.md` and `table.csv` after each.

    Interrupted at any moment, the finished cells are kept (`cells/<name>/result.json`); the same call goes on. A cell
    that fails for its data or settings is listed in the table, the others are run, and the next call tries it again.

    Args:
        axes: the settings to combine with one another and each seed; the last varies fastest. InputError: one is empty.
        run_cell: (settings, seed, a folder of its own) -> figures; it must depend on nothing else.
        identity: plain data on all else that a cell depends on (data, weights, common settings), or a function of a
            cell's settings that gives it; with another identity, or by another code, a cell is another cell.
        notes: sentences for the table.
    """
    for name, values in {**axes, "seeds": seeds}.items():
        if not len(values):
            raise InputError(f"{name}: expected at least one value")
    from tqdm import tqdm

    check_output(output_folder)
    folder = Path(output_folder)
    rows = [Row(dict(zip(axes, values, strict=True))) for values in itertools.product(*axes.values())]
    failures: dict[str, str] = {}
    # Seeds outermost: an interrupted study has every row, with fewer seeds.
    cells = tqdm(list(itertools.product(seeds, rows)), desc="study", unit="cell", file=sys.stderr, dynamic_ncols=True)
    for seed, row in cells:
        in_words = ", ".join([*(f"{axis} {_show(value)}" for axis, value in row.settings.items()), f"seed {seed}"])
        cells.set_postfix_str(in_words)
        cell = _cell_place(folder / "cells", row.settings, seed, identity)
        try:
            result = _result(run_cell, row.settings, seed, cell)
        except InputError as error:
            failures[in_words] = str(error)
            logger.warning("%s: %s", in_words, error)
        else:
            row.seeds.append(seed)
            row.results.append(result)
            row.folders.append(cell)
        table = GridTable(list(axes), [row for row in rows if row.seeds], failures, notes)
        write_text_atomically(folder / "table.md", table.to_markdown())
        table.write_csv(folder / "table.csv")
    return table


def _cell_place(folder: Path, settings: Mapping[str, Setting], seed: int, identity: Identity) -> Path:
    """A folder with a name that a person can read, and with hashes of all that the cell depends on, the code too."""
    known = identity(settings) if callable(identity) else identity
    words = "_".join([*(_show(value) for value in settings.values()), str(seed)])
    return place_of(folder, words, [dict(settings), seed, known], digits=8)


def _result(run_cell: Callable[..., CellResult], settings: dict[str, Setting], seed: int, folder: Path) -> CellResult:
    """Of a cell, which is run where it is not finished."""

    def run() -> dict[str, Any]:
        started = time.perf_counter()
        folder.mkdir(parents=True, exist_ok=True)
        result = run_cell(dict(settings), seed, folder)
        return {"settings": settings, "seed": seed, "seconds": round(time.perf_counter() - started, 1), **vars(result)}

    record = read_or_make(folder / "result.json", run)
    return CellResult(record["figures"], {name: (low, high) for name, (low, high) in record["intervals"].items()})


def _show(value: Setting) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cell(row: Row, figure: str, digits: int) -> str:
    if any(figure not in result.figures for result in row.results):
        return ""
    text = f"{row.mean(figure):.{digits}f}"
    if len(row.seeds) > 1:
        low, high = row.spread(figure)
        text += f" [{low:.{digits}f} {high:.{digits}f}]"
    interval = row.interval(figure)
    return text if interval is None else f"{text} ci {interval[0]:.{digits}f} to {interval[1]:.{digits}f}"
