"""Rank, world size and means across ranks; on one process each is a no-op and needs no process group."""

import atexit
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from dino_speech.roll_call import answer_roll_calls, naming_the_lost, patience


def is_initialized() -> bool:
    """Whether a process group exists."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """This process's number, 0 on one process."""
    return dist.get_rank() if is_initialized() else 0


def world_size() -> int:
    """How many processes work together, 1 without a process group."""
    return dist.get_world_size() if is_initialized() else 1


def local_world_size() -> int:
    """How many of the processes run on this machine, as torchrun says; 1 without it."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))


def is_main_process() -> bool:
    """True on the one process that writes files and logs."""
    return rank() == 0


def mean_across_ranks(value: torch.Tensor) -> torch.Tensor:
    """The mean of `value` over all ranks, without gradient; on one process `value` itself, detached."""
    return begin_mean_across_ranks(value)()


def begin_mean_across_ranks(value: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Start to average, and go on with other work meanwhile; what is returned waits, and gives the mean.

    `value` must not change before. All ranks must begin their averages in the same order.
    """
    if world_size() == 1:
        return value.detach
    total = value.detach().clone(memory_format=torch.contiguous_format)  # gloo takes no other layout
    work = dist.all_reduce(total, async_op=True)

    def finish() -> torch.Tensor:
        work.wait()
        return total / world_size()

    return finish


def all_parts(value: torch.Tensor) -> torch.Tensor:
    """(...) of this process -> (world size, ...) of all in the order of the ranks, without gradient."""
    if world_size() == 1:
        return value.detach()[None]
    parts = [torch.empty_like(value) for _ in range(world_size())]
    dist.all_gather(parts, value.detach().contiguous())
    return torch.stack(parts)


class Meeting:
    """Where the processes of one piece of work wait for each other; each comes to the same meetings in the same order.

    They meet over gloo in main memory, so that no GPU and no clock of NCCL waits meanwhile. Who shows no life for as
    long as `patience` says is given up, and named.
    """

    def __init__(self) -> None:
        self._group: dist.ProcessGroup | None = None
        if world_size() > 1:
            answer_roll_calls()
            with naming_the_lost():
                self._group = dist.new_group(backend="gloo", timeout=patience())

    def wait(self) -> None:
        """Until all are here; returns at once on one process."""
        if self._group is not None:
            with naming_the_lost():
                dist.barrier(self._group)

    @contextmanager
    def uneven(self) -> Iterator[None]:
        """Within, each process works for as long as it takes, and leaves when all are done; nothing else meets within.

        A thread shows all the while that the process lives: who is done waits for hours, but not for a lost one.
        """
        if self._group is None:
            yield
            return
        done, given_up, failures = threading.Event(), threading.Event(), list[RuntimeError]()

        def show_life() -> None:
            all_done, pause_s = torch.zeros(1, dtype=torch.int64), min(10.0, patience().total_seconds() / 4)
            try:
                while not all_done:
                    all_done.fill_(done.wait(pause_s))
                    if given_up.is_set():
                        return
                    dist.all_reduce(all_done, op=dist.ReduceOp.MIN, group=self._group)
            except RuntimeError as error:
                failures.append(error)

        thread = threading.Thread(target=show_life, name="signs of life", daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            given_up.set()
            raise
        finally:
            done.set()
        with naming_the_lost():
            thread.join()
            for failure in failures:
                raise failure


def join_processes(device: str | torch.device | None = None) -> torch.device:
    """The device of this process; under torchrun, joins the other processes first and takes the GPU of its local rank.

    `device` is "cpu", "cuda" or "cuda:N"; None: a GPU where there is one.
    """
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if chosen.type == "cuda":
        index = chosen.index if chosen.index is not None else int(os.environ.get("LOCAL_RANK", 0))
        chosen = torch.device("cuda", index)
        torch.cuda.set_device(chosen)
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ and not is_initialized():
        # NCCL's clock ends a process without a word of whom it waited for: ours is to be over before.
        backend, clock = ("nccl", 2 * patience()) if chosen.type == "cuda" else ("gloo", patience())
        dist.init_process_group(backend, timeout=clock, **_own_store())
        atexit.register(dist.destroy_process_group)  # not sooner: what runs after training still asks for its rank
    return chosen


def _own_store() -> dict[str, Any]:
    """Where the processes of this start find each other, if torchrun restarted them on one machine; else its default.

    Its store outlives a restart, and holds the addresses of the killed ones: those of this start need names of their
    own. Several machines may count restarts differently: there, see PyTorch's TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1.
    """
    environment = os.environ
    restarts = int(environment.get("TORCHELASTIC_RESTART_COUNT", 0))
    shared = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and environment.get("GROUP_WORLD_SIZE") == "1"
    if not (restarts and shared):
        return {}
    num_ranks = int(environment["WORLD_SIZE"])
    store = dist.TCPStore(environment["MASTER_ADDR"], int(environment["MASTER_PORT"]), num_ranks, is_master=False)
    prefixed = dist.PrefixStore(f"restart_{restarts}", store)
    return {"store": prefixed, "rank": int(environment["RANK"]), "world_size": num_ranks}
