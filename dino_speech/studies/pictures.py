"""Pictures of studies: figures over an axis, DET curves, and encoders side by side."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.resumable_store import read_arrays, safe_name
from dino_speech.errors import InputError
from dino_speech.evaluation.reports.pictures import det_plot, has_matplotlib, new_figure, save_figure
from dino_speech.studies.comparison.task_predictions import SystemRow, is_headline, is_known, title_of
from dino_speech.studies.grid import GridTable, Row


def plot_grid(table: GridTable, path: str | PathLike[str], *, figure: str, over: str | None = None) -> Path:
    """Draw the mean over seeds, with the 95 % interval where there is one, else the range of the seeds.

    `over` is the axis along x, None: the last one. Numbers make lines, anything else points side by side.
    InputError: the table has no such figure or axis, or matplotlib is not installed.
    """
    axis = table.axes[-1] if over is None else over
    for name, known, kind in ((figure, table.figures, "figure"), (axis, table.axes, "axis")):
        if name not in known:
            raise InputError(f"no {kind} {name!r} in the table; there are {', '.join(known)}")
    picture, axes = new_figure(7, 4.5)
    rows = [row for row in table.rows if all(figure in result.figures for result in row.results)]
    ticks = list(dict.fromkeys(row.settings[axis] for row in rows))
    numbers = all(isinstance(tick, (int, float)) and not isinstance(tick, bool) for tick in ticks)
    groups: dict[str, list[Row]] = {}
    for row in rows:
        name = ", ".join(f"{other} {value}" for other, value in row.settings.items() if other != axis)
        groups.setdefault(name, []).append(row)
    for position, (name, members) in enumerate(groups.items()):
        shift = 0.0 if numbers else 0.6 * ((position + 0.5) / len(groups) - 0.5)
        settings: list[Any] = [row.settings[axis] for row in members]
        x = [float(tick if numbers else ticks.index(tick)) + shift for tick in settings]
        y = [row.mean(figure) for row in members]
        bounds = [row.interval(figure) or row.spread(figure) for row in members]
        below = [max(0.0, value - low) for value, (low, _) in zip(y, bounds, strict=True)]
        above = [max(0.0, high - value) for value, (_, high) in zip(y, bounds, strict=True)]
        axes.errorbar(x, y, yerr=[below, above], fmt="o-" if numbers else "o", capsize=3, label=name or None)
    if not numbers:
        axes.set_xticks(range(len(ticks)), [str(tick) for tick in ticks])
    axes.set_xlabel(axis)
    axes.set_ylabel(figure)
    if any(groups):
        axes.legend(fontsize="small")
    return save_figure(picture, path)


SCORES_FILE = "scores.npz"
Scored = tuple[NDArray[np.float32], NDArray[np.int8]]


def keep_scores(folder: Path, scored: Mapping[str, Scored]) -> None:
    """Write the scores and labels of each list to `scores.npz`."""
    arrays: dict[str, Any] = {}
    for number, (name, (scores, labels)) in enumerate(scored.items()):
        arrays |= {f"name_{number}": np.array(name), f"scores_{number}": scores, f"labels_{number}": labels}
    np.savez_compressed(folder / SCORES_FILE, **arrays)


def draw_det(table: GridTable, folder: Path) -> list[Path]:
    """`det.png`, or `det_<list>.png` for each list: a curve per row, of its first seed with scores; by matplotlib."""
    if not has_matplotlib():
        return []
    curves: dict[str, dict[str, Scored]] = {}
    for row in table.rows:
        files = [path for cell in row.folders if (path := cell / SCORES_FILE).exists()]
        for name, scored in (_read(files[0]) if files else {}).items():
            curves.setdefault(name, {})[row_name(table, row)] = scored
    return [det_plot(folder / f"det{f'_{safe_name(name)}' if name else ''}.png", of) for name, of in curves.items()]


def row_name(table: GridTable, row: Row) -> str:
    """The settings in which the rows of a table differ, in words."""
    varied = [axis for axis in table.axes if len({str(other.settings[axis]) for other in table.rows}) > 1]
    return ", ".join(str(row.settings[axis]) for axis in varied or table.axes[:1])


def _read(path: Path) -> dict[str, Scored]:
    found = read_arrays(path)
    return {str(found[f"name_{i}"]): (found[f"scores_{i}"], found[f"labels_{i}"]) for i in range(len(found) // 3)}


NUM_COLUMNS = 3


def plot_comparison(rows: Sequence[SystemRow], path: str | PathLike[str], *, floor: str) -> Path:
    """Draw for each task its figure with a line at the floor, the same over costs, under conditions, and by groups."""
    figures = [name for name in rows[0]["figures"] if is_headline(name)]
    panels: list[tuple[Any, str]] = []
    for name in figures:
        panels += [(_draw_figure, name), (_draw_cost, name)]
        panels += [(_draw_kinds, name)] if rows[0]["robustness"] else []
    panels += [(_draw_groups, name) for name, found in rows[0]["fairness"].items() if found["differences"]]
    columns = 2 if len(panels) == 4 else min(NUM_COLUMNS, len(panels))
    height = 1.8 + 0.3 * len(rows)
    num_lines = -(-len(panels) // columns)
    picture, *axes = new_figure(5.5 * columns, height * num_lines, num_panels=len(panels), num_columns=columns)
    for panel, (draw, name) in zip(axes, panels, strict=True):
        draw(panel, rows, name, floor)
    return save_figure(picture, path)


def _draw_figure(axes: Any, rows: Sequence[SystemRow], name: str, floor: str) -> None:
    for place, row in enumerate(rows):
        found = row["figures"][name]
        _draw_interval(axes, place, found["value"], found["interval"])
        if row["system"] == floor and is_known(found["value"]):
            axes.axvline(found["value"], color="0.6", linewidth=0.8, linestyle="--", zorder=0)
    _name_rows(axes, rows)
    axes.set(xlabel=f"{title_of(name)}, 95 % over speakers")


def _draw_cost(axes: Any, rows: Sequence[SystemRow], name: str, floor: str) -> None:
    """The figure over multiply-adds."""
    for row in rows:
        cost, value = row["efficiency"]["macs_per_s"] / 1e6, row["figures"][name]["value"]
        axes.plot([cost], [value], "o")
        axes.annotate(row["system"], (cost, value), textcoords="offset points", xytext=(4, 4), fontsize="x-small")
    axes.set(xscale="log", xlabel="multiply-adds per second of speech, millions", ylabel=title_of(name))
    axes.margins(x=0.25, y=0.15)  # room for the names
    axes.grid(color="0.9")


def _draw_kinds(axes: Any, rows: Sequence[SystemRow], name: str, floor: str) -> None:
    """Share of predictions unchanged, systems by kinds of conditions."""
    kinds = list(dict.fromkeys(kind for row in rows for kind in row["robustness"][name]["kinds"]))
    shares = [[100 * row["robustness"][name]["kinds"][kind]["unchanged"] for kind in kinds] for row in rows]
    image = axes.imshow(np.array(shares), vmin=0, vmax=100, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(kinds)), kinds, rotation=60, ha="right", fontsize="x-small")
    axes.set_yticks(range(len(rows)), [row["system"] for row in rows], fontsize="small")
    axes.set(title=f"{title_of(name)}: predictions unchanged, %")
    axes.figure.colorbar(image, ax=axes)


def _draw_groups(axes: Any, rows: Sequence[SystemRow], name: str, floor: str) -> None:
    pairs = list(rows[0]["fairness"][name]["differences"])
    for number, pair in enumerate(pairs):
        shift = 0.5 * ((number + 0.5) / len(pairs) - 0.5)
        for place, row in enumerate(rows):
            found = row["fairness"][name]["differences"][pair]
            label = pair if place == 0 and len(pairs) > 1 else None
            _draw_interval(axes, place + shift, found["value"], found["interval"], colour=f"C{number}", label=label)
    axes.axvline(0, color="0.6", linewidth=0.8, linestyle="--", zorder=0)
    _name_rows(axes, rows)
    axes.set(xlabel=f"{title_of(name)}: {pairs[0] if len(pairs) == 1 else 'differences'}, 95 % over speakers")
    if len(pairs) > 1:
        axes.legend(fontsize="x-small")


def _draw_interval(
    axes: Any, place: float, value: Any, interval: Mapping[str, Any], *, colour: str = "C0", label: str | None = None
) -> None:
    if not is_known(value):
        return
    low, high = (interval[side] if is_known(interval[side]) else value for side in ("low", "high"))
    below, above = max(0.0, value - low), max(0.0, high - value)
    axes.errorbar([value], [place], xerr=[[below], [above]], fmt="o", capsize=3, color=colour, label=label)


def _name_rows(axes: Any, rows: Sequence[SystemRow]) -> None:
    axes.set_yticks(range(len(rows)), [row["system"] for row in rows], fontsize="small")
    axes.set_ylim(len(rows) - 0.5, -0.5)  # the first row on top
    axes.grid(axis="x", color="0.9")
