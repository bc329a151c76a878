"""One picture of a study: a figure over one axis, one line or group of bars per combination of the others."""

from os import PathLike
from pathlib import Path

from dino_speech.errors import InputError
from dino_speech.evaluation.reports.drawing import new_figure, save_figure
from dino_speech.studies.grid import GridTable, Row, Setting


def plot_grid(table: GridTable, path: str | PathLike[str], *, figure: str, over: str | None = None) -> Path:
    """Draw the mean over seeds, with the 95 % interval where there is one, else the range of the seeds.

    Args:
        table: of `run_grid`.
        path: of the picture; the ending says the format.
        figure: which of the table's figures.
        over: the axis along x; None: the last one. Numbers make lines, anything else makes points side by side.

    Raises:
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
        groups.setdefault(_name(row, axis), []).append(row)
    for position, (name, members) in enumerate(groups.items()):
        shift = 0.0 if numbers else 0.6 * ((position + 0.5) / len(groups) - 0.5)
        x = [_place(row.settings[axis], ticks, numbers) + shift for row in members]
        y = [row.mean(figure) for row in members]
        bounds = [row.interval(figure) or row.spread(figure) for row in members]
        below = [max(0.0, value - low) for value, (low, _) in zip(y, bounds, strict=True)]
        above = [max(0.0, high - value) for value, (_, high) in zip(y, bounds, strict=True)]
        style = "o-" if numbers else "o"
        axes.errorbar(x, y, yerr=[below, above], fmt=style, capsize=3, label=name or None)
    if not numbers:
        axes.set_xticks(range(len(ticks)), [str(tick) for tick in ticks])
    axes.set_xlabel(axis)
    axes.set_ylabel(figure)
    if any(groups):
        axes.legend(fontsize="small")
    return save_figure(picture, path)


def _name(row: Row, axis: str) -> str:
    return ", ".join(f"{name} {value}" for name, value in row.settings.items() if name != axis)


def _place(tick: Setting, ticks: list[Setting], numbers: bool) -> float:
    return float(tick) if numbers else float(ticks.index(tick))  # type: ignore[arg-type]
