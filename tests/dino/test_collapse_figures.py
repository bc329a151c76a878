"""Each figure against SciPy, NumPy or a loop, and at its two ends."""

import math

import numpy as np
import pytest
import torch
from scipy.special import rel_entr
from scipy.stats import entropy
from torch import nn

from dino_speech.dino.collapse_doctor import (
    batch_mean_entropy,
    embedding_spread,
    measure,
    rank_me,
    student_teacher_kl,
    teacher_entropy,
    teacher_gap,
)
from dino_speech.dino.loss import DINOLoss


def draw_targets(*shape: int, sharpness: float = 3.0) -> torch.Tensor:
    return torch.softmax(sharpness * torch.randn(*shape, generator=torch.Generator().manual_seed(0)), dim=-1)


def test_entropies_equal_scipy() -> None:
    targets = draw_targets(2, 8, 30)
    rows = targets.flatten(0, 1).double().numpy()
    assert teacher_entropy(targets) == pytest.approx(np.mean(entropy(rows, axis=1)) / math.log(30), abs=1e-6)
    assert batch_mean_entropy(targets) == pytest.approx(entropy(rows.mean(0)) / math.log(30), abs=1e-6)


def test_entropies_at_their_ends() -> None:
    uniform, one_hot = torch.full((2, 4, 65_536), 1 / 65_536), torch.eye(8)[None]
    assert teacher_entropy(uniform) == pytest.approx(1.0, abs=1e-5)
    assert (teacher_entropy(one_hot), batch_mean_entropy(one_hot)) == pytest.approx((0.0, 1.0), abs=1e-6)
    assert batch_mean_entropy(one_hot[:, :1]) == 0.0


def test_kl_equals_a_loop_over_pairs_of_views() -> None:
    student, targets = torch.randn(6, 4, 30), draw_targets(2, 4, 30)
    loss = DINOLoss(num_long=2, student_temperature=0.7)(student, targets).item()
    probability = torch.softmax(student.double() / 0.7, -1).numpy()
    teacher = targets.double().numpy()
    pairs = [rel_entr(teacher[a], probability[b]).sum(-1).mean() for a in range(2) for b in range(6) if a != b]
    assert student_teacher_kl(loss, targets) == pytest.approx(np.mean(pairs), abs=1e-5)


def test_rank_me_equals_the_formula_on_numpys_singular_values() -> None:
    embeddings = torch.randn(50, 12) @ torch.diag(torch.logspace(0, -3, 12))
    singular = np.linalg.svd(embeddings.double().numpy(), compute_uv=False)
    shares = singular / singular.sum()
    assert rank_me(embeddings) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-4)


@pytest.mark.parametrize("rank", [1, 3, 20])
def test_rank_me_counts_orthogonal_dimensions(rank: int) -> None:
    basis = torch.linalg.qr(torch.randn(40, 40)).Q
    assert rank_me(basis[:rank].repeat(3, 1)) == pytest.approx(rank, rel=1e-3)


def test_rank_me_of_zeros_is_one_and_of_nan_is_nan() -> None:
    assert rank_me(torch.zeros(5, 4)) == 1.0
    assert math.isnan(rank_me(torch.full((5, 4), math.nan)))


def test_spread_is_one_for_isotropic_and_zero_for_equal_embeddings() -> None:
    assert embedding_spread(torch.randn(2, 1000, 64)) == pytest.approx(1.0, abs=0.02)
    assert embedding_spread(torch.randn(64).expand(10, 64)) == pytest.approx(0.0, abs=1e-5)
    rows = torch.randn(30, 8)
    points = rows.double().numpy() / np.linalg.norm(rows.double().numpy(), axis=1, keepdims=True)
    assert embedding_spread(rows) == pytest.approx(points.std(0).mean() * math.sqrt(8), abs=1e-5)


def test_gap_is_the_relative_distance_of_all_parameters() -> None:
    student, teacher = nn.Linear(5, 4), nn.Linear(5, 4)
    flat = [torch.cat([p.detach().flatten() for p in module.parameters()]) for module in (teacher, student)]
    expected = (flat[0] - flat[1]).norm() / flat[1].norm()
    assert teacher_gap(teacher, student) == pytest.approx(expected.item(), rel=1e-5)
    assert teacher_gap(student, student) == 0.0


def test_measure_gathers_all_and_information_is_bounded() -> None:
    module = nn.Linear(5, 4)
    options = {"loss": 1.0, "embeddings": torch.randn(2, 8, 6)}
    figures = measure(
        targets=torch.eye(16).view(2, 8, 16), center=torch.tensor([3.0, 4.0]), teacher=module, student=module, **options
    )
    assert figures["target_information"] == pytest.approx(1.0)  # each row its own prototype
    assert figures["prototype_use"] == pytest.approx(1.0)
    assert figures["prototypes_used"] == pytest.approx(16.0, rel=1e-5)
    assert figures["center_norm"] == 5.0
    assert (figures["num_shared"], figures["teacher_gap"]) == (2.0, 0.0)
    same = measure(targets=draw_targets(1, 1, 16).expand(2, 8, 16), **options)
    assert same["target_information"] == pytest.approx(0.0, abs=1e-6)
    assert not {"center_norm", "teacher_gap"} & same.keys()
    assert all(type(value) is float for value in figures.values())
