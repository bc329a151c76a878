"""Three real processes over gloo: one is slow, killed, stopped, or hangs; the others wait, or end and say which.

One program forks them all, since it is importing that takes the time.
"""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from dino_speech.errors import InputError
from dino_speech.roll_call import patience

PATIENCE_S = 4.0
SPARE_S = 60.0  # on a busy machine even the end of a Python takes its time

PROGRAM = """
    import json, os, signal, socket, sys, time
    import torch
    from dino_speech.distributed import join_processes
    from dino_speech.roll_call import ProcessLost
    from dino_speech.training.processes import Processes

    def work(number, bad, how):
        processes = Processes()
        try:
            assert processes.gather(number) == [0, 1, 2]
            assert processes.from_main(lambda: 7) == 7
            for turn in range(6):
                with processes.uneven():
                    if turn == 3 and number == bad:
                        print("at", time.time(), flush=True)
                        time.sleep(1.5 * PATIENCE if how == "slow" else 0)
                if turn == 3 and number == bad:
                    if how == "hang":
                        time.sleep(1000)
                    if how != "slow":
                        os.kill(os.getpid(), getattr(signal, how))
                assert processes.largest([turn, number]) == [turn, 2]
        except ProcessLost as error:
            print(f"lost {json.dumps([number, time.time(), str(error)])}\\n", end="", flush=True)  # in one write
            sys.exit(1)
        sys.exit()

    bad, how = int(sys.argv[1]), sys.argv[2]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pids = []
    for number in range(3):
        pids.append(os.fork())
        if not pids[-1]:
            rank = {"RANK": number, "WORLD_SIZE": 3, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            os.environ |= {key: str(value) for key, value in rank.items()}
            torch.set_num_threads(1)
            join_processes("cpu")
            work(number, bad, how)
    codes = {}
    while len(codes) < 3:
        pid, status = os.wait()
        codes[pid] = os.waitstatus_to_exitcode(status)
        if how == "SIGSTOP" and set(pids) - set(codes) == {pids[bad]}:
            os.kill(pids[bad], signal.SIGKILL)
    print("codes", json.dumps([codes[pid] for pid in pids]))
"""


def run(bad: int, how: str) -> dict[str, list[Any]]:
    """What was printed, by its first word."""
    program = textwrap.dedent(PROGRAM).replace("PATIENCE", str(PATIENCE_S))
    own = {"PYTHONPATH": str(Path(__file__).parents[1]), "DINO_SPEECH_PATIENCE_MINUTES": str(PATIENCE_S / 60)}
    command = [sys.executable, "-c", program, str(bad), how]
    done = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, list[Any]] = {"lost": []}
    for line in done.stdout.splitlines():
        word, _, rest = line.partition(" ")
        found.setdefault(word, []).append(json.loads(rest))
    return found


@pytest.mark.slow
def test_one_that_works_for_longer_than_the_patience_is_waited_for() -> None:
    found = run(1, "slow")
    assert found["codes"] == [[0, 0, 0]]
    assert found["lost"] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bad", "how", "line", "after_s"),
    [
        (1, "SIGKILL", "lost rank 1 (", 4.0),
        (2, "SIGSTOP", "lost rank 2 (", PATIENCE_S + 4.0),
        (0, "hang", "behind is rank 0 (", PATIENCE_S),
    ],
)
def test_one_that_is_lost_is_named_by_all_others(bad: int, how: str, line: str, after_s: float) -> None:
    found = run(bad, how)
    ((at,),) = [found["at"]]
    assert {number for number, _, _ in found["lost"]} == {0, 1, 2} - {bad}
    for _, ended, text in found["lost"]:
        assert line in text
        assert text.count("rank") == 1
        assert "the same command goes on" in text
        print(f"{how}: named after {ended - at:.1f} s")
        assert ended - at < after_s + SPARE_S
    (codes,) = found["codes"]
    assert [code != 0 for code in codes] == [True, True, True]


@pytest.mark.parametrize("given", ["0", "-3", "soon", "nan", "inf"])
def test_a_patience_that_is_none_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINO_SPEECH_PATIENCE_MINUTES", given)
    with pytest.raises(InputError, match="expected a positive number of minutes"):
        patience()
