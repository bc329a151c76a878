"""Results on paper: `report.md` for people, `report.json` for programs, and pictures of systems.

Without matplotlib (see `drawing.py`) the tables are written all the same. Pictures of predictions are in
`prediction_plots.py`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dino_speech.embedding.embedded_manifest import one_thread
from dino_speech.errors import InputError
from dino_speech.evaluation.reports.drawing import new_figure, save_figure
from dino_speech.metrics import det_curve

Row = Mapping[str, Any]
DET_TICKS = (0.1, 0.5, 1, 2, 5, 10, 20, 40, 60, 80)  # percent
MAX_DRAWN = 2_000  # points of one curve: beyond, the picture is the same and the file large
MAX_NAMED = 20  # speakers with a colour of their own; the others are grey
MAX_TSNE = 2_000  # takes a few seconds


def write_report(
    folder: str | PathLike[str],
    title: str,
    tables: Mapping[str, Sequence[Row]],
    figures: Mapping[str, str | PathLike[str]],
    provenance: Mapping[str, Any],
    *,
    notes: Mapping[str, str] | None = None,
    results: Mapping[str, Any] | None = None,
) -> Path:
    """Write `report.md` and `report.json` into a folder.

    Args:
        folder: made if it does not exist.
        title: first line.
        tables: heading -> rows; the columns are the keys of the rows, in the order in which they first occur.
        figures: caption -> picture; one below the folder is linked by its relative path.
        provenance: what made the results (see `provenance.provenance`).
        notes: heading -> text, before the tables.
        results: further plain data, for `report.json` only.

    Returns:
        The path of `report.md`.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    links = {caption: _relative(Path(path), target) for caption, path in figures.items()}
    parts = [f"# {title}"]
    parts += [f"## {heading}\n\n{text.strip()}" for heading, text in (notes or {}).items()]
    parts += [f"## {heading}\n\n{markdown_table(rows)}" for heading, rows in tables.items()]
    parts += [f"## {caption}\n\n![{caption}]({link})" for caption, link in links.items()]
    parts.append("## Provenance\n\n```json\n" + json.dumps(_plain(provenance), indent=2) + "\n```")
    content = {"title": title, "notes": notes or {}, "tables": tables, "figures": links, "provenance": provenance}
    content |= {"results": results} if results is not None else {}
    (target / "report.json").write_text(json.dumps(_plain(content), indent=2) + "\n", encoding="utf-8")
    report = target / "report.md"
    report.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return report


def markdown_table(rows: Sequence[Row]) -> str:
    """A Markdown table of rows that need not have the same keys; numbers get four significant digits."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if not columns:
        return "(nothing)"
    lines = [columns, ["---"] * len(columns), *([_cell(row.get(name)) for name in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def det_plot(path: str | PathLike[str], curves: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Path:
    """Detection error trade-off of each system, on normal-deviate axes, with its EER in the legend.

    Args:
        path: picture to write (.png, .svg or .pdf).
        curves: name -> (scores, labels) of one list of trials.

    Returns:
        The path.
    """
    from scipy.special import ndtri

    figure, axes = new_figure(6, 6)
    low, high = DET_TICKS[0] / 100, DET_TICKS[-1] / 100
    for name, (scores, labels) in curves.items():
        curve = det_curve(scores, labels)
        chosen = np.unique(np.linspace(0, len(curve.p_miss) - 1, MAX_DRAWN).astype(int))
        # Rates of 0 and 1 have no place on these axes: drawn at the edges.
        x, y = (ndtri(np.clip(rate[chosen], low / 10, 1 - low / 10)) for rate in (curve.p_false_alarm, curve.p_miss))
        axes.plot(x, y, label=f"{name} (EER {curve.eer():.1f} %)")
    ticks = ndtri(np.array(DET_TICKS) / 100)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks, [f"{tick:g}" for tick in DET_TICKS])
    axes.plot(ticks[[0, -1]], ticks[[0, -1]], color="0.7", linewidth=0.8, zorder=0)
    axes.set(xlim=(ndtri(low), ndtri(high)), ylim=(ndtri(low), ndtri(high)), aspect="equal")
    axes.set(xlabel="false alarms in %", ylabel="misses in %")
    axes.grid(color="0.9")
    axes.legend(loc="upper right")
    return save_figure(figure, path)


def embedding_plot(
    path: str | PathLike[str],
    embeddings: Mapping[str, ArrayLike],
    labels: Sequence[str],
    *,
    method: str = "tsne",
    seed: int = 0,
) -> Path:
    """Embeddings in two dimensions, one panel per encoder, coloured by label (the speaker).

    Args:
        path: picture to write.
        embeddings: name -> (N, D).
        labels: N names; the commonest `MAX_NAMED` get a colour, the others are grey.
        method: "tsne" (cosine distance, on at most 2,000 utterances drawn with `seed`) or "pca" (of unit vectors).
        seed: of t-SNE and of the draw.

    Returns:
        The path.

    Raises:
        InputError: an unknown method, fewer than three utterances, or labels of another number.
    """
    names = np.asarray(labels)
    figure, *panels = new_figure(5 * len(embeddings), 5, num_panels=len(embeddings))
    found, counts = np.unique(names, return_counts=True)
    named = found[np.argsort(-counts, kind="stable")[:MAX_NAMED]]
    for axes, (title, rows) in zip(panels, embeddings.items(), strict=True):
        points, kept = _in_two_dimensions(np.asarray(rows, dtype=np.float64), len(names), method, seed)
        other = ~np.isin(names[kept], named)
        axes.scatter(*points[other].T, s=6, color="0.8")
        for number, name in enumerate(named):
            axes.scatter(*points[names[kept] == name].T, s=12, color=_colour(number), label=str(name))
        axes.set(title=title, xticks=[], yticks=[])
    if len(found) <= MAX_NAMED:
        panels[-1].legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return save_figure(figure, path)


def training_plot(path: str | PathLike[str], history: Sequence[Row], *, x: str = "step") -> Path:
    """One panel per number that the history holds, over `x`; rows need not all have the same keys.

    Figures nested one level down are named `group/figure`.

    Raises:
        InputError: the history holds no numbers over `x`.
    """
    history = [_flat(row) for row in history]
    names = [
        name
        for name in dict.fromkeys(key for row in history for key in row)
        if name != x and any(_is_number(row.get(name)) for row in history if x in row)
    ]
    if not names:
        raise InputError(f"the history holds no numbers over {x!r}: nothing to plot")
    columns = min(3, len(names))
    lines = math.ceil(len(names) / columns)
    figure, *panels = new_figure(4 * columns, 2.5 * lines, num_panels=len(names), num_columns=columns)
    for axes, name in zip(panels, names, strict=True):
        rows = [row for row in history if x in row and _is_number(row.get(name))]
        marker = "o" if len(rows) < 30 else None
        axes.plot([row[x] for row in rows], [row[name] for row in rows], marker=marker, markersize=3, linewidth=1)
        axes.set(title=name, xlabel=x)
        axes.grid(color="0.9")
    return save_figure(figure, path)


def _in_two_dimensions(rows: NDArray, num: int, method: str, seed: int) -> tuple[NDArray, NDArray]:
    """(M, 2) points and which M of the N rows they are."""
    if rows.ndim != 2 or len(rows) != num or num < 3:
        raise InputError(f"expected embeddings (N, D) of {num} labels, at least 3; found shape {rows.shape}")
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    if method == "pca":
        centred = unit - unit.mean(axis=0)
        return centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T, np.arange(num)
    if method != "tsne":
        raise InputError(f"method is {method!r}; expected 'tsne' or 'pca'")
    from sklearn.manifold import TSNE

    kept = np.sort(np.random.default_rng(seed).permutation(num)[:MAX_TSNE])
    perplexity = min(30.0, (len(kept) - 1) / 3)
    # Between unit vectors the Euclidean distance orders as the cosine does, and has a fast neighbour search.
    with one_thread():
        return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(unit[kept]), kept


def _colour(number: int) -> Any:
    from matplotlib import colormaps

    return colormaps["tab20"](number % 20)


def _flat(row: Row) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        flat |= {f"{name}/{key}": item for key, item in value.items()} if isinstance(value, Mapping) else {name: value}
    return flat


def _relative(path: Path, folder: Path) -> str:
    inside = path.absolute().is_relative_to(folder.absolute())
    return path.absolute().relative_to(folder.absolute()).as_posix() if inside else path.as_posix()


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and math.isfinite(value)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    text = f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _plain(value: Any) -> Any:
    """As JSON can hold it: arrays become lists, numbers that are not finite None, objects their `to_dict`."""
    if hasattr(value, "to_dict"):
        return _plain(value.to_dict())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
