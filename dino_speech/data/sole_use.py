"""One process at a time writes into a folder: a lock that dies with its process, however that ends."""

import contextlib
import functools
import inspect
import logging
import os
import socket
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import ParamSpec, TypeVar

from dino_speech.data.atomic import clear_unfinished, writing
from dino_speech.distributed import is_main_process
from dino_speech.errors import InputError

logger = logging.getLogger(__name__)

P = ParamSpec("P")
Result = TypeVar("Result")
LOCK = ".lock"
_held: set[Path] = set()  # by this process, which the system would let have a lock twice


@contextlib.contextmanager
def sole_use(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Within, no other process has `folder`, which is made, and freed of what killed processes left unfinished.

    Of several processes that work together the main one holds the lock. Where a file system has no locks, a warning
    says so. Windows has none here.

    Raises:
        InputError: another process has it, named by its number, host and start; or the folder cannot be made.
    """
    # Under torchrun a process may not have joined the others yet.
    if os.environ.get("RANK", "0") != "0" or not is_main_process():
        yield
        return
    place = Path(folder).absolute()
    if place in _held:
        raise _refusal(place, "this very process")
    if place.exists() and not place.is_dir():
        raise InputError(f"{place} is a file; give an output folder that does not exist yet")
    made = not place.exists()
    with writing(place):
        place.mkdir(parents=True, exist_ok=True)
        descriptor = _lock(place)
    _held.add(place)
    try:
        clear_unfinished(place)
        yield
    finally:
        _held.discard(place)
        with contextlib.suppress(OSError):
            (place / LOCK).unlink(missing_ok=True)
            if made:
                place.rmdir()  # where nothing came of it
        os.close(descriptor)


def alone(argument: str = "output_folder") -> Callable[[Callable[P, Result]], Callable[P, Result]]:
    """Decorates what has the folder of an argument to itself, from its first line to its last."""

    def decorate(function: Callable[P, Result]) -> Callable[P, Result]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def guarded(*args: P.args, **options: P.kwargs) -> Result:
            with sole_use(signature.bind(*args, **options).arguments[argument]):
                return function(*args, **options)

        return guarded

    return decorate


def _lock(folder: Path) -> int:
    """The descriptor of the lock file, locked where that can be had."""
    try:
        import fcntl
    except ImportError:
        return os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    while True:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            # Not flock: that would live on in reading processes, which outlast a killed parent by seconds.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            other = os.pread(descriptor, 1000, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise _refusal(folder, other or "another process") from None
        except OSError as error:
            reason = error.strerror
            logger.warning("%s: no lock is to be had (%s): see that no other process writes there", folder, reason)
            return descriptor
        if _is_at(descriptor, folder / LOCK):
            break
        os.close(descriptor)  # its holder removed it as we came
    os.ftruncate(descriptor, 0)
    since = datetime.now(timezone.utc).isoformat(timespec="seconds")
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}, since {since}\n".encode(), 0)
    return descriptor


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _refusal(folder: Path, other: str) -> InputError:
    cure = "wait for its end, stop it, or give another output folder"
    return InputError(f"{folder}: in use by {other}; {cure}")
