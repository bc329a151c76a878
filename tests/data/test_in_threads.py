"""Work in threads: answers in order, errors where they belong, and nothing begun that nobody waits for."""

import io
import sys
import threading
import time
from pathlib import Path

import pytest

from dino_speech.data.in_threads import AHEAD, in_order, watched
from dino_speech.data.manifest import scan_folder


def test_answers_come_in_order_from_several_threads() -> None:
    together = threading.Barrier(3, timeout=10)

    def square(number: int) -> int:
        if number < 3:
            together.wait()  # only passed where three are at work
        time.sleep(0.01 * (number % 3 == 0))
        return number**2

    assert list(in_order(square, range(50), 3)) == [number**2 for number in range(50)]


def test_only_some_are_begun_ahead() -> None:
    begun: list[int] = []
    answers = in_order(begun.append, range(1_000), 2)
    next(answers)
    answers.close()
    assert len(begun) <= AHEAD * 2 + 1


def test_an_error_comes_in_its_place() -> None:
    answers = in_order(lambda number: 1 // (number - 2), range(5), 1)
    assert [next(answers), next(answers)] == [-1, -1]
    with pytest.raises(ZeroDivisionError):
        next(answers)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_where_somebody_watches_also_while_headers_are_read(
    voices_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        num_files = len(scan_folder(voices_folder))
        assert (f"/{num_files} " in stream.getvalue()) == shown
        assert list(watched(iter("abc"), 3, "letters")) == list("abc")
        assert ("letters" in stream.getvalue()) == shown
