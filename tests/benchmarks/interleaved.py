"""Timing of alternatives on a machine that others use too: all cases take turns, so that a busy minute hits each."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one case over all rounds; low and high are the quartiles.

    `processor_ms` is the median of the processor time of all threads. With one thread it is what the work costs,
    whoever else is on the machine; with more, it counts their waiting for each other too.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    best_ms: float
    processor_ms: float

    def __str__(self) -> str:
        spread = f"(quartiles {self.low_ms:.2f} to {self.high_ms:.2f}, best {self.best_ms:.2f})"
        return f"{self.median_ms:8.2f} ms  {spread}, processor {self.processor_ms:.2f}"


def time_interleaved(
    cases: Mapping[str, Callable[[], object]], *, rounds: int = 30, warmup: int = 3
) -> dict[str, Timing]:
    """Run each case once per round, in turn; the first `warmup` rounds do not count."""
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    gc.collect()
    gc.disable()
    try:
        for number in range(warmup + rounds):
            for name, case in cases.items():
                _wait()
                start, used = time.perf_counter(), time.process_time()
                case()
                _wait()
                if number >= warmup:
                    samples[name].append((1e3 * (time.perf_counter() - start), 1e3 * (time.process_time() - used)))
    finally:
        gc.enable()
    return {name: _summary(values) for name, values in samples.items()}


def _summary(pairs: list[tuple[float, float]]) -> Timing:
    values, used = zip(*pairs, strict=True)
    low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return Timing(low_ms=low, median_ms=median, high_ms=high, best_ms=min(values), processor_ms=statistics.median(used))


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
