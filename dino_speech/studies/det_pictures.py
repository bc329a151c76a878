"""DET curves of a study: the scores of each cell beside its figures, and one picture per list of trials."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.resumable_store import read_arrays, safe_name
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


def draw_det(table: GridTable, folder: Path) -> list[Path]:
    """One picture per list (`det.png`, `det_<list>.png`), with a curve per row: its first seed whose scores are there.

    Args:
        table: of the study.
        folder: of the pictures; without matplotlib there are none.
    """
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
