"""Which URLs may be opened: few protocols, no chains, and none that a stranger's file names before a person agrees.

fsspec's protocols can do far more than fetch bytes: `reference://` renders templates, `::` chains one protocol to
another, `file://` and `data:` lead back to this machine. So what is opened is listed here, and compared as text. A
manifest or a recipe may come from somebody else: a host that only such a file names is asked for nothing until a person
has allowed it, with `--allow-urls`, by `DINO_SPEECH_ALLOW_URLS=1`, or by naming that host in the command itself.

Local copies of remote archives: each is fetched once per machine, in one piece, where the environment names a folder
(`DINO_SPEECH_SHARD_CACHE=/local/disk`); beyond `DINO_SPEECH_SHARD_CACHE_GB=200`, if set, the copies that were not used
for longest make room. A copy is not compared with its origin again.
"""

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

PROTOCOLS = ("http", "https", "s3", "gs", "gcs", "az", "abfs", "abfss", "hf")
EXTRA_OF = {"http": "http", "https": "http", "s3": "s3", "gs": "gcs", "gcs": "gcs"}  # of fsspec; else "abfs"
ALLOWED = "DINO_SPEECH_ALLOW_URLS"  # in the environment, which reading processes inherit
ORIGIN = re.compile(r"(?P<protocol>[\w.+-]+)://(?P<host>[^/?#]*)")


class UnusableURLError(OSError):
    """A URL that is not opened: its protocol is not on the list, is not installed, or nobody has agreed to it."""


def is_url(place: str) -> bool:
    """Whether a place is behind a protocol."""
    return "://" in place


def origin_of(url: str) -> str:
    """Protocol and host of a URL: `https://example.org`; "" where there are none."""
    found = ORIGIN.match(url)
    return found[0].lower() if found else ""


def check_url(url: str) -> None:
    """Refuse (`UnusableURLError`) a URL that is no plain address of one of `PROTOCOLS`, whoever has named it."""
    found = ORIGIN.match(url)
    if found is None or found["protocol"].lower() not in PROTOCOLS or "::" in url:
        problem = f"{url[:200]}: not a URL that is read; expected one of {', '.join(PROTOCOLS)}, without '::'"
        raise UnusableURLError(f"{problem}: copy the file to this machine, or to such a place")


@contextmanager
def urls_agreed_to(agreed: bool = True) -> Iterator[None]:
    """Inside, every host that a manifest or a recipe names is agreed to, in this process and in those it starts."""
    before = os.environ.get(ALLOWED)
    if agreed:
        os.environ[ALLOWED] = "1"
    try:
        yield
    finally:
        os.environ.pop(ALLOWED, None) if before is None else os.environ.update({ALLOWED: before})


def check_named_by_file(url: str, place: str, *, asked: str = "") -> None:
    """Refuse (`UnusableURLError`) a URL that a file names at `place`, unless a person has agreed to its host.

    What lies on the same host as `asked`, a URL that the person gave, is agreed to.
    """
    check_url(url)
    if os.environ.get(ALLOWED, "") not in ("", "0") or (asked and origin_of(asked) == origin_of(url)):
        return
    problem = f"{place}: names {url[:200]}, and nothing is fetched from {origin_of(url)} before you agree; if"
    raise UnusableURLError(f"{problem} you know who wrote this file: --allow-urls, or {ALLOWED}=1 in the environment")


def file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL, and the path in it; UnusableURLError: not read, or its package is missing."""
    import fsspec

    check_url(url)
    protocol = url.partition("://")[0].lower()
    try:
        # Asked each time: fsspec keeps the connections itself, and makes new ones in a forked process.
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        package = "huggingface_hub" if protocol == "hf" else f"fsspec[{EXTRA_OF.get(protocol, 'abfs')}]"
        raise UnusableURLError(f"{url}: needs a package that is missing ({error}); pip install '{package}'") from error
    except ValueError as error:
        raise UnusableURLError(f"{url}: {error}") from error
    return system, path


Result = TypeVar("Result")

PAUSES_S = (1.0, 4.0, 15.0)  # ours: storage that asks to slow down does so for seconds
FOLDER, LIMIT_GB = "DINO_SPEECH_SHARD_CACHE", "DINO_SPEECH_SHARD_CACHE_GB"


def local_copy(url: str) -> Path | None:
    """The copy of an archive, fetched if there is none yet (OSError: it cannot be); None where no copies are kept."""
    folder = os.environ.get(FOLDER)
    if not folder:
        return None
    name = f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{url.rpartition('/')[2]}"
    copy = Path(folder, name)
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        with _locked(copy.with_name(f".{name}.lock")):
            if not copy.exists():  # another process may have fetched it meanwhile
                _fetch(url, copy)
    with contextlib.suppress(FileNotFoundError):
        status = copy.stat()
        # When it was used last; its time of change says which version of it is open.
        os.utime(copy, ns=(time.time_ns(), status.st_mtime_ns))
    return copy


def patiently(fetch: Callable[[], Result], url: str) -> Result:
    """What `fetch` gives; storage that fails is asked again after some seconds, but not for what it does not have."""
    for pause_s in (*PAUSES_S, None):
        try:
            return fetch()
        except (FileNotFoundError, PermissionError, ImportError):
            raise
        except Exception as error:
            if pause_s is None:
                raise OSError(f"{url}: {type(error).__name__}: {error}") from error
            time.sleep(pause_s)
    raise AssertionError  # for type checkers


def _fetch(url: str, copy: Path) -> None:
    partial = copy.with_name(f".{copy.name}.{os.getpid()}.partial")
    system, path = file_system(url)

    def fetch() -> None:
        _make_room(copy.parent, int(system.info(path)["size"]))
        system.get_file(path, str(partial))

    try:
        patiently(fetch, url)
        partial.replace(copy)
    finally:
        partial.unlink(missing_ok=True)


def _make_room(folder: Path, size: int) -> None:
    limit = float(os.environ.get(LIMIT_GB, "inf")) * 1e9
    found = []
    for path in folder.glob("[!.]*.tar"):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            found.append((status.st_atime_ns, status.st_size, path))
    used = sum(file_size for _, file_size, _ in found)
    for _, file_size, path in sorted(found):
        if used + size <= limit:
            return
        path.unlink(missing_ok=True)  # who has it open can still read it
        used -= file_size


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; where locks are not to be had, two may fetch the same, and the last one stays."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
