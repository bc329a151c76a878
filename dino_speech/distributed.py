"""Rank, world size and means across ranks; on one process each is a no-op and needs no process group."""

import torch
import torch.distributed as dist


def is_initialized() -> bool:
    """Whether a process group exists."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """This process's number, 0 on one process."""
    return dist.get_rank() if is_initialized() else 0


def world_size() -> int:
    """How many processes work together, 1 without a process group."""
    return dist.get_world_size() if is_initialized() else 1


def is_main_process() -> bool:
    """True on the one process that writes files and logs."""
    return rank() == 0


def mean_across_ranks(value: torch.Tensor) -> torch.Tensor:
    """The mean of `value` over all ranks, as a new tensor; `value` itself on one process."""
    if world_size() == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / world_size()


def barrier() -> None:
    """Wait for all ranks; returns at once on one process."""
    if world_size() > 1:
        dist.barrier()
