"""A limit on tensors made while a stranger's file says how large they are: counted before the memory is taken."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from dino_speech.errors import InputError

FACTORIES = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.empty_strided)


class _Counted(TorchFunctionMode):
    def __init__(self, max_elements: int) -> None:
        super().__init__()
        self.max_elements, self.num_elements = max_elements, 0

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function in FACTORIES:
            sizes = args if args and isinstance(args[0], int) else (args or [(kwargs or {}).get("size", ())])[0]
            self.num_elements += math.prod(sizes) if all(isinstance(size, int) for size in sizes) else 0
            if self.num_elements > self.max_elements:
                raise InputError(
                    f"asks for more than {self.max_elements:,} numbers in its layers; choose smaller sizes, or build "
                    "it in Python"
                )
        return function(*args, **(kwargs or {}))


@contextmanager
def bounded_memory(max_elements: int) -> Iterator[None]:
    """Inside, layers may hold so many numbers together; InputError before the memory for more is taken.

    Example:
        >>> with bounded_memory(1_000_000):
        ...     layer = torch.nn.Linear(100, 100)
    """
    with _Counted(max_elements):
        yield
