"""Paper for pictures: figures and files of matplotlib, whose global state is not touched.

matplotlib is the extra `dino-speech[plots]`; without it a plot says what to install.
"""

import importlib.util
import math
from os import PathLike
from pathlib import Path
from typing import Any

from dino_speech.errors import InputError


def has_matplotlib() -> bool:
    """Whether pictures can be drawn."""
    return importlib.util.find_spec("matplotlib") is not None


def new_figure(
    width: float = 6, height: float = 4, *, num_panels: int = 1, num_columns: int | None = None
) -> list[Any]:
    """A figure and its panels, in rows of `num_columns`; sizes in inches.

    Raises:
        InputError: matplotlib is not installed.
    """
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
    figure.savefig(target, dpi=120)
    return target
