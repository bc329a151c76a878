"""Processes that tests start and kill, forked from one that has imported what they need: importing takes seconds.

That one is multiprocessing's fork server. It runs nothing itself: what is forked from it is as a new Python would be.
"""

import atexit
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
OURS = ("recipe", "cli.main", "dino.pretrain", "transfer.finetune", "embedding.to_disk", "evaluation.monitor")
THEIRS = ("pytest", "torchaudio", "sklearn.linear_model", "speechbrain.lobes.models.ECAPA_TDNN")
CONTEXT.set_forkserver_preload([*(f"dino_speech.{name}" for name in OURS), *THEIRS])
WITHIN_S = 250.0  # under the limit of one test, on a machine however busy


def begin(log: Path, function: Callable[..., object], *arguments: object, **environment: object) -> BaseProcess:
    """Start `function(*arguments)` in a process with more in its environment, and what it says in a file."""
    process = CONTEXT.Process(target=_run, args=(log, environment, function, arguments))
    process.start()
    return process


def begin_together(
    size: int, logs: Path, function: Callable[..., object], *arguments: object, **environment: object
) -> list[BaseProcess]:
    """So many that find each other, as torchrun would start them; each says what it says in `logs`, `<rank>.log`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    logs.mkdir(parents=True, exist_ok=True)
    world = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        begin(logs / f"{rank}.log", function, *arguments, **environment, **world, RANK=rank, LOCAL_RANK=rank)
        for rank in range(size)
    ]


def wait_until(condition: Callable[[], object], *processes: BaseProcess) -> None:
    """Until it holds; an error where one of the processes ends before."""
    end = time.monotonic() + WITHIN_S
    while not condition():
        assert all(process.exitcode is None for process in processes), "ended too early"
        assert time.monotonic() < end
        time.sleep(0.005)


def ends(*processes: BaseProcess) -> list[int | None]:
    """The exit codes: minus the signal of one that was killed, None for one that had to be killed here."""
    for process in processes:
        process.join(WITHIN_S)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return codes


def stop() -> None:
    """End what is left and wait for the one that all were forked from, which writes down what coverage counted."""
    for process in multiprocessing.active_children():
        process.kill()
        process.join()
    forkserver._forkserver._stop()


def _run(log: Path, environment: dict[str, object], function: Callable[..., object], arguments: tuple) -> None:
    multiprocessing.set_start_method(None, force=True)  # else its own reading processes were forked otherwise
    os.environ |= {name: str(value) for name, value in environment.items()}
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1), os.dup2(descriptor, 2)
    try:
        sys.exit(function(*arguments))
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out, unlike any other end of a Python
