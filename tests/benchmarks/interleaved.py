"""Timing of alternatives on a machine that others use too: all cases take turns, so that a busy minute hits each."""

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from memory import MEMORY_OF, peak_memories, print_memory, rows

from dino_speech.training.operating_system import freed_memory_kept


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

    def divided(self, number: int) -> dict[str, float]:
        """As plain data, for one of the `number` units that a call works on."""
        return {name: value / number for name, value in asdict(self).items()}

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
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return Timing(low_ms=low, median_ms=median, high_ms=high, best_ms=min(values), processor_ms=statistics.median(used))


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def run_benchmark(
    script: str,
    description: str | None,
    add_options: Callable[[argparse.ArgumentParser], None],
    build_cases: Callable[[argparse.Namespace], Mapping[str, Callable[[], object]]],
    *,
    arguments: Sequence[str] | None = None,
    per: Callable[[argparse.Namespace], int] = lambda options: 1,
    rounds: int = 15,
) -> dict[str, Any]:
    """A whole benchmark of cases that take turns: options, times, peak memory of each case, table, JSON.

    Args:
        script: its `__file__`.
        description: its docstring.
        add_options: declares its own options; `--rounds`, `--threads`, `--no-memory`, `--json` are declared here.
        build_cases: the cases by name, ready to call.
        arguments: the words of the command line; None: this process's own.
        per: how many utterances (or other units) one call works on; times are given for one.
        rounds: default of `--rounds`.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    add_common_options(parser, rounds=rounds)
    options = parser.parse_args(words)
    torch.set_num_threads(options.threads)
    if options.memory_of:
        print_memory(build_cases(options)[options.memory_of], getattr(options, "device", "cpu"))
        return {}
    cases = build_cases(options)
    with freed_memory_kept(on=options.keep_memory):
        timings = time_interleaved(cases, rounds=options.rounds)
    found = {
        "setting": {name: value for name, value in vars(options).items() if name != "memory_of"},
        "time_ms": {name: timing.divided(per(options)) for name, timing in timings.items()},
        "memory_mib": {} if options.no_memory else peak_memories(script, cases, words),
    }
    finish(found, as_json=options.json)
    return found


def add_common_options(parser: argparse.ArgumentParser, *, rounds: int) -> None:
    """The options that all benchmarks share."""
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep-memory", action="store_true", help="all cases keep freed memory, as training does")
    parser.add_argument("--no-memory", action="store_true", help="do not measure memory")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument(MEMORY_OF, help=argparse.SUPPRESS)


def finish(found: dict[str, Any], *, as_json: bool) -> None:
    """Print what was found, as a table and, if asked for, as JSON."""
    found["setting"] |= {"torch": torch.__version__}
    print("\n".join(rows(found)))
    if as_json:
        print(json.dumps(found, default=str))
