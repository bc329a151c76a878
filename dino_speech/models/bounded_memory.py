"""A limit on tensors made while a stranger's file says how large they are: counted before the memory is taken."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from dino_speech.errors import InputError

MAX_NUMBERS = 2_000_000_000  # ours: in one network; six times the largest published wav2vec 2.0
MAX_TENSORS = 5_000  # ours: five times those of 48 transformer layers; each takes time, however small it is
MARGIN, SPARE = 4, 10_000_000  # ours: numbers that building may take for each one that is saved, and beside them
FACTORIES = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.empty_strided)


class _Counted(TorchFunctionMode):
    def __init__(self, max_elements: int) -> None:
        super().__init__()
        self.max_elements, self.num_elements, self.num_tensors = max_elements, 0, 0

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
        elif function is torch.Tensor.clone:  # which layers are repeated by
            self.num_elements += args[0].numel()
        if function in (*FACTORIES, torch.Tensor.clone):
            self.num_tensors += function in (torch.empty, torch.Tensor.clone)
            if self.num_elements > self.max_elements or self.num_tensors > MAX_TENSORS:
                few = self.num_tensors <= MAX_TENSORS
                asked = f"{self.max_elements:,} numbers in its layers" if few else f"{MAX_TENSORS:,} parameters"
                raise InputError(f"asks for more than {asked}; choose smaller sizes, or build it in Python")
        return function(*args, **(kwargs or {}))


@contextmanager
def bounded_memory(max_elements: int = MAX_NUMBERS) -> Iterator[None]:
    """Inside, layers may hold so many numbers together; InputError before the memory for more is taken.

    In one within another, the narrower one decides.

    Example:
        >>> with bounded_memory(1_000_000):
        ...     layer = torch.nn.Linear(100, 100)
    """
    with _Counted(max_elements):
        yield


def bounded_for(num_saved: int) -> AbstractContextManager[None]:
    """What building a network may take whose saved weights are `num_saved` numbers."""
    return bounded_memory(min(MAX_NUMBERS, MARGIN * num_saved + SPARE))
