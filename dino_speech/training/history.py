"""The record of a run: one JSON object per logged step in `history.jsonl`, and the same figures for TensorBoard."""

import json
import logging
import math
from pathlib import Path
from typing import Any

from dino_speech.training.state import write_atomically

logger = logging.getLogger(__name__)


class History:
    """Rows of figures, kept in memory and on disk.

    Args:
        folder: gets `history.jsonl` and `tensorboard/`.
        start_step: rows of later steps are dropped: they belong to steps that a resumed run takes again.
        enabled: False (on all processes but the main one) writes nothing.
    """

    def __init__(self, folder: Path, *, start_step: int = 0, enabled: bool = True) -> None:
        self.rows: list[dict[str, Any]] = []
        self._path = folder / "history.jsonl"
        self._enabled = enabled
        if self._path.exists() and start_step:
            self.rows = [row for row in read_history(self._path) if row["step"] <= start_step]
        if enabled:
            text = "".join(json.dumps(row) + "\n" for row in self.rows)
            write_atomically(self._path, lambda file: file.write(text.encode()))
        self._writer = _tensorboard(folder / "tensorboard", start_step) if enabled else None

    def add(self, row: dict[str, Any]) -> None:
        """Append a row; nested figures are named `group/figure` in TensorBoard. What is not finite becomes None."""
        row = _finite(row)
        self.rows.append(row)
        if not self._enabled:
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self._writer is not None:
            for name, value in _scalars(row):
                self._writer.add_scalar(name, value, row["step"])

    def close(self) -> None:
        """Write out what TensorBoard still holds."""
        if self._writer is not None:
            self._writer.close()


def read_history(path: Path) -> list[dict[str, Any]]:
    """The rows of a `history.jsonl`; a last line that a killed process left unfinished is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    # JSON has no NaN and no infinity.
    plain = {name: _finite(value) if isinstance(value, dict) else value for name, value in row.items()}
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in plain.items()
    }


def _scalars(row: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in row.items():
        if isinstance(value, dict):
            found += _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and name != "step":
            found.append((prefix + name, float(value)))
    return found


def _tensorboard(folder: Path, start_step: int) -> Any:
    """torch's writer and not SpeechBrain's logger, which numbers its own steps and so begins anew after a resume."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.info("tensorboard is not installed: figures go to history.jsonl only (pip install tensorboard)")
        return None
    return SummaryWriter(str(folder), purge_step=start_step + 1 if start_step else None)
