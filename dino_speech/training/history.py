"""The record of a run: an object per logged step in `history.jsonl`, TensorBoard, and what a person sees meanwhile."""

import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor

from dino_speech.data.atomic import write_atomically, writing
from dino_speech.data.loading.loaders import CropLoader
from dino_speech.distributed import is_main_process, mean_across_ranks
from dino_speech.plain_data import plain
from dino_speech.received_files import read_bytes
from dino_speech.training.settings import RunSettings

logger = logging.getLogger(__name__)

MAX_DATA_WAIT = 0.05  # ours: of the time


class Progress:
    """A tqdm bar where stderr (or another stream) is a terminal, else one line per logged step."""

    def __init__(
        self, num_steps: int, *, start_step: int = 0, enabled: bool = True, stream: TextIO | None = None
    ) -> None:
        from tqdm import tqdm

        self._stream = sys.stderr if stream is None else stream
        self._enabled = enabled
        self._num_steps = num_steps
        options = {"file": self._stream, "disable": not (enabled and self._stream.isatty()), "dynamic_ncols": True}
        self._bar = tqdm(total=num_steps, initial=start_step, unit="step", **options)

    def advance(self) -> None:
        """One optimizer step is done."""
        self._bar.update(1)

    def show(self, row: Mapping[str, Any]) -> None:
        """Show a row of the history."""
        if not self._bar.disable:
            self._bar.set_postfix_str(describe(row), refresh=False)
        else:
            self.note(f"step {row['step']}/{self._num_steps}  {describe(row)}")

    def note(self, text: str) -> None:
        """Write a line without disturbing the bar."""
        if not self._bar.disable:
            self._bar.write(text, file=self._stream)
        elif self._enabled:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()


def describe(row: Mapping[str, Any]) -> str:
    """The figures of a logged step that tell how it goes, in one line.

    Example:
        >>> describe({"loss": 6.2, "teacher_entropy": 0.5, "utterances_per_s": 33.0, "data_wait_fraction": 0.02})
        'loss 6.200  entropy/lnK 0.500  33.0 utt/s  data wait 2 %'
    """
    shown = [
        f"{name} {row[key]:.3f}"
        for key, name in (("loss", "loss"), ("teacher_entropy", "entropy/lnK"), ("embedding_spread", "spread"))
        if key in row
    ]
    if "utterances_per_s" in row:
        shown += [f"{row['utterances_per_s']:.1f} utt/s", f"data wait {100 * row['data_wait_fraction']:.0f} %"]
    return "  ".join(shown)


class Stopwatch:
    """Utterances per second and the share of time spent waiting for data; pauses (saving, monitoring) do not count."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._paused_s = 0.0
        self._wait_s = 0.0
        self._utterances = 0
        self.started = self._start

    @property
    def elapsed_s(self) -> float:
        """Seconds since the stopwatch was made, pauses included."""
        return time.perf_counter() - self.started

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time spent inside."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._paused_s += time.perf_counter() - start

    def count(self, num_utterances: int) -> None:
        """So many utterances were trained on."""
        self._utterances += num_utterances

    def lap(self, wait_s: float) -> dict[str, float]:
        """Figures since the last lap, of `wait_s` seconds waited for data since training began."""
        now = time.perf_counter()
        seconds = max(now - self._start - self._paused_s, 1e-9)
        figures = {
            "utterances_per_s": round(self._utterances / seconds, 2),
            "data_wait_fraction": round(min(1.0, max(0.0, wait_s - self._wait_s) / seconds), 4),
        }
        self._start, self._paused_s, self._wait_s, self._utterances = now, 0.0, wait_s, 0
        return figures


def advise_on_waiting(row: Mapping[str, Any], num_workers: int, cache_gib: float) -> bool:
    """Say so where the training waits for its data; whether it does."""
    waits: bool = row["data_wait_fraction"] > MAX_DATA_WAIT
    if waits:
        logger.warning(
            "training waits for data %.0f %% of the time: raise num_workers (now %d) where cores are free, raise "
            "cache_gib (now %g) until the corpus fits, or write the corpus to a local disk as shards "
            "(dino-speech shard MANIFEST --output DIR, then train_manifest: DIR/manifest.csv)",
            *(100 * row["data_wait_fraction"], num_workers, cache_gib),
        )
    return waits


class History:
    """Rows of figures in `history.jsonl` and `tensorboard/`, where enabled (on the main process).

    None are kept in memory: a run may be long. Those of steps after `start_step` are dropped: a resumed run takes these
    steps again.
    """

    def __init__(self, folder: Path, *, start_step: int = 0, enabled: bool = True) -> None:
        self._path = folder / "history.jsonl"
        self._enabled = enabled
        if enabled:
            before = self.rows if self._path.exists() and start_step else []
            kept = [row for row in before if row["step"] <= start_step]
            text = "".join(json.dumps(row) + "\n" for row in kept)
            write_atomically(self._path, lambda file: file.write(text.encode()))
        with writing(folder / "tensorboard"):
            self._writer = _tensorboard(folder / "tensorboard", start_step) if enabled else None

    def add(self, row: dict[str, Any]) -> None:
        """Append a row; nested figures are named `group/figure` in TensorBoard. What is not finite becomes None."""
        if not self._enabled:
            return
        row = plain(row)
        with writing(self._path):
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            if self._writer is not None:
                for name, value in _scalars(row):
                    self._writer.add_scalar(name, value, row["step"])

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All rows so far, read back."""
        return read_history(self._path)

    def close(self) -> None:
        """Write out what TensorBoard still holds."""
        if self._writer is not None:
            with suppress(OSError):  # on a full disk; history.jsonl holds the same
                self._writer.close()


class Logbook:
    """Figures of the steps, for the history, a bar or lines, and TensorBoard; only the main process writes."""

    def __init__(self, run: RunSettings, folder: Path, step: int, num_steps: int) -> None:
        self.run = run
        self.history = History(folder, start_step=step, enabled=is_main_process())
        self.progress = Progress(num_steps, start_step=step, enabled=is_main_process())
        self.watch = Stopwatch()
        self.sums: dict[str, Tensor] = {}
        self.num_summed = 0
        self._num_rows, self._advised = 0, False

    def add(self, figures: Mapping[str, Tensor], *, times: int = 1) -> None:
        """Add 0-d figures to those since the last row, which holds their means."""
        for name, value in figures.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.detach().float()
        self.num_summed += times

    def means(self) -> dict[str, Tensor]:
        """Means since the last time, over all processes: 0-d, float64, on the CPU."""
        totals = mean_across_ranks(torch.stack([*self.sums.values()]))
        means = dict(zip(self.sums, totals.cpu().double() / self.num_summed, strict=True))
        self.sums, self.num_summed = {}, 0
        return means

    def write(self, row: Mapping[str, Any], loader: CropLoader) -> None:
        """A row of figures; speed and time come to it."""
        row = {**row, **self.watch.lap(loader.wait_s), "seconds": round(self.watch.elapsed_s, 2)}
        self.history.add(row)
        self.progress.show(row)
        self._num_rows += 1
        if self._num_rows > 1 and not self._advised:  # not for the first row, in which the workers begin
            self._advised = advise_on_waiting(row, loader.num_workers, self.run.cache_gib)

    def notes(self) -> dict[str, Any]:
        """What the next row begins with, as plain data."""
        return {"sums": {name: float(value) for name, value in self.sums.items()}, "num_summed": self.num_summed}

    def load_notes(self, notes: Mapping[str, Any], device: torch.device) -> None:
        """The reverse."""
        self.sums = {name: torch.tensor(value, device=device) for name, value in notes["sums"].items()}
        self.num_summed = notes["num_summed"]

    def close(self) -> None:
        """Write out what is still held."""
        self.progress.close()
        self.history.close()


def read_history(path: Path) -> list[dict[str, Any]]:
    """The rows of a `history.jsonl`; a last line that a killed process left unfinished is left out."""
    rows = []
    for line in read_bytes(path).decode("utf-8", "replace").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


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
