"""Try very many damaged and hostile files: `python tests/fuzz/run.py --num-inputs 100000 [--only recipe] [--atheris]`.

Each input must be read, or end in a documented error, in at most `--seconds` and `--memory-gib`. What ends otherwise is
kept below `--output` with its traceback. With `--atheris` one target is explored guided by coverage instead.
"""

import argparse
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from mutate import mutated
from targets import DOCUMENTED, Target, make_targets


class TooSlowError(Exception):
    """An input took longer than it may."""


def verdict(target: Target, data: bytes, folder: Path, seconds: int = 10) -> str:
    """ "read", or the documented error's class; whatever else is raised goes on."""

    def stop(signum: int, frame: object) -> None:
        raise TooSlowError(f"more than {seconds} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(folder, data)
        return "read"
    except DOCUMENTED as error:
        return type(error).__name__
    finally:
        signal.alarm(0)


def explore(target: Target, folder: Path, seconds: int) -> None:
    """Guided by coverage, until stopped."""
    import atheris

    atheris.instrument_all()

    def one(data: bytes) -> None:
        verdict(target, data, folder, seconds)

    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(target.seeds):
        (corpus / str(number)).write_bytes(seed)
    atheris.Setup([sys.argv[0], str(corpus), *sys.argv[sys.argv.index("--") + 1 :]], one)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-inputs", type=int, default=100_000, help="of all targets together")
    parser.add_argument("--only", nargs="+", help="names of targets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=int, default=10, help="for one input")
    parser.add_argument("--memory-gib", type=float, default=6.0, help="address space beyond what the libraries take")
    parser.add_argument("--output", type=Path, default=Path("results/fuzz"))
    parser.add_argument("--atheris", action="store_true", help="guided by coverage; its own options follow --")
    options = parser.parse_args(sys.argv[1 : sys.argv.index("--")] if "--" in sys.argv else None)
    home = Path(tempfile.mkdtemp())
    targets = [target for target in make_targets(home) if not options.only or target.name in options.only]
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + int(options.memory_gib * 2**30),) * 2)
    if options.atheris:
        explore(targets[0], home, options.seconds)
        return 0
    started, faults = time.perf_counter(), 0
    for target in targets:
        rng, counts, folder = (
            np.random.default_rng([options.seed, len(target.name)]),
            Counter[str](),
            home / target.name,
        )
        for number in range(options.num_inputs // len(targets)):
            if number % 200 == 0:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
            data = mutated(target.seeds, target.words, rng)
            try:
                counts[verdict(target, data, folder, options.seconds)] += 1
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                counts["FAULT"] += 1
                faults += 1
                options.output.mkdir(parents=True, exist_ok=True)
                (options.output / f"{target.name}_{number}").write_bytes(data)
                (options.output / f"{target.name}_{number}.txt").write_text(traceback.format_exc())
        print(f"{target.name:13s} {dict(counts)}  {time.perf_counter() - started:.0f} s", flush=True)
    shutil.rmtree(home)
    print(f"{options.num_inputs // len(targets) * len(targets)} inputs, {faults} faults")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
