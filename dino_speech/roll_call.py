"""Which process is lost, where an exchange with the others fails or takes too long: found out, and said in one line.

Gloo and NCCL only tell that some connection was closed, or that time is up. So each process has a thread that answers
in the store where they met, whatever the rest of it waits for: who does not answer was killed or stopped, or its
machine is gone. The same thread ends a process that has heard of a loss and cannot end by itself, as where a GPU waits
for an exchange that never comes.
"""

import atexit
import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import torch.distributed as dist

from dino_speech.errors import InputError

logger = logging.getLogger(__name__)

PATIENCE = "DINO_SPEECH_PATIENCE_MINUTES"
LOOK_S = 1.0  # ours: between two looks at the store
ANSWER_S = 4.0  # ours: four looks
LEAVE_S = 10.0  # ours; torchrun kills 30 s after the first process failed


class ProcessLost(InputError):  # noqa: N818  (the log names it)
    """Another process does not answer any more, and this one has to end; what was saved is sound."""


def patience() -> timedelta:
    """For how long a process waits for another that shows no life: DINO_SPEECH_PATIENCE_MINUTES, without it 30."""
    given = os.environ.get(PATIENCE, "30")
    with contextlib.suppress(ValueError, OverflowError):
        if float(given) > 0:
            return timedelta(minutes=float(given))
    raise InputError(f"{PATIENCE}={given}: expected a positive number of minutes, such as 30")


def answer_roll_calls() -> None:
    """Let this process, one of several, answer from now on."""
    global _watch
    store = dist.distributed_c10d._get_default_store()
    if _watch is None or _watch.store is not store:
        _watch = _Watch(store)
        atexit.register(_watch.leave)


@contextlib.contextmanager
def naming_the_lost() -> Iterator[None]:
    """Around an exchange, or several: where it fails because of another process, the error says which.

    Raises:
        ProcessLost: so it is.
    """
    watch = _watch
    if watch is not None:
        watch.num_exchanges += 1
    try:
        yield
    except RuntimeError as error:
        if watch is None or not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise ProcessLost(watch.call()) from error


class _Watch:
    """Answers, and calls. In the store: `lost`, there was a call; `here/R`, an answer; `verdict`, what was found."""

    def __init__(self, store: dist.Store) -> None:
        self.store, self.rank, self.num_processes = store, dist.get_rank(), dist.get_world_size()
        self.num_exchanges = 0  # that this process came to
        self._over, self._lost = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._answer_calls, name="roll call", daemon=True)
        store.set(f"name/{self.rank}", f"{socket.gethostname()}, process {os.getpid()}")
        self._thread.start()

    def _answer_calls(self) -> None:
        """Look for a call; after one, give the process some time to end, then end it."""
        try:
            while not (self._lost.is_set() or self.store.check(["lost"])):
                if self._over.wait(LOOK_S):
                    return
            self._answer()
        except dist.DistError:  # the store is gone: then the exchange fails too, and tells
            return
        if not self._over.wait(ANSWER_S + LEAVE_S):
            with contextlib.suppress(dist.DistError):
                if self.store.check(["verdict"]):
                    logger.error("%s", self.store.get("verdict").decode())
            os._exit(1)  # whatever the other threads wait for; what is written is whole at any moment

    def leave(self) -> None:
        """No more answers, at this process's end; who holds the store goes last, or the others would complain."""
        if self._lost.is_set():
            return  # what is left to do at the end may wait for the lost one
        self._over.set()
        self._thread.join(LOOK_S)
        if self._thread.is_alive():
            return  # the store does not answer
        with contextlib.suppress(dist.DistError):
            gone = self.store.add("gone", 1)
            end = time.monotonic() + LEAVE_S
            while self.rank == 0 and gone < self.num_processes and time.monotonic() < end:
                time.sleep(0.02)
                gone = self.store.add("gone", 0)

    def call(self) -> str:
        """Call all, wait for their answers, and say who is lost."""
        self._lost.set()
        found: list[str] = []
        asking = threading.Thread(target=lambda: found.append(self._call()), daemon=True)
        asking.start()
        asking.join(3 * ANSWER_S)
        return found[0] if found else _loss(["rank 0, or the machine where all met"])

    def _answer(self) -> None:
        self.store.set(f"here/{self.rank}", str(self.num_exchanges))

    def _call(self) -> str:
        with contextlib.suppress(dist.DistError):
            self._answer()
            self.store.set("lost", "")
            end = time.monotonic() + ANSWER_S
            absent = list(range(self.num_processes))
            while absent and time.monotonic() < end:
                time.sleep(0.1)
                absent = [rank for rank in absent if not self.store.check([f"here/{rank}"])]
            if not self.store.check(["verdict"]):
                self.store.set("verdict", self._verdict(absent))
            return self.store.get("verdict").decode()
        return _loss(["rank 0, or the machine where all met"])

    def _verdict(self, absent: list[int]) -> str:
        if absent:
            return _loss([self._name(rank) for rank in absent])
        counts = [int(self.store.get(f"here/{rank}")) for rank in range(self.num_processes)]
        behind = ", ".join(self._name(rank) for rank, count in enumerate(counts) if count < max(counts))
        return (
            f"all processes live, and yet do not come together: behind is {behind or 'none'}, waited for up to "
            f"{patience().total_seconds() / 60:g} minutes ({PATIENCE}). It hangs, reads from a disk that does not "
            f"answer, or the network between them is broken; {CURE}"
        )

    def _name(self, rank: int) -> str:
        return f"rank {rank} ({self.store.get(f'name/{rank}').decode()})"


CURE = "what was saved is sound: end what is left, and the same command goes on from there"


def _loss(names: list[str]) -> str:
    return f"lost {', '.join(names)}: ended, killed (too little memory?), stopped, or its machine is gone; {CURE}"


_watch: _Watch | None = None
