"""Where the bytes of a sound lie: in a file, in a member of a tar archive, or behind a URL that fsspec opens.

A place is a string. `speech.wav` is a file; `shard-000000.tar#1536,48120` are the 48,120 bytes from byte 1,536 on of an
archive. Both may begin with a protocol (`s3://`, `https://`, see `urls.py`). So a manifest can name any of them in its
column `wav`, and whatever reads sounds reads them all.
"""

import io
import os
import re
from functools import lru_cache
from typing import Any, BinaryIO

from dino_speech.audio.urls import file_system, is_url, local_copy, patiently
from dino_speech.received_files import require_plain_file

MEMBER = re.compile(r"(?P<archive>.+\.tar)#(?P<offset>\d{1,18}),(?P<size>\d{1,18})")
LOCAL_BUFFER_BYTES = 1 << 16  # ours: a few seconds of speech, less than a network file system reads at once
OPEN_ARCHIVES = 64  # ours: far below the usual limit of 1,024 open files
REMOTE_SOUNDS = 4  # ours: a header and then a span are asked of one sound; more would only hold memory


def member_place(archive: str, offset: int, size: int) -> str:
    """The place of a member of a tar archive, such as `shard-000000.tar#1536,48120`."""
    return f"{archive}#{offset},{size}"


def printable(place: str) -> str:
    """A place for people: the bytes of a file's name that are no UTF-8 text as escapes.

    Example:
        >>> printable(b"caf\\xe9.wav".decode("utf-8", "surrogateescape"))
        'caf\\\\xe9.wav'
    """
    return place.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def file_of(place: str) -> str:
    """The file that holds a place: the archive of a member, else the place itself."""
    found = MEMBER.fullmatch(place) if "#" in place else None
    return found["archive"] if found else place


def is_plain_file(place: str) -> bool:
    """Whether a place is neither a member of an archive nor a URL."""
    return not is_url(place) and file_of(place) == place


def join_place(folder: str, name: str) -> str:
    """`name` relative to `folder`, either of which may be a URL; an absolute name or a URL stands for itself."""
    if is_url(name):
        return name
    if is_url(folder):
        return f"{folder.rstrip('/')}/{name.removeprefix('./')}"
    return os.path.normpath(os.path.join(folder, name))  # noqa: PTH118  (Path costs ten times as much per row)


def exists(file: str) -> bool:
    """Whether a file or a URL (not a member: see `file_of`) exists."""
    if not is_url(file):
        return os.path.isfile(file)  # noqa: PTH113
    system, path = file_system(file)
    return bool(system.exists(path))


def open_bytes(place: str) -> BinaryIO:
    """The bytes of a place, to read and seek in; of a member of a local archive only what is read is fetched."""
    found = MEMBER.fullmatch(place) if "#" in place else None
    if is_url(place):
        kept = _kept(found) if found else None
        if kept is not None:
            return kept
        span = (int(found["offset"]), int(found["size"])) if found else None
        return io.BytesIO(_fetch(found["archive"] if found else place, span))
    if found is None:
        require_plain_file(place)
        return open(place, "rb")  # noqa: PTH123
    archive, offset, size = found["archive"], int(found["offset"]), int(found["size"])
    return io.BufferedReader(_Window(archive, offset, size), LOCAL_BUFFER_BYTES)


def _kept(member: "re.Match[str]") -> BinaryIO | None:
    """A member of a remote archive in its local copy; None where none are kept."""
    for _ in range(3):
        copy = local_copy(member["archive"])
        if copy is None:
            return None
        try:
            return io.BufferedReader(_Window(str(copy), int(member["offset"]), int(member["size"])), LOCAL_BUFFER_BYTES)
        except FileNotFoundError:  # another process made room just now
            continue
    return None


class _Window(io.RawIOBase):
    """Some bytes of a file, as a file of their own; many may read one archive, from threads and forked processes."""

    def __init__(self, archive: str, offset: int, size: int) -> None:
        status = os.stat(archive)  # noqa: PTH116
        if offset + size > status.st_size:
            raise OSError(f"bytes {offset} to {offset + size} are asked of an archive of {status.st_size} bytes")
        # A file that was written anew is another file.
        self._file = _open_archive(archive, status.st_mtime_ns, status.st_size, status.st_ino)
        self._offset, self._size, self._position = offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        length = max(0, min(len(buffer), self._size - self._position))
        first = self._offset + self._position
        if hasattr(os, "pread"):
            data = os.pread(self._file.fileno(), length, first)  # moves no position, which others share
        else:
            with io.FileIO(self._file.name) as own:
                own.seek(first)
                data = own.read(length)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


@lru_cache(maxsize=OPEN_ARCHIVES)
def _open_archive(archive: str, *_version: int) -> io.FileIO:
    """Kept open: each opening asks the metadata server of a network file system. Closed when nobody holds it."""
    return io.FileIO(archive)


@lru_cache(maxsize=REMOTE_SOUNDS)
def _fetch(url: str, span: tuple[int, int] | None) -> bytes:
    """One request for all bytes of a sound."""
    first, last = (None, None) if span is None else (span[0], sum(span))
    system, path = file_system(url)
    data = patiently(lambda: bytes(system.cat_file(path, start=first, end=last)), url)
    if span is not None and len(data) < span[1]:
        raise OSError(f"bytes {span[0]} to {sum(span)} are asked of an archive that ends before")
    return data
