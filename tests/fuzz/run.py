"""Try very many damaged and hostile files: `python tests/fuzz/run.py --num-inputs 100000 [--only recipe.yaml]`.

Each input must be read, or end in a documented error, in at most `--seconds` and `--memory-gib`. What ends otherwise is
kept below `--output` with its traceback. `--guided 600` goes on for 600 seconds in all, guided by the code that inputs
reach, with atheris (`pip install atheris`).
"""

import argparse
import functools
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

if any(argument.startswith("--guided") for argument in sys.argv):
    try:
        import atheris
    except ImportError:
        sys.exit("--guided needs atheris, which has wheels for Linux: pip install atheris; without it: --num-inputs")

    watched = atheris.instrument_imports(include=["dino_speech", "yaml"])
else:
    watched = nullcontext()
with watched:
    from mutate import mutated
    from targets import DOCUMENTED, Target, make_targets


from dino_speech import registry


class TooSlowError(Exception):
    """An input took longer than it may."""


class Findings:
    """Inputs that ended otherwise, kept below a folder, one for each place in the code."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.places = folder, set[str]()

    def keep(self, target: Target, data: bytes, error: BaseException) -> None:
        """Write the input and the traceback, unless an input that failed in the same place is kept."""
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{target.name} {type(error).__name__} {frames[-1].filename}:{frames[-1].lineno}"
        if place in self.places:
            return
        self.places.add(place)
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{target.name.replace('/', '_')}_{zlib.crc32(data):08x}"
        (self.folder / name).write_bytes(data)
        (self.folder / f"{name}.txt").write_text("".join(traceback.format_exception(error)))


def verdict(target: Target, data: bytes, folder: Path, seconds: int = 10) -> str:
    """ "read", or the documented error's class; whatever else is raised goes on."""

    def stop(signum: int, frame: object) -> None:
        raise TooSlowError(f"more than {seconds} s")

    for kind in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(kind, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(30 * seconds)  # of waiting: a busy machine is not the input's fault
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(folder, data)
        return "read"
    except DOCUMENTED as error:
        return type(error).__name__
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)


def try_many(target: Target, folder: Path, findings: Findings, *, num_inputs: int, seed: int, seconds: int) -> Counter:
    """So many mutated inputs, drawn by the seed; how often each verdict came."""
    rng, counts = np.random.default_rng([seed, zlib.crc32(target.name.encode())]), Counter[str]()
    for number in range(num_inputs):
        if number % 200 == 0:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        data = mutated(target.seeds, target.words, rng)
        try:
            counts[verdict(target, data, folder, seconds)] += 1
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            counts["FAULT"] += 1
            findings.keep(target, data, error)
    return counts


def explore(target: Target, folder: Path, findings: Findings, *, run_s: int, seed: int, seconds: int) -> int:
    """Guided by coverage for so many seconds, in a process of its own, which libFuzzer ends; how many were found."""
    corpus, listed = folder / "corpus", folder / "places"
    corpus.mkdir(parents=True)
    for number, data in enumerate(target.seeds):
        (corpus / str(number)).write_bytes(data)
    words = "".join(f'"{"".join(f"{chr(92)}x{byte:02x}" for byte in word)}"\n' for word in target.words)
    (folder / "words").write_text(words)

    def one(data: bytes) -> None:
        try:
            verdict(target, data, folder, seconds)
        except BaseException as error:
            findings.keep(target, data, error)
            listed.write_text("\n".join(findings.places))

    process = os.fork()
    if process == 0:
        options = [f"-max_total_time={run_s}", f"-dict={folder / 'words'}", f"-seed={seed + 1}", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *options, "-verbosity=0", "-rss_limit_mb=0", str(corpus)], one)
        atheris.Fuzz()
    os.waitpid(process, 0)
    return len(listed.read_text().splitlines()) if listed.exists() else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-inputs", type=int, default=100_000, help="of all targets together")
    parser.add_argument("--guided", type=int, metavar="SECONDS", help="of all targets together, with atheris")
    parser.add_argument("--only", nargs="+", help="names of targets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=int, default=10, help="of the processor, for one input")
    parser.add_argument("--memory-gib", type=float, default=6.0, help="address space beyond what the libraries take")
    parser.add_argument("--output", type=Path, default=Path("results/fuzz"))
    options = parser.parse_args()
    registry.entry_points = functools.cache(registry.entry_points)  # half of the time to read a small encoder
    home = Path(tempfile.mkdtemp())
    targets = [target for target in make_targets(home) if not options.only or target.name in options.only]
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + int(options.memory_gib * 2**30),) * 2)
    started, findings, num_faults = time.perf_counter(), Findings(options.output), 0
    limits = {"seed": options.seed, "seconds": options.seconds}
    for number, target in enumerate(targets):
        folder, counts = home / f"target_{number}", Counter[str]()
        if options.guided:
            counts["FAULT"] = explore(target, folder, findings, run_s=options.guided // len(targets), **limits)
        else:
            num_inputs = options.num_inputs // len(targets)
            counts = try_many(target, folder, findings, num_inputs=num_inputs, **limits)
        num_faults += counts["FAULT"]
        print(f"{target.name:26s} {dict(counts)}  {time.perf_counter() - started:.0f} s", flush=True)
    shutil.rmtree(home)
    print(f"{len(targets)} targets, {num_faults} faults")
    return int(num_faults > 0)


if __name__ == "__main__":
    sys.exit(main())
