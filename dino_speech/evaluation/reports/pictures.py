"""Pictures: DET curves, confusions, predicted and true numbers, embeddings on a plane, the history of a training.

matplotlib is the extra `dino-speech[plots]`, and its global state is not touched.
"""

import importlib.util
import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dino_speech.data.atomic import write_atomically
from dino_speech.errors import InputError
from dino_speech.evaluation.one_thread import one_thread
from dino_speech.metrics import det_curve

Row = Mapping[str, Any]
EDGE = 1e-4  # rates of 0 and 1 have no place on normal-deviate axes: drawn here
MAX_DRAWN = 2_000  # points of one curve: beyond, the picture is the same and the file large
MAX_NAMED = 20  # speakers with a colour of their own; the others are grey
MAX_TSNE = 2_000  # takes a few seconds
PRIOR_LOG_ODDS = 7  # ours: priors of a target from 0.001 to 0.999
MAX_POINTS = 5_000  # of one panel: beyond, the picture is the same and the file large


def has_matplotlib() -> bool:
    """Whether pictures can be drawn."""
    return importlib.util.find_spec("matplotlib") is not None


def new_figure(
    width: float = 6, height: float = 4, *, num_panels: int = 1, num_columns: int | None = None
) -> list[Any]:
    """A figure and its panels, in rows of `num_columns`; sizes in inches. Refused without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("plots need matplotlib: pip install 'dino-speech[plots]'") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    columns = num_columns or num_panels
    lines = math.ceil(num_panels / columns)
    return [figure, *(figure.add_subplot(lines, columns, number + 1) for number in range(num_panels))]


def save_figure(figure: Any, path: str | PathLike[str]) -> Path:
    """Write a picture (.png, .svg or .pdf); its folder is made. Returns its path."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, lambda file: figure.savefig(file, format=target.suffix[1:] or None, dpi=120))
    return target


def det_plot(path: str | PathLike[str], curves: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Path:
    """Detection error trade-off of each system, on normal-deviate axes, with its EER in the legend.

    Args:
        path: picture to write (.png, .svg or .pdf); it is returned.
        curves: name -> (scores, labels) of one list of trials.
    """
    figure, axes = new_figure(6, 6)
    from sklearn.metrics import DetCurveDisplay

    for name, (scores, labels) in curves.items():
        curve = det_curve(scores, labels)
        chosen = np.unique(np.linspace(0, len(curve.p_miss) - 1, MAX_DRAWN).astype(int))
        fpr, fnr = (np.clip(rate[chosen], EDGE, 1 - EDGE) for rate in (curve.p_false_alarm, curve.p_miss))
        DetCurveDisplay(fpr=fpr, fnr=fnr).plot(axes, name=f"{name} (EER {curve.eer():.1f} %)")
    axes.axline((0, 0), slope=1, color="0.7", linewidth=0.8, zorder=0)
    axes.set(xlabel="false alarms", ylabel="misses", aspect="equal")
    axes.grid(color="0.9")
    axes.legend(loc="upper right")
    return save_figure(figure, path)


def bayes_error_plot(path: str | PathLike[str], curves: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Path:
    """Error rate of Bayes decisions over the prior of a target, one panel per system.

    Of scores that are natural-log likelihood ratios: what they cost, what the best thresholds would, and what the prior
    alone does. What lies between the first two is lost by calibration.

    Args:
        path: picture to write (.png, .svg or .pdf); it is returned.
        curves: name -> (log-likelihood ratios, labels) of one list of trials.

    Source: the applied-probability-of-error (APE) plot of Brummer and du Preez, Computer Speech and Language 20 (2006).
    """
    figure, *panels = new_figure(4 * len(curves), 4, num_panels=len(curves))
    log_odds = np.linspace(-PRIOR_LOG_ODDS, PRIOR_LOG_ODDS, 141)
    priors = 1 / (1 + np.exp(-log_odds))
    alone = np.minimum(priors, 1 - priors)  # the cost by which detection costs are normalised
    for axes, (name, (ratios, labels)) in zip(panels, curves.items(), strict=True):
        curve = det_curve(ratios, labels)
        for title, cost in (("actual", curve.act_dcf), ("least", curve.min_dcf)):
            axes.plot(log_odds, alone * [cost(p_target=float(prior)) for prior in priors], label=title)
        axes.plot(log_odds, alone, color="0.7", linestyle=":", label="prior alone")
        axes.set(title=name, xlabel="log odds of a target", ylabel="error rate", ylim=(0, 0.52))
        axes.grid(color="0.9")
        axes.legend(fontsize="small")
    return save_figure(figure, path)


def confusion_plot(path: str | PathLike[str], matrices: Mapping[str, ArrayLike], labels: Sequence[str]) -> Path:
    """Confusion matrices, one panel per system: colour is the share of the true class, numbers are utterances.

    `matrices` are (C, C) counts by name, rows true, columns predicted; at least one, and all of the C `labels`.
    """
    num = len(labels)
    counts = {name: np.asarray(matrix) for name, matrix in matrices.items()}
    wrong = [matrix.shape for matrix in counts.values() if matrix.shape != (num, num)]
    if wrong or not counts:
        raise InputError(f"expected confusion matrices of {num} classes; found shapes {wrong or 'none'}")
    side = 1.5 + 0.6 * num
    figure, *panels = new_figure(side * len(counts), side, num_panels=len(counts))
    from sklearn.metrics import ConfusionMatrixDisplay

    for axes, (title, matrix) in zip(panels, counts.items(), strict=True):
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        drawn = ConfusionMatrixDisplay(shares, display_labels=labels)
        drawn.plot(ax=axes, cmap="Blues", colorbar=False, xticks_rotation=45, im_kw={"vmin": 0, "vmax": 1})
        for text, count in zip(drawn.text_.flat, matrix.flat, strict=True):
            text.set_text(f"{count:g}")
        axes.set(title=title, xlabel="predicted", ylabel="true")
    return save_figure(figure, path)


def agreement_plot(path: str | PathLike[str], pairs: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Path:
    """Predicted (N,) against true (N,) numbers, one panel per label; the line is where they are equal."""
    figure, *panels = new_figure(4 * len(pairs), 4, num_panels=len(pairs))
    for axes, (title, pair) in zip(panels, pairs.items(), strict=True):
        both = np.asarray(pair, dtype=np.float64)  # (2, N)
        true, predicted = both[:, :: -(-both.shape[1] // MAX_POINTS)]
        axes.scatter(true, predicted, s=5, alpha=0.5, linewidths=0)
        ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
        axes.plot(ends, ends, color="0.7", linewidth=0.8, zorder=0)
        axes.set(title=title, xlabel="true", ylabel="predicted")
        axes.grid(color="0.9")
    return save_figure(figure, path)


def embedding_plot(
    path: str | PathLike[str],
    embeddings: Mapping[str, ArrayLike],
    labels: Sequence[str],
    *,
    method: str = "tsne",
    seed: int = 0,
) -> Path:
    """Embeddings (N, D) in two dimensions, one panel per encoder, coloured by label (the speaker).

    Args:
        path: picture to write; it is returned.
        embeddings: by name.
        labels: N names; the commonest `MAX_NAMED` get a colour, the others are grey.
        method: "tsne" (cosine distance, on at most 2,000 utterances drawn with `seed`) or "pca" (of unit vectors).
        seed: of t-SNE and of the draw.

    Raises:
        InputError: an unknown method, fewer than three utterances, or labels of another number.
    """
    names = np.asarray(labels)
    figure, *panels = new_figure(5 * len(embeddings), 5, num_panels=len(embeddings))
    from matplotlib import colormaps

    found, counts = np.unique(names, return_counts=True)
    named = found[np.argsort(-counts, kind="stable")[:MAX_NAMED]]
    for axes, (title, rows) in zip(panels, embeddings.items(), strict=True):
        points, kept = _in_two_dimensions(np.asarray(rows, dtype=np.float64), len(names), method, seed)
        other = ~np.isin(names[kept], named)
        axes.scatter(*points[other].T, s=6, color="0.8")
        for number, name in enumerate(named):
            axes.scatter(*points[names[kept] == name].T, s=12, color=colormaps["tab20"](number), label=str(name))
        axes.set(title=title, xticks=[], yticks=[])
    if len(found) <= MAX_NAMED:
        panels[-1].legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return save_figure(figure, path)


def training_plot(path: str | PathLike[str], history: Sequence[Row], *, x: str = "step") -> Path:
    """One panel per number that the history holds, over `x`; rows need not all have the same keys.

    Figures nested one level down are named `group/figure`. A history without numbers over `x` is refused.
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


def _flat(row: Row) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        flat |= {f"{name}/{key}": item for key, item in value.items()} if isinstance(value, Mapping) else {name: value}
    return flat


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and math.isfinite(value)
