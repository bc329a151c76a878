"""One picture of a comparison of encoders: what each knows, what conditions leave of it, groups, and costs."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from dino_speech.evaluation.reports.drawing import new_figure, save_figure
from dino_speech.studies.comparison.table import Row, is_headline, is_known, title_of

NUM_COLUMNS = 3


def plot_comparison(rows: Sequence[Row], path: str | PathLike[str], *, floor: str) -> Path:
    """Draw, for each task, the figure with its interval, the same over costs, and what stays under conditions.

    Args:
        rows: of the comparison, in their order from top to bottom.
        path: of the picture; the ending says the format.
        floor: name of the row that a line is drawn at.

    Raises:
        InputError: matplotlib is not installed.
    """
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


def _draw_figure(axes: Any, rows: Sequence[Row], name: str, floor: str) -> None:
    for place, row in enumerate(rows):
        found = row["figures"][name]
        _draw_interval(axes, place, found["value"], found["interval"])
        if row["system"] == floor and is_known(found["value"]):
            axes.axvline(found["value"], color="0.6", linewidth=0.8, linestyle="--", zorder=0)
    _name_rows(axes, rows)
    axes.set(xlabel=f"{title_of(name)}, 95 % over speakers")


def _draw_cost(axes: Any, rows: Sequence[Row], name: str, floor: str) -> None:
    """The figure over multiply-adds."""
    for row in rows:
        cost, value = row["efficiency"]["macs_per_s"] / 1e6, row["figures"][name]["value"]
        axes.plot([cost], [value], "o")
        axes.annotate(row["system"], (cost, value), textcoords="offset points", xytext=(4, 4), fontsize="x-small")
    axes.set(xscale="log", xlabel="multiply-adds per second of speech, millions", ylabel=title_of(name))
    axes.margins(x=0.25, y=0.15)  # room for the names
    axes.grid(color="0.9")


def _draw_kinds(axes: Any, rows: Sequence[Row], name: str, floor: str) -> None:
    """Share of predictions unchanged, systems by kinds of conditions."""
    kinds = list(dict.fromkeys(kind for row in rows for kind in row["robustness"][name]["kinds"]))
    shares = [[100 * row["robustness"][name]["kinds"][kind]["unchanged"] for kind in kinds] for row in rows]
    image = axes.imshow(np.array(shares), vmin=0, vmax=100, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(kinds)), kinds, rotation=60, ha="right", fontsize="x-small")
    axes.set_yticks(range(len(rows)), [row["system"] for row in rows], fontsize="small")
    axes.set(title=f"{title_of(name)}: predictions unchanged, %")
    axes.figure.colorbar(image, ax=axes)


def _draw_groups(axes: Any, rows: Sequence[Row], name: str, floor: str) -> None:
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


def _name_rows(axes: Any, rows: Sequence[Row]) -> None:
    axes.set_yticks(range(len(rows)), [row["system"] for row in rows], fontsize="small")
    axes.set_ylim(len(rows) - 0.5, -0.5)  # the first row on top
    axes.grid(axis="x", color="0.9")
