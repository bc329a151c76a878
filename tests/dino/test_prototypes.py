"""Logits without normalised weights equal those with them, in value and in gradient."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dino_speech.dino.head import DINOHead, prototype_logits


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    points = F.normalize(torch.randn(6, 8, generator=generator, dtype=dtype), dim=-1).requires_grad_()
    directions = torch.randn(40, 8, generator=generator, dtype=dtype).requires_grad_()
    return points, directions, 1 + torch.rand(40, 1, generator=generator, dtype=dtype)


def reference(points: Tensor, directions: Tensor, gain: Tensor) -> Tensor:
    return F.linear(points, gain * directions / directions.norm(dim=1, keepdim=True))


def test_gradients_are_those_of_finite_differences() -> None:
    assert torch.autograd.gradcheck(prototype_logits, inputs(torch.float64))


def test_logits_and_gradients_are_those_of_the_normalised_weight() -> None:
    points, directions, gain = inputs()
    upstream = torch.randn(6, 40, generator=torch.Generator().manual_seed(1))
    found, expected = prototype_logits(points, directions, gain), reference(points, directions, gain)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    for mine, theirs in zip(
        torch.autograd.grad(found, [points, directions], upstream),
        torch.autograd.grad(expected, [points, directions], upstream),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_inside_autocast_logits_are_float32_and_near(dtype: torch.dtype) -> None:
    points, directions, gain = inputs()
    with torch.autocast("cpu", dtype=dtype):
        logits = prototype_logits(points, directions, gain)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, reference(points, directions, gain), rtol=0.02, atol=0.02)
    gradients = torch.autograd.grad(logits.square().sum(), [points, directions])
    expected = torch.autograd.grad(reference(points, directions, gain).square().sum(), [points, directions])
    for mine, theirs in zip(gradients, expected, strict=True):
        assert (mine - theirs).norm() < 0.02 * theirs.norm()


def test_the_head_normalises_nothing_and_keeps_only_its_own_parameters() -> None:
    torch.manual_seed(0)
    head = DINOHead(12, num_prototypes=4_096, hidden_dim=24, bottleneck_dim=64)
    own = {parameter.untyped_storage().data_ptr() for parameter in head.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = head(torch.randn(5, 12))
    assert sum(size for pointer, size in kept.items() if pointer not in own) < 40_000  # the weight: 1 MB, logits: 80 kB
    assert logits.shape == (5, 4_096)


def test_compiled_it_is_the_plain_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    eager = prototype_logits(*inputs())
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(prototype_logits(*inputs()), eager)
