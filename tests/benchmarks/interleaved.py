"""Timing of alternatives on a machine that others use too: all cases take turns, so that a busy minute hits each."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one case over all rounds; low and high are the quartiles."""

    median_ms: float
    low_ms: float
    high_ms: float
    best_ms: float

    def __str__(self) -> str:
        return f"{self.median_ms:8.2f} ms  (quartiles {self.low_ms:.2f} to {self.high_ms:.2f}, best {self.best_ms:.2f})"


def time_interleaved(
    cases: Mapping[str, Callable[[], object]], *, rounds: int = 30, warmup: int = 3
) -> dict[str, Timing]:
    """Run each case once per round, in turn; the first `warmup` rounds do not count."""
    samples: dict[str, list[float]] = {name: [] for name in cases}
    gc.collect()
    gc.disable()
    try:
        for number in range(warmup + rounds):
            for name, case in cases.items():
                _wait()
                start = time.perf_counter()
                case()
                _wait()
                if number >= warmup:
                    samples[name].append(1e3 * (time.perf_counter() - start))
    finally:
        gc.enable()
    return {name: _summary(values) for name, values in samples.items()}


def _summary(values: list[float]) -> Timing:
    low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return Timing(median_ms=median, low_ms=low, high_ms=high, best_ms=min(values))


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
