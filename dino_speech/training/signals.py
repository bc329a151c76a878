"""Stopping a run from outside: after Ctrl-C or a scheduler's SIGTERM or SIGUSR1 the state is saved first."""

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

logger = logging.getLogger(__name__)

# SIGUSR1 is what clusters send some minutes ahead of a job's end; Windows has none.
STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


class Interrupted(SystemExit):
    """Raised by `fit` after a signal, when the state is saved; the same call again goes on from there.

    As a `SystemExit` it ends a script with the shell's usual exit code for the signal (130 for SIGINT, 143 for
    SIGTERM, 138 for SIGUSR1) and without a traceback, and is not swallowed by `except Exception`.

    Attributes:
        signum: the signal.
        step: optimizer steps done.
    """

    def __init__(self, signum: int, step: int) -> None:
        super().__init__(128 + signum)
        self.signum, self.step = signum, step

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.signum).name} after step {self.step}; the state is saved"


class StopSignals:
    """Context in which SIGINT, SIGTERM and SIGUSR1 only leave a note; a second SIGINT stops at once.

    Outside the main thread Python delivers no signals, and the context does nothing.

    Attributes:
        signum: the signal that arrived, else None.
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
