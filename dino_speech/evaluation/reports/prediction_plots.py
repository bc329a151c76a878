"""Pictures of predictions: the confusion matrix of classes, and predicted against true numbers."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dino_speech.errors import InputError
from dino_speech.evaluation.reports.drawing import new_figure, save_figure

MAX_POINTS = 5_000  # of one panel: beyond, the picture is the same and the file large


def confusion_plot(path: str | PathLike[str], matrices: Mapping[str, ArrayLike], labels: Sequence[str]) -> Path:
    """Confusion matrices, one panel per system: colour is the share of the true class, numbers are utterances.

    Args:
        path: picture to write (.png, .svg or .pdf).
        matrices: name -> (C, C) counts, rows true, columns predicted.
        labels: the C classes.

    Returns:
        The path.

    Raises:
        InputError: no matrix, or one of another shape.
    """
    num = len(labels)
    counts = {name: np.asarray(matrix) for name, matrix in matrices.items()}
    wrong = [matrix.shape for matrix in counts.values() if matrix.shape != (num, num)]
    if wrong or not counts:
        raise InputError(f"expected confusion matrices of {num} classes; found shapes {wrong or 'none'}")
    side = 1.5 + 0.6 * num
    figure, *panels = new_figure(side * len(counts), side, num_panels=len(counts))
    for axes, (title, matrix) in zip(panels, counts.items(), strict=True):
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(num, num):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{matrix[row, column]:g}", ha="center", va="center", color=colour)
        axes.set_xticks(range(num), labels, rotation=45, ha="right")
        axes.set_yticks(range(num), labels)
        axes.set(title=title, xlabel="predicted", ylabel="true")
    return save_figure(figure, path)


def agreement_plot(path: str | PathLike[str], pairs: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Path:
    """Predicted against true numbers, one panel per label; the line is where they are equal.

    Args:
        path: picture to write.
        pairs: name -> (true (N,), predicted (N,)); of more than 5,000 points every so many are drawn.

    Returns:
        The path.
    """
    figure, *panels = new_figure(4 * len(pairs), 4, num_panels=len(pairs))
    for axes, (title, pair) in zip(panels, pairs.items(), strict=True):
        true, predicted = (_thinned(np.asarray(side, dtype=np.float64)) for side in pair)
        axes.scatter(true, predicted, s=5, alpha=0.5, linewidths=0)
        ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
        axes.plot(ends, ends, color="0.7", linewidth=0.8, zorder=0)
        axes.set(title=title, xlabel="true", ylabel="predicted")
        axes.grid(color="0.9")
    return save_figure(figure, path)


def _thinned(values: NDArray) -> NDArray:
    return values[:: -(-len(values) // MAX_POINTS)]
