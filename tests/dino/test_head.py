"""The head: cosines with unit prototypes, a gain that training cannot move, and copies that share nothing."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from dino_speech.dino.head import DINOHead
from dino_speech.errors import InputError


def small_head(**options: object) -> DINOHead:
    torch.manual_seed(0)
    return DINOHead(12, **({"num_prototypes": 40, "hidden_dim": 24, "bottleneck_dim": 8} | options))


def test_logits_are_cosines_between_bottleneck_and_prototypes() -> None:
    head, embedding = small_head(), torch.randn(5, 12)
    logits = head(embedding).detach().numpy()
    hidden = head.mlp(embedding).detach().numpy()
    prototypes = head.last_layer.parametrizations.weight.original1.detach().numpy()
    expected = hidden @ prototypes.T
    expected /= np.linalg.norm(hidden, axis=1)[:, None] * np.linalg.norm(prototypes, axis=1)
    np.testing.assert_allclose(logits, expected, atol=1e-6)
    assert np.abs(logits).max() <= 1 + 1e-6
    assert head.last_layer.bias is None


def test_leading_dimensions_stay() -> None:
    torch.manual_seed(0)
    head = DINOHead(6, num_prototypes=5, hidden_dim=8, bottleneck_dim=4, batch_norm=False)
    embedding = torch.randn(3, 7, 6, requires_grad=True)  # (V, B, D)
    logits = head(embedding)
    assert logits.shape == (3, 7, 5)
    torch.testing.assert_close(logits.flatten(0, 1), head(embedding.flatten(0, 1)))
    logits.square().sum().backward()
    assert embedding.grad is not None


def test_training_with_weight_decay_moves_directions_but_no_gain() -> None:
    head = small_head()
    before = head.last_layer.weight.detach().clone()
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        head(torch.randn(5, 12)).square().sum().backward()
        optimizer.step()
    weight = head.last_layer.weight.detach()
    assert (weight - before).norm() > 0.1
    torch.testing.assert_close(weight.norm(dim=1), torch.ones(40))


def test_deep_copy_and_state_dict_give_the_same_numbers_in_other_memory() -> None:
    head, embedding = small_head(batch_norm=True).eval(), torch.randn(5, 12)
    twin = copy.deepcopy(head)
    loaded = small_head(batch_norm=True, num_layers=3).eval()
    loaded.load_state_dict(head.state_dict())
    for other in (twin, loaded):
        assert torch.equal(other(embedding), head(embedding))
        assert not {p.data_ptr() for p in other.parameters()} & {p.data_ptr() for p in head.parameters()}
    nn.init.normal_(twin.last_layer.parametrizations.weight.original1)
    assert not torch.equal(twin(embedding), head(embedding))


@pytest.mark.parametrize("num_layers", [1, 2, 3, 5])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_layers_of_the_mlp(num_layers: int, batch_norm: bool) -> None:
    head = small_head(num_layers=num_layers, batch_norm=batch_norm)
    kinds = [type(layer) for layer in head.mlp]
    hidden = [nn.Linear, nn.BatchNorm1d, nn.GELU] if batch_norm else [nn.Linear, nn.GELU]
    assert kinds == hidden * (num_layers - 1) + [nn.Linear]
    assert head(torch.randn(4, 12)).shape == (4, 40)


def test_weights_begin_truncated_normal_and_biases_at_zero() -> None:
    head = DINOHead(256, num_prototypes=512, hidden_dim=512, bottleneck_dim=128)
    for layer in head.mlp:
        if isinstance(layer, nn.Linear):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert not layer.bias.any()
    assert head.last_layer.parametrizations.weight.original1.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_bottleneck_is_a_float32_unit_vector_inside_autocast(dtype: torch.dtype) -> None:
    head = small_head()
    embedding = torch.randn(5, 12)
    embedding[2] = 0  # the MLP of zeros is zero: its biases begin at zero
    with torch.autocast("cpu", dtype=dtype):
        points, logits = head.bottleneck(embedding), head(embedding)
    assert points.dtype == torch.float32
    lengths = points.norm(dim=1)
    torch.testing.assert_close(lengths[[0, 1, 3, 4]], torch.ones(4))
    assert torch.isfinite(logits).all()


def test_many_prototypes_give_gradients_to_all_of_them() -> None:
    head = DINOHead(16, num_prototypes=65_536, hidden_dim=32, bottleneck_dim=16)
    torch.log_softmax(head(torch.randn(2, 16)) / 0.1, dim=-1)[:, 0].sum().backward()
    gradient = head.last_layer.parametrizations.weight.original1.grad
    assert gradient is not None
    assert (gradient.norm(dim=1) > 0).all()


@pytest.mark.parametrize("option", ["num_prototypes", "hidden_dim", "bottleneck_dim", "num_layers"])
def test_sizes_below_one_are_refused_by_name(option: str) -> None:
    with pytest.raises(InputError, match=f"{option} = 0"):
        small_head(**{option: 0})
