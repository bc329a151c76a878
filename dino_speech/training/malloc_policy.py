"""Memory that a CPU step frees stays with the process for the next step, instead of going back to the system.

A training step frees all its activations, glibc hands what lies on top of its heap back to the system, and the next
step asks for it again, page by page: about a tenth of a step's time. Here it is told to keep it. Peak memory stays what
it is, since the next step needs as much.
"""

import contextlib
import ctypes
import sys
from collections.abc import Iterator

# Names of <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
# Afterwards: glibc's default number of maps, and the limits at which its own adaptation to a program ends.
_AFTERWARDS = {_M_MMAP_MAX: 65_536, _M_MMAP_THRESHOLD: 32 * 2**20, _M_TRIM_THRESHOLD: 64 * 2**20}
_NEVER = 2**31 - 1


@contextlib.contextmanager
def freed_memory_kept(*, on: bool = True) -> Iterator[bool]:
    """Within, freed memory is kept for reuse; afterwards what is free goes back to the system.

    Args:
        on: False: nothing happens, as for work on a GPU.

    Yields:
        whether it worked: on Linux with glibc; elsewhere nothing happens either.
    """
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
