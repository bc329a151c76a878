"""One tar archive on its way to the disk, whose members' places are known while it is written.

Python's `tarfile` writes the same format but does not say where a member's bytes begin.
"""

import hashlib
import os
import tarfile
from pathlib import Path

BLOCK = 512


class TarWriter:
    """A tar under another name until `close`; the same members make the same bytes.

    Args:
        path: the archive to be.

    Attributes:
        num_bytes: written so far.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_bytes = 0
        self._partial = path.with_name(f".{path.name}.partial")
        self._digest = hashlib.sha256()
        self._file = self._partial.open("wb")

    @staticmethod
    def cost(size: int) -> int:
        """Bytes that a member of `size` bytes takes."""
        return BLOCK + size + -size % BLOCK

    def add(self, name: str, data: bytes) -> int:
        """Add a member; where its bytes begin."""
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._write(info.tobuf(tarfile.USTAR_FORMAT))
        offset = self.num_bytes
        self._write(data + bytes(-len(data) % BLOCK))
        return offset

    def close(self) -> str:
        """End the archive, give it its name, and say the SHA-256 of its bytes."""
        self._write(bytes(2 * BLOCK))
        self._write(bytes(-self.num_bytes % tarfile.RECORDSIZE))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._partial.replace(self.path)
        return self._digest.hexdigest()

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.num_bytes += len(data)
