"""DET curves of a study: the scores of each cell beside its figures, and one picture per list of trials."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.resumable_store import safe_name
from dino_speech.evaluation.reports.drawing import has_matplotlib
from dino_speech.evaluation.reports.pictures import det_plot
from dino_speech.studies.grid import GridTable, Row

SCORES_FILE = "scores.npz"
Scored = tuple[NDArray[np.float32], NDArray[np.int8]]


def keep_scores(folder: Path, scored: Mapping[str, Scored]) -> None:
    """Write the scores and labels of each list to `scores.npz`."""
    arrays: dict[str, Any] = {}
    for number, (name, (scores, labels)) in enumerate(scored.items()):
        arrays |= {f"name_{number}": np.array(name), f"scores_{number}": scores, f"labels_{number}": labels}
    np.savez_compressed(folder / SCORES_FILE, **arrays)


def draw_det(table: GridTable, cell_of: Callable[[Row, int], Path], folder: Path) -> list[Path]:
    """One picture per list (`det.png`, `det_<list>.png`), with a curve per row: its first seed whose scores are there.

    Args:
        table: of the study.
        cell_of: row and seed -> the folder of the cell.
        folder: of the pictures; without matplotlib there are none.
    """
    if not has_matplotlib():
        return []
    curves: dict[str, dict[str, Scored]] = {}
    for row in table.rows:
        kept = next((path for seed in row.seeds if (path := cell_of(row, seed) / SCORES_FILE).exists()), None)
        for name, scored in ({} if kept is None else _read(kept)).items():
            curves.setdefault(name, {})[row_name(table, row)] = scored
    return [det_plot(folder / f"det{f'_{safe_name(name)}' if name else ''}.png", of) for name, of in curves.items()]


def row_name(table: GridTable, row: Row) -> str:
    """The settings in which the rows of a table differ, in words."""
    varied = [axis for axis in table.axes if len({str(other.settings[axis]) for other in table.rows}) > 1]
    return ", ".join(str(row.settings[axis]) for axis in varied or table.axes[:1])


def _read(path: Path) -> dict[str, Scored]:
    with np.load(path, allow_pickle=False) as found:
        count = sum(name.startswith("name_") for name in found.files)
        return {str(found[f"name_{i}"]): (found[f"scores_{i}"], found[f"labels_{i}"]) for i in range(count)}
