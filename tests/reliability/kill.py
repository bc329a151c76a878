"""Kill work again and again, at random moments: `python tests/reliability/kill.py --num-kills 50 [--what embed shard]`.

Each kind of work is done once in peace. Then it is begun in a process of its own, killed (-9) after a random time and
begun again, until it is done; and so anew, in other folders, until there were `--num-kills` kills of the kind. After
each kill everything that is finished on disk must be whole, and what was finished before must still be there. In the
end all numbers must be those of the work in peace: the largest difference is exactly 0.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from works import WORKS, Work, finished, largest_difference, make_speech, missing_or_changed, results


def begin(work: Work, speech: Path, output: Path) -> int:
    """The number of a new process that does the work, with all modules imported; it logs to a file."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        log = os.open(output.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        work.do(speech, output)
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def killed_after(child: int, seconds: float) -> bool:
    """Whether the process was killed; false where it had ended well before. RuntimeError: it had failed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if status:
                raise RuntimeError(f"failed by itself, with the status {status}")
            return False
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def torment(work: Work, speech: Path, home: Path, num_kills: int, rng: np.random.Generator) -> tuple[int, float]:
    """How many runs so many kills were spread over, and the largest difference of all of them to a run in peace.

    Raises:
        RuntimeError: something finished was lost or half-written, or a run failed by itself.
    """
    started = time.monotonic()
    work.do(speech, home / "quiet")
    span_s, wanted = (time.monotonic() - started) / 2, results(home / "quiet")
    kills, runs, largest = 0, 0, 0.0
    while kills < num_kills:
        runs += 1
        output, before = home / str(runs), {}
        while kills < num_kills and killed_after(begin(work, speech, output), rng.uniform(0.0, span_s)):
            kills += 1
            after = finished(output) if output.exists() else {}
            if lost := missing_or_changed(before, after):
                raise RuntimeError(f"lost by kill {kills}: {lost}")
            span_s *= 1.2 if before == after else 1.0  # it must outlast the beginning
            before = after
        span_s *= 0.7 if kills < num_kills else 1.0
        killed_after(begin(work, speech, output), 3_600)
        if lost := missing_or_changed(before, finished(output)):
            raise RuntimeError(f"lost after the last kill: {lost}")
        if left := [path for path in output.rglob(".*") if path.is_file()]:
            raise RuntimeError(f"left behind: {left}")
        largest = max(largest, largest_difference(wanted, results(output)))
        shutil.rmtree(output)
    return runs, largest


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", choices=[work.name for work in WORKS], help="kinds of work; else all")
    parser.add_argument("--num-kills", type=int, default=10, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    home = Path(tempfile.mkdtemp())
    speech, worst = make_speech(home / "speech"), 0.0
    for work in WORKS:
        if options.what and work.name not in options.what:
            continue
        place, rng = home / work.name, np.random.default_rng([options.seed, len(work.name)])
        place.mkdir()
        started = time.monotonic()
        runs, largest = torment(work, speech, place, options.num_kills, rng)
        took = time.monotonic() - started
        print(
            f"{work.name:14s} {options.num_kills} kills in {runs} runs, difference {largest:g}  {took:.0f} s",
            flush=True,
        )
        worst = max(worst, largest)
        shutil.rmtree(place)
    shutil.rmtree(home)
    return int(worst > 0)


if __name__ == "__main__":
    sys.exit(main())
