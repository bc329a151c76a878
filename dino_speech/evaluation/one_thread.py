"""Numbers of many small matrices, without threads that wait for each other."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """A block, or with `@one_thread()` a function, in which NumPy and scikit-learn use one thread.

    The matrices here are small: on a busy machine their threads wait for each other, ten times longer than they work.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield
