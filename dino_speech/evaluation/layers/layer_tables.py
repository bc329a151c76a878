"""Layers on paper: tables of a `LayerReport`, and its figures over depth."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from dino_speech.evaluation.layers.probe_layers import LayerReport
from dino_speech.evaluation.reports.pictures import has_matplotlib, new_figure, save_figure
from dino_speech.evaluation.reports.report_file import write_report

Rows = Sequence[Mapping[str, Any]]


def layer_rows(report: LayerReport) -> list[dict[str, Any]]:
    """One row per layer, each figure followed by its interval."""
    rows = []
    for layer in report.layers:
        row: dict[str, Any] = {"layer": layer.name, "width": layer.width}
        for name, value in layer.figures().items():
            row |= {_title(name): value, f"{_title(name)}, 95 %": layer.intervals[name]}
        rows.append(row)
    return rows


def mixture_rows(report: LayerReport) -> list[dict[str, Any]]:
    """One row per label and choice or sum of layers."""
    return [
        {
            "label": label,
            "layers": one.name,
            "UAR" if label == report.label else "CCC": one.value,
            "95 %": one.interval,
            "gain over the last": one.gain,
            "gain, 95 %": one.gain_interval,
            "chosen": ", ".join(dict.fromkeys(one.chosen)),
        }
        for label, mixtures in report.comparison.items()
        for one in mixtures
    ]


def layer_plot(path: str | PathLike[str], report: LayerReport) -> Path:
    """Every figure over depth with its 95 % interval, one panel for each kind; dotted: the comparison's sum and mean.

    Writes `path` (.png, .svg or .pdf), and returns it.
    """
    first = report.layers[0]
    panels = {
        "UAR": ["uar"] if first.uar is not None else [],
        "CCC": list(first.ccc),
        "EER in %": ["eer"] if first.eer is not None else [],
        "similarity (PWCCA)": list(first.similarity),
    }
    shown = {title: names for title, names in panels.items() if names}
    figure, *axes = new_figure(4 + 0.45 * len(report.layers), 3 * len(shown), num_panels=len(shown), num_columns=1)
    ticks = [layer.name for layer in report.layers]
    for panel, (title, names) in zip(axes, shown.items(), strict=True):
        for number, name in enumerate(names):
            y = [layer.figures()[name] for layer in report.layers]
            bounds = [layer.intervals[name] for layer in report.layers]
            # A percentile interval need not hold the figure itself.
            below = [max(0.0, value - one.low) for value, one in zip(y, bounds, strict=True)]
            above = [max(0.0, one.high - value) for value, one in zip(y, bounds, strict=True)]
            shift = 0.08 * (number - (len(names) - 1) / 2)
            x = [position + shift for position in range(len(y))]
            panel.errorbar(
                x, y, yerr=[below, above], marker="o", markersize=4, capsize=2, linewidth=1, label=_title(name)
            )
            mixtures = report.comparison.get(str(report.label) if name == "uar" else name, [])
            for mixture, style in zip(mixtures[2:], (":", "--"), strict=False):
                label = f"{mixture.name}, {_title(name)}"
                panel.axhline(mixture.value, linestyle=style, color=f"C{number}", linewidth=1, label=label)
        if title == "UAR" and report.chance_uar is not None:
            panel.axhline(report.chance_uar, color="0.7", linewidth=0.8, label="chance")
        panel.set_xticks(range(len(ticks)), ticks, rotation=45, ha="right")
        panel.set_ylabel(title)
        panel.grid(color="0.9")
        panel.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return save_figure(figure, path)


def write_layers(folder: str | PathLike[str], report: LayerReport, *, title: str = "Layer by layer") -> Path:
    """Write `report.md`, `report.json` and, with matplotlib, `layers.png`; returns the path of `report.md`."""
    tables: dict[str, Rows] = {"Layers": layer_rows(report)}
    if report.comparison:
        tables["One layer or several"] = mixture_rows(report)
    figures = {"Over depth": layer_plot(Path(folder) / "layers.png", report)} if has_matplotlib() else {}
    return write_report(folder, title, tables, figures, report.provenance, results=report.to_dict())


def _title(name: str) -> str:
    return {"uar": "UAR", "eer": "EER in %"}.get(name, name)
