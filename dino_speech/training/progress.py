"""What a person sees while it trains: a bar on a terminal, plain lines elsewhere, on stderr of the main process."""

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

logger = logging.getLogger(__name__)

MAX_DATA_WAIT = 0.05  # ours: of the time


class Progress:
    """A tqdm bar where stderr is a terminal, else one line per logged step.

    Args:
        num_steps: optimizer steps of the whole run.
        start_step: steps done before.
        enabled: False shows nothing.
        stream: where to write; None: stderr.
    """

    def __init__(
        self, num_steps: int, *, start_step: int = 0, enabled: bool = True, stream: TextIO | None = None
    ) -> None:
        from tqdm import tqdm

        self._stream = sys.stderr if stream is None else stream
        self._enabled = enabled
        self._num_steps = num_steps
        terminal = enabled and self._stream.isatty()
        self._bar = tqdm(
            total=num_steps,
            initial=start_step,
            file=self._stream,
            disable=not terminal,
            unit="step",
            dynamic_ncols=True,
        )

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
        """Figures since the last lap.

        Args:
            wait_s: seconds waited for data since training began.
        """
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
