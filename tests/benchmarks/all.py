"""All benchmarks, one after the other: one JSON file and one page of tables.

    python tests/benchmarks/all.py [--peer wespeaker=PATH] [--peer sslsv=PATH] [--peer lightly=PATH]
        [--output results/benchmarks] [--only step augment ...] [--quick] [--threads 2] [--device cuda]

Each runs in a process of its own, with `--json`; give it alone for its other options. `--quick` takes sizes at which
the figures mean nothing, to see that all runs. A benchmark that fails is listed, and the others go on.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from memory import rows

HERE = Path(__file__).parent
TINY_STEP = ["--batch", "4", "--channels", "32", "--embedding-dim", "32", "--num-prototypes", "256", "--long-s", "0.8"]
TINY_RUN = ["--num-files", "8", "--batch", "4", "--channels", "16", "--num-prototypes", "64", "--long-s", "0.6"]
# By name: what --quick adds. Those that know threads, a device, or peers say so below.
BENCHMARKS: dict[str, list[str]] = {
    "loss": ["--batch", "2", "--num-prototypes", "512", "--rounds", "2"],
    "step": [*TINY_STEP, "--short-s", "0.4", "--rounds", "2", "--warmup", "1", "--cases", "fp32"],
    "augment": ["--batch", "2", "--rounds", "2", "--long-s", "0.8", "--short-s", "0.4"],
    "features": ["--batch", "2", "--rounds", "2"],
    "reading": ["--rounds", "2"],
    "training": [*TINY_RUN, "--rounds", "1", "--min-steps", "4"],
    "embed": ["--num-files", "3", "--channels", "32", "--rounds", "1", "--longest-s", "3"],
    "embed_memory": ["--sizes", "50", "100", "--part-size", "50"],
    "metrics": ["--large", "50000", "--rounds", "2", "--resamples", "10"],
    "manifest": ["--sizes", "50", "100", "--num-workers", "1", "--num-batches", "2"],
    "trials": ["--sizes", "100", "200", "--utterances", "480", "--resamples", "5"],
    "long_run": ["--steps", "40", "--log-every", "2", "--save-every", "20", "--measure-every", "4", "--quiet"],
}
OF_MEMORY = ("embed_memory", "manifest", "trials", "long_run")  # so they measure it always, and take no threads
ON_DEVICE = ("loss", "step", "features", "training")
PEERS = {"step": ("wespeaker", "sslsv", "lightly"), "augment": ("sslsv",)}


def command(name: str, options: argparse.Namespace) -> list[str]:
    """The command line of one benchmark."""
    words = [sys.executable, str(HERE / f"bench_{name}.py"), "--json"]
    words += BENCHMARKS[name] if options.quick else []
    words += ["--no-memory"] if options.no_memory and name not in OF_MEMORY else []
    words += ["--threads", str(options.threads)] if options.threads and name not in OF_MEMORY else []
    words += ["--device", options.device] if options.device and name in ON_DEVICE else []
    words += ["--speechbrain"] if name == "metrics" and not options.quick else []
    for peer in options.peer:
        words += ["--peer", peer] if peer.partition("=")[0] in PEERS.get(name, ()) else []
    return words


def run(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """What one benchmark found, with its command and seconds; `error` if it failed."""
    words, start = command(name, options), time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True)
    shown = " ".join(["python", f"tests/benchmarks/bench_{name}.py", *words[2:]])
    record: dict[str, Any] = {"command": shown, "seconds": round(time.perf_counter() - start, 1)}
    if done.returncode:
        return record | {"error": done.stderr.strip().splitlines()[-1:] or ["killed"]}
    return record | json.loads(done.stdout.splitlines()[-1])


def page(found: dict[str, Any]) -> str:
    """Tables of all benchmarks, as Markdown."""
    machine = ", ".join(f"{name} {value}" for name, value in found["machine"].items())
    lines = [f"Machine: {machine}", ""]
    for name, result in found["benchmarks"].items():
        lines += [f"## {name}", "", f"`{result['command']}` ({result['seconds']:.0f} s)", ""]
        lines += [f"failed: {result['error'][0]}"] if "error" in result else rows(result)
        if "shards_over_memory" in result:
            lines += ["", f"A step from shards takes {result['shards_over_memory']['median']:.3f} of one from memory."]
        lines.append("")
    return "\n".join(lines)


def machine() -> dict[str, str]:
    """What ran."""
    models = [line.partition(":")[2].strip() for line in _cpu_info() if line.startswith("model name")]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    processor = f"{len(models)} x {models[0]}" if models else platform.processor()
    return {"processor": processor, "GPU": gpu, "torch": torch.__version__, "python": platform.python_version()}


def _cpu_info() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them, write and print what they found; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PATH", help="a checkout to compare with")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS))
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks"), help="gets .json and .md")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--no-memory", action="store_true")
    options = parser.parse_args(arguments)
    found: dict[str, Any] = {"machine": machine(), "benchmarks": {}}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        print(f"{name} ...", file=sys.stderr, flush=True)
        found["benchmarks"][name] = run(name, options)
        options.output.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n")
        options.output.with_suffix(".md").write_text(page(found))
    print(page(found))
    return int(any("error" in result for result in found["benchmarks"].values()))


if __name__ == "__main__":
    sys.exit(main())
