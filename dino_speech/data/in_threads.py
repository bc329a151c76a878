"""Files worked on side by side: the decoders and NumPy release Python's lock, and storage is waited for."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")
AHEAD = 8  # items begun ahead per thread


def in_order(function: Callable[[Item], Answer], items: Iterable[Item], num_threads: int) -> Iterator[Answer]:
    """`map` with threads: the answers come in order, and what nobody takes the answers of is not begun."""
    with ThreadPoolExecutor(num_threads) as pool:
        waiting: deque[Future[Answer]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > AHEAD * num_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def watched(items: Iterable[Item], total: int, what: str) -> Iterable[Item]:
    """The items, with a progress bar on stderr where somebody is watching."""
    from tqdm import tqdm

    options = {"file": sys.stderr, "disable": not sys.stderr.isatty(), "leave": False}
    found: Iterable[Item] = tqdm(items, total=total, desc=what, unit="file", **options)
    return found
