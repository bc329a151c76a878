"""Center against its closed form, targets against SciPy, Sinkhorn against the multiplicative form in NumPy float64."""

from pathlib import Path

import numpy as np
import processes
import pytest
import torch
import torch.distributed as dist
from scipy.special import softmax

from dino_speech.dino.centering import Center, sinkhorn_targets, softmax_targets
from dino_speech.errors import InputError


def test_center_is_the_exponential_mean_of_the_batch_means() -> None:
    center, expected = Center(7, momentum=0.8), np.zeros(7)
    for step in range(5):
        logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(step))
        center.accumulate(logits)
        center.step()
        expected = 0.8 * expected + 0.2 * logits.double().mean((0, 1)).numpy()
    np.testing.assert_allclose(center.value.numpy(), expected, atol=1e-6)


def test_micro_batches_of_any_size_equal_one_batch_and_move_nothing_before_the_step() -> None:
    logits = torch.randn(2, 12, 7)
    whole, parts = Center(7), Center(7)
    whole.accumulate(logits)
    for part in logits.split([5, 4, 3], dim=1):
        parts.accumulate(part)
        assert not parts.value.any()
    whole.step()
    parts.step()
    torch.testing.assert_close(parts.value, whole.value, rtol=1e-6, atol=1e-7)


def test_sinkhorn_takes_three_turns() -> None:
    logits = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(sinkhorn_targets(logits, 0.1), sinkhorn_targets(logits, 0.1, 3))


def test_a_skipped_step_leaves_no_trace() -> None:
    center = Center(3)
    center.accumulate(torch.full((4, 3), float("inf")))
    center.discard()
    center.accumulate(torch.ones(4, 3))
    center.step()
    torch.testing.assert_close(center.value, torch.full((3,), 0.1))


def test_a_step_without_logits_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="call accumulate per micro-batch"):
        Center(3).step()


def test_center_keeps_float32_from_half_precision_and_is_saved_whole() -> None:
    logits = torch.randn(4096, 5).to(torch.bfloat16)
    center = Center(5, momentum=0.0)
    center.accumulate(logits)
    center.step()
    torch.testing.assert_close(center.value, logits.double().mean(0).float(), rtol=1e-4, atol=1e-6)
    assert list(center.state_dict()) == ["value"]
    with pytest.raises(InputError, match=r"momentum = 1\.5"):
        Center(5, momentum=1.5)


def _center_of_one_rank(folder: Path) -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    logits = torch.arange(15.0).view(5, 3).square()
    center = Center(3)
    for number in range(2):
        center.accumulate(logits[:3] if rank == 0 else logits[3:])  # unequal shares
        if number:
            dist.barrier()
            if rank:  # begins when the other has done so, which need not wait for it
                processes.wait_until((folder / "begun").exists)
            center.begin_step()
            (folder / "begun").touch()
        center.step()
    torch.save(center.value, folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_nothing_is_added_to_an_average_that_is_under_way() -> None:
    center = Center(3)
    center.accumulate(torch.ones(2, 3))
    center.begin_step()
    with pytest.raises(RuntimeError, match="after begin_step"):
        center.accumulate(torch.ones(2, 3))
    assert torch.equal(center.value, torch.zeros(3))
    center.step()
    torch.testing.assert_close(center.value, torch.full((3,), 0.1))
    center.accumulate(torch.ones(2, 3))
    center.begin_step()
    center.discard()
    center.accumulate(torch.ones(2, 3))
    center.step()
    torch.testing.assert_close(center.value, torch.full((3,), 0.19))


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    assert processes.ends(*processes.begin_together(2, tmp_path, _center_of_one_rank, tmp_path)) == [0, 0]
    alone = Center(3)
    for _ in range(2):
        alone.accumulate(torch.arange(15.0).view(5, 3).square())
        alone.step()
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), alone.value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.04, 1.0])
def test_softmax_targets_equal_scipy(temperature: float) -> None:
    logits, center = torch.randn(2, 3, 11), torch.randn(11)
    found = softmax_targets(logits.requires_grad_(), center, temperature)
    expected = softmax((logits.detach().double() - center.double()).numpy() / temperature, axis=-1)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)
    assert not found.requires_grad
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = softmax_targets(logits.bfloat16(), center, temperature)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.sum(-1), torch.ones(2, 3))


def sinkhorn_by_scaling(logits: np.ndarray, temperature: float, num_iterations: int) -> np.ndarray:
    """SwAV's form: a matrix of positive numbers whose rows and columns are scaled in turn."""
    scores = np.exp(logits / temperature)
    for _ in range(num_iterations):
        scores = scores / scores.sum(axis=0, keepdims=True) / scores.shape[1]
        scores = scores / scores.sum(axis=1, keepdims=True) / scores.shape[0]
    return scores * scores.shape[0]


@pytest.mark.parametrize("num_iterations", [1, 3, 10])
@pytest.mark.parametrize(("num_rows", "k"), [(40, 6), (6, 40)])
def test_sinkhorn_equals_the_multiplicative_form(num_rows: int, k: int, num_iterations: int) -> None:
    logits = torch.rand(2, num_rows // 2, k, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = sinkhorn_targets(logits, 0.04, num_iterations).flatten(0, 1).numpy()
    expected = sinkhorn_by_scaling(logits.flatten(0, 1).double().numpy(), 0.04, num_iterations)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_sinkhorn_rows_are_distributions_and_prototypes_share_evenly() -> None:
    # All rows prefer the first prototypes, as a teacher about to collapse would.
    logits = 0.3 * torch.rand(2, 64, 16) - torch.linspace(-0.5, 0.5, 16)
    targets = sinkhorn_targets(logits, 0.04, 3)
    torch.testing.assert_close(targets.sum(-1), torch.ones(2, 64))
    assert not targets.requires_grad
    shares = targets.mean((0, 1)) * 16
    assert 0.75 < shares.min() <= shares.max() < 1.3
    assert (softmax_targets(logits, None, 0.04).mean((0, 1)) * 16).max() > 8


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_sinkhorn_neither_over_nor_underflows(dtype: torch.dtype) -> None:
    logits = (100 * torch.randn(32, 50, generator=torch.Generator().manual_seed(0))).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        targets = sinkhorn_targets(logits, 0.01)
    assert targets.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(targets.sum(-1), torch.ones(32, dtype=targets.dtype))
    assert torch.isfinite(targets).all()


def test_sinkhorn_leaves_the_logits_alone_and_needs_an_iteration() -> None:
    logits = torch.randn(8, 5)
    before = logits.clone()
    sinkhorn_targets(logits, 1.0)
    assert torch.equal(logits, before)
    with pytest.raises(InputError, match="num_iterations = 0"):
        sinkhorn_targets(logits, 1.0, 0)
