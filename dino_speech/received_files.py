"""Files and folders that may be a stranger's: opened only where they are plain files, read only as far as is sensible.

A folder that was unpacked may hold pipes, on which a reader waits for ever, links to `/dev/zero`, which never ends,
links to folders elsewhere, through which what is written there is lost, and archives that promise a thousandfold.
"""

import errno
import json
import os
import zipfile
from pathlib import Path
from typing import Any

from dino_speech.errors import InputError

StrPath = str | os.PathLike[str]
MAX_BYTES = 2**30  # ours: of a text that is read in one piece; twenty million trials
MAX_JSON_BYTES = 2**26  # ours: of what describes a folder; a thousand times a usual one
MAX_GROWTH = 16  # ours: embeddings hardly shrink in a zip, and columns of names to a tenth
MAX_SMALL_BYTES = 2**28  # ours: up to here an archive may grow as it likes
DEVICES = "/dev/"  # who types this means it: `--trials <(head -100 trials.txt)` is /dev/fd/63


def require_plain_file(path: StrPath) -> None:
    """OSError for a pipe or a device, also behind a link; what is absent, or a folder, is left to whoever opens it."""
    found = Path(path)
    if found.exists() and not found.is_file() and not found.is_dir() and not os.fspath(path).startswith(DEVICES):
        raise OSError(errno.EINVAL, "a pipe or a device, not a file", os.fspath(path))


def read_bytes(path: StrPath, *, max_bytes: int = MAX_BYTES) -> bytes:
    """All bytes of a plain file; OSError where it cannot be read, or has more than `max_bytes`."""
    require_plain_file(path)
    with open(path, "rb") as file:  # noqa: PTH123
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"more than {max_bytes:,} bytes", os.fspath(path))
    return data


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says; ValueError: it is none, or nested so deeply that nobody means it."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def require_honest_zip(path: StrPath, *, compressed: bool = True) -> None:
    """ValueError for an archive whose members grow beyond what its size explains; `compressed`: some may grow at all.

    A file that is no zip passes: whoever reads it says so.
    """
    require_plain_file(path)
    if not zipfile.is_zipfile(path):
        return
    size = os.stat(path).st_size  # noqa: PTH116
    with zipfile.ZipFile(path) as archive:
        claimed = sum(member.file_size for member in archive.infolist())
    if claimed > (max(MAX_SMALL_BYTES, MAX_GROWTH * size) if compressed else size):
        raise ValueError(
            f"its {size:,} bytes are to become {claimed:,}; expected an archive that was not made to burst"
        )


def refuse_links_out(folder: StrPath) -> None:
    """InputError for an output folder in which a link leads elsewhere: what is written through it would land there.

    The folder itself may be reached through links.
    """
    root = os.path.realpath(folder)
    for parent, folders, files in os.walk(root):
        for path in (os.path.join(parent, name) for name in (*folders, *files)):  # noqa: PTH118
            if os.path.islink(path) and not Path(os.path.realpath(path)).is_relative_to(root):  # noqa: PTH114
                raise InputError(
                    f"{path} is a link to {os.path.realpath(path)}, out of the output folder; nothing is written there:"
                    " remove the link, or choose another output folder"
                )
