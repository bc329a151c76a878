"""Three real processes over gloo: one is slow, killed, stopped, or hangs; the others wait, or end and say which."""

import os
import signal
import sys
import time
from pathlib import Path

import processes
import pytest

from dino_speech import roll_call
from dino_speech.distributed import join_processes
from dino_speech.errors import InputError
from dino_speech.roll_call import ProcessLost, patience
from dino_speech.training.processes import Processes

PATIENCE_S = 4.0
SPARE_S = 60.0  # on a busy machine even the end of a Python takes its time


def work(folder: Path, bad: int, how: str) -> None:
    """Six turns, in the fourth of which one of the three goes wrong; it says when in a file, the others in theirs."""
    if how == "hang":
        roll_call.LEAVE_S = 2.0
    join_processes("cpu")
    number, together = int(os.environ["RANK"]), Processes()
    try:
        assert together.gather(number) == [0, 1, 2]
        assert together.from_main(lambda: 7) == 7
        for turn in range(6):
            with together.uneven():
                if turn == 3 and number == bad:
                    (folder / "at").write_text(str(time.time()))
                    time.sleep(1.5 * PATIENCE_S if how == "slow" else 0)
            if turn == 3 and number == bad:
                if how == "hang":
                    time.sleep(1000)
                if how != "slow":
                    os.kill(os.getpid(), getattr(signal, how))
            assert together.largest([turn, number]) == [turn, 2]
    except ProcessLost as error:
        (folder / f"{number}.lost").write_text(f"{time.time()} {error}")
        sys.exit(1)


def run(folder: Path, bad: int, how: str) -> list[int | None]:
    """The exit codes of the three."""
    group = processes.begin_together(3, folder, work, folder, bad, how, DINO_SPEECH_PATIENCE_MINUTES=PATIENCE_S / 60)
    if how == "SIGSTOP":
        processes.ends(*(group[:bad] + group[bad + 1 :]))
        group[bad].kill()
    return processes.ends(*group)


@pytest.mark.slow
def test_one_that_works_for_longer_than_the_patience_is_waited_for(tmp_path: Path) -> None:
    assert run(tmp_path, 1, "slow") == [0, 0, 0]
    assert not list(tmp_path.glob("*.lost"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bad", "how", "line", "after_s"),
    [
        (1, "SIGKILL", "lost rank 1 (", 4.0),
        (2, "SIGSTOP", "lost rank 2 (", PATIENCE_S + 4.0),
        (0, "hang", "behind is rank 0 (", PATIENCE_S),
    ],
)
def test_one_that_is_lost_is_named_by_all_others(bad: int, how: str, line: str, after_s: float, tmp_path: Path) -> None:
    codes = run(tmp_path, bad, how)
    at = float((tmp_path / "at").read_text())
    lost = {int(path.stem): path.read_text().partition(" ") for path in tmp_path.glob("*.lost")}
    assert lost.keys() == {0, 1, 2} - {bad}
    for ended, _, text in lost.values():
        assert line in text
        assert text.count("rank") == 1
        assert "the same command goes on" in text
        print(f"{how}: named after {float(ended) - at:.1f} s")
        assert float(ended) - at < after_s + SPARE_S
    assert all(code != 0 for code in codes)


@pytest.mark.parametrize("given", ["0", "-3", "soon", "nan", "inf"])
def test_a_patience_that_is_none_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINO_SPEECH_PATIENCE_MINUTES", given)
    with pytest.raises(InputError, match="expected a positive number of minutes"):
        patience()
