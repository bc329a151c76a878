"""The progress bar of commands that walk over files: on stderr, and only where somebody is watching."""

import sys
from collections.abc import Iterable
from typing import Any


def progress(items: Iterable[Any], total: int, what: str) -> Iterable[Any]:
    """The same items, with a bar while they come."""
    from tqdm import tqdm

    return tqdm(items, total=total, desc=what, unit="file", file=sys.stderr, disable=not sys.stderr.isatty())
