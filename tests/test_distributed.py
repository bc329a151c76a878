"""One process needs no process group; two gloo processes agree."""

from pathlib import Path

import processes
import pytest
import torch
import torch.distributed as dist

from dino_speech.distributed import (
    Meeting,
    is_initialized,
    is_main_process,
    join_processes,
    mean_across_ranks,
    rank,
    world_size,
)


def test_one_process_is_its_own_world() -> None:
    assert not is_initialized()
    assert (rank(), world_size(), is_main_process()) == (0, 1, True)
    Meeting().wait()
    value = torch.tensor([1.0, 3.0], requires_grad=True)
    mean = mean_across_ranks(value)
    assert torch.equal(mean, value)
    assert not mean.requires_grad


def test_one_process_joins_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert join_processes("cpu") == torch.device("cpu")
    assert not is_initialized()


def _work(folder: Path) -> None:
    dist.init_process_group("gloo")
    number = dist.get_rank()
    value = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).T * (number + 1)  # not contiguous, as gloo dislikes
    before = value.clone()
    mean = mean_across_ranks(value)
    Meeting().wait()
    torch.save(
        {
            "rank": rank(),
            "world_size": world_size(),
            "main": is_main_process(),
            "mean": mean,
            "unchanged": torch.equal(value, before),
        },
        folder / f"{number}.pt",
    )
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_agree(tmp_path: Path) -> None:
    assert processes.ends(*processes.begin_together(2, tmp_path, _work, tmp_path)) == [0, 0]
    for number in range(2):
        found = torch.load(tmp_path / f"{number}.pt", weights_only=True)
        assert (found["rank"], found["world_size"], found["main"]) == (number, 2, number == 0)
        assert found["unchanged"]
        assert found["mean"].tolist() == [[1.5, 6.0], [3.0, 7.5], [4.5, 9.0]]
