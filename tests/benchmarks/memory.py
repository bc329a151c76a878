"""Peak memory of one case in a process of its own, so that no other case's memory counts as its own."""

import gc
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

MEMORY_OF = "--memory-of"  # hidden option of each script: run one case, and print what it takes


def peak_memories(script: str, cases: Iterable[str], arguments: Sequence[str]) -> dict[str, dict[str, float]]:
    """MiB of each case in a fresh process: once it is built (`built_mib`), and at its peak (`peak_mib`).

    Args:
        script: the benchmark's `__file__`, which answers `--memory-of CASE` by `print_memory`.
        cases: their names.
        arguments: the words of the command line that the cases depend on.
    """
    found = {}
    for case in cases:
        found[case] = in_fresh_process(script, [*arguments, MEMORY_OF, case])
    return found


def in_fresh_process(script: str, words: Sequence[str]) -> Any:
    """What a script prints as its last line, JSON, when a process of its own runs it with these words."""
    done = subprocess.run([sys.executable, script, *words], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def print_memory(case: Callable[[], object], device: str = "cpu", *, rounds: int = 3) -> None:
    """What `peak_memories` reads."""
    print(json.dumps(measure_memory(case, device, rounds=rounds)))


def measure_memory(case: Callable[[], object], device: str = "cpu", *, rounds: int = 3) -> dict[str, float]:
    """Of this process (Linux), or of its part of the GPU."""
    if device.startswith("cuda"):
        built = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        for _ in range(rounds):
            case()
        return {"built_mib": built / 2**20, "peak_mib": torch.cuda.max_memory_allocated() / 2**20}
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of building
    built = _status("VmRSS")
    for _ in range(rounds):
        case()
    return {"built_mib": built, "peak_mib": _status("VmHWM")}


def _status(name: str) -> float:
    """A line of `/proc/self/status`, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def rows(found: dict[str, Any]) -> list[str]:
    """A Markdown table of `time_ms` and `memory_mib`, as all benchmarks give them."""
    times, memories = found.get("time_ms", {}), found.get("memory_mib", {})
    lines = ["| Case | Median ms | Quartiles | Best | Processor | Peak MiB, of which built |", "|" + "---|" * 6]
    for name in dict.fromkeys([*times, *memories]):
        time, memory = times.get(name), memories.get(name)
        keys = ("median_ms", "low_ms", "high_ms", "best_ms", "processor_ms")
        median, low, high, best, processor = (_shown(time[key]) if time and key in time else "" for key in keys)
        cells = [median, f"{low} to {high}" if low else "", best, processor]
        cells.append(f"{memory['peak_mib']:.0f}, {memory.get('built_mib', 0):.0f}" if memory else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
