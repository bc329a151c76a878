"""What the processes of one training do together: average gradients, agree, share; on one process nothing happens.

Each takes its part of every micro-batch (`StepSampler` deals the batch out in turn), and the mean of their gradients
moves the weights. A mean over a part is the mean over the whole batch where all parts count the same; where they do
not, `share` says what a part counts, and what is no mean at all (a correlation) takes the `whole_batch`.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dino_speech.distributed import Meeting, is_main_process, mean_across_ranks, rank, world_size
from dino_speech.roll_call import naming_the_lost

Value = TypeVar("Value")
BUCKET = 2**24  # ours: numbers that travel at once, 64 MiB


class Processes(Meeting):
    """One training's processes, each of which must ask the same things in the same order."""

    def largest(self, numbers: Sequence[int]) -> list[int]:
        """The largest of each number over all processes."""
        if self._group is None:
            return [int(number) for number in numbers]
        found = torch.tensor(numbers, dtype=torch.int64)
        with naming_the_lost():
            dist.all_reduce(found, op=dist.ReduceOp.MAX, group=self._group)
        return list(found.tolist())

    def gather(self, value: Value) -> list[Value]:
        """Each process's value, in the order of the ranks."""
        if self._group is None:
            return [value]
        found: list[Any] = [None] * world_size()
        with naming_the_lost():
            dist.all_gather_object(found, value, group=self._group)
        return found

    def from_main(self, make: Callable[[], Value]) -> Value:
        """What the main process makes while the others wait, for as long as it takes, on each of them."""
        found: list[Any] = [None]
        with self.uneven():
            if is_main_process():
                found = [make()]
        if self._group is not None:
            with naming_the_lost():
                dist.broadcast_object_list(found, src=0, group=self._group)
        return found[0]

    def begin_alike(self, modules: Iterable[nn.Module]) -> None:
        """Give all processes the main one's weights and buffers."""
        if self._group is not None:
            for module in modules:
                for tensor in module.state_dict().values():
                    dist.broadcast(tensor, src=0)

    def average(self, parameters: Sequence[nn.Parameter], modules: Iterable[nn.Module], loss: Tensor) -> None:
        """In place: the gradients of a step, the running statistics of BatchNorm, and the loss.

        A parameter that no process has a gradient for (a layer that was dropped) is left without one.
        """
        if self._group is None:
            return
        used = self.largest([parameter.grad is not None for parameter in parameters])
        gradients: list[Tensor] = []
        for parameter in itertools.compress(parameters, used):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        for bucket in _buckets([*gradients, *_running_statistics(modules), loss]):
            mean = mean_across_ranks(torch.cat([tensor.flatten() for tensor in bucket]))
            for tensor, part in zip(bucket, mean.split([tensor.numel() for tensor in bucket]), strict=True):
                tensor.copy_(part.view_as(tensor))


def share(weight: Tensor) -> Tensor | float:
    """What a mean over this process's part of a batch counts beside the others', on average 1; `weight` divided it."""
    return weight / mean_across_ranks(weight) if world_size() > 1 else 1.0


def whole_batch(rows: Tensor) -> Tensor:
    """(B, ...) of this process -> (world size * B, ...) of all, with gradient; all must have as many."""
    return _Gather.apply(rows) if world_size() > 1 else rows


def own_rows() -> slice:
    """Which rows of a batch of all processes (what is drawn for the whole batch at once) are this process's."""
    return slice(rank(), None, world_size())


class _Gather(torch.autograd.Function):
    """All parts; backward each process is given what all of them have to say about its own."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(world_size())[rank()]


def _running_statistics(modules: Iterable[nn.Module]) -> list[Tensor]:
    layers = [part for module in modules for part in module.modules() if isinstance(part, _BatchNorm) and part.training]
    return [found for layer in layers for found in (layer.running_mean, layer.running_var) if found is not None]


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for tensor in tensors:
        bucket.append(tensor)
        if sum(item.numel() for item in bucket) >= BUCKET:
            yield bucket
            bucket = []
    if bucket:
        yield bucket
