"""What a run asks of the operating system: to stop it only after a state is saved, and to leave it freed memory.

A training step on a CPU frees all its activations, glibc hands what lies on top of its heap back to the system, and the
next step asks for it again, page by page: about a tenth of a step's time. Here it is told to keep it. Peak memory stays
what it is, since the next step needs as much.
"""

import contextlib
import ctypes
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

logger = logging.getLogger(__name__)

# SIGUSR1 is what clusters send some minutes ahead of a job's end; Windows has none.
STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


class Interrupted(SystemExit):
    """Raised by `fit` after the signal `signum`, with the state saved after `step`; the same call goes on from there.

    As a `SystemExit` it ends a script with the shell's usual exit code for the signal (130 for SIGINT, 143 for
    SIGTERM, 138 for SIGUSR1) and without a traceback, and is not swallowed by `except Exception`.
    """

    def __init__(self, signum: int, step: int) -> None:
        super().__init__(128 + signum)
        self.signum, self.step = signum, step

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.signum).name} after step {self.step}; the state is saved"


class StopSignals:
    """Context in which SIGINT, SIGTERM and SIGUSR1 only leave a note; a second SIGINT stops at once.

    Outside the main thread Python delivers no signals, and the context does nothing.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in STOPPING}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = signum
        logger.warning("%s: finishing this step, then saving", signal.Signals(signum).name)


# Names of <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
# Afterwards: glibc's default number of maps, and the limits at which its own adaptation to a program ends.
_AFTERWARDS = {_M_MMAP_MAX: 65_536, _M_MMAP_THRESHOLD: 32 * 2**20, _M_TRIM_THRESHOLD: 64 * 2**20}
_NEVER = 2**31 - 1


@contextlib.contextmanager
def freed_memory_kept(*, on: bool = True) -> Iterator[bool]:
    """Within, freed memory is kept for reuse, afterwards it goes back; yields whether it works (`on`, Linux, glibc)."""
    library = _glibc() if on else None
    if library is None:
        yield False
        return
    library.mallopt(_M_MMAP_MAX, 0)
    library.mallopt(_M_TRIM_THRESHOLD, _NEVER)
    try:
        yield True
    finally:
        for name, value in _AFTERWARDS.items():
            library.mallopt(name, value)
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
