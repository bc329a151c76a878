"""KoLeo against scikit-learn's neighbours, entropy against scipy's, the others against formulas with loops."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.neighbors import NearestNeighbors

from dino_speech.dino.regularizers import coding_rate, contrast, frobenius, koleo, mean_entropy


def neighbour_distances(points: np.ndarray) -> np.ndarray:
    points = points / np.linalg.norm(points, axis=1, keepdims=True)
    return NearestNeighbors(n_neighbors=2).fit(points).kneighbors(points)[0][:, 1]


def test_equals_the_nearest_neighbours_of_scikit_learn_in_each_view() -> None:
    views = torch.randn(2, 20, 6, generator=torch.Generator().manual_seed(0))
    expected = [-np.log(neighbour_distances(view.double().numpy())).mean() for view in views]
    assert koleo(views[0]).item() == pytest.approx(expected[0], abs=1e-5)
    assert koleo(views).item() == pytest.approx(np.mean(expected), abs=1e-5)


def test_the_same_utterance_in_another_view_is_no_neighbour() -> None:
    points = torch.randn(10, 6)
    both = torch.stack([points, points])
    torch.testing.assert_close(koleo(both), koleo(points))
    assert koleo(both.flatten(0, 1)) > koleo(points) + 5


def test_gradient_is_that_of_finite_differences() -> None:
    points = torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(koleo, points)


def test_two_equal_embeddings_give_no_gradient_of_their_own() -> None:
    points = torch.randn(6, 4)
    points[1] = points[0]
    points.requires_grad_()
    koleo(points).backward()
    assert torch.isfinite(points.grad).all()
    assert points.grad[:2].norm() < 10 * points.grad[2:].norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_float32_inside_autocast(dtype: torch.dtype) -> None:
    points = (1 + 0.05 * torch.randn(30, 16)).to(dtype)  # close together: in half precision the order would be lost
    expected = -np.log(neighbour_distances(points.double().numpy())).mean()
    with torch.autocast("cpu", dtype=dtype):
        found = koleo(points)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected, abs=1e-3)


def test_minimising_it_pushes_points_apart() -> None:
    points = (torch.tensor([1.0, 0, 0]) + 0.1 * torch.randn(12, 3)).requires_grad_()
    before = neighbour_distances(points.detach().numpy()).min()
    optimizer = torch.optim.Adam([points], lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        koleo(points).backward()
        optimizer.step()
    assert neighbour_distances(points.detach().numpy()).min() > max(5 * before, 0.3)


@pytest.mark.parametrize("shape", [(1, 4), (2, 1, 4), (4,)])
def test_fewer_than_two_utterances_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least 2 utterances"):
        koleo(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(1, 4, 3), (2, 1, 3), (4, 3), (2, 2, 3, 1)])
def test_contrast_needs_two_views_of_two_utterances(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="with V and B at least 2"):
        contrast(torch.ones(shape), 0.1)


def test_two_will_do_and_equal_ones_are_epsilon_apart() -> None:
    assert contrast(torch.ones(2, 2, 3), 0.1).item() == pytest.approx(np.log(3))
    assert koleo(torch.eye(2)).item() == pytest.approx(-0.5 * np.log(2))
    assert koleo(torch.ones(2, 3)).item() == pytest.approx(-np.log(1e-4))


def contrast_with_loops(views: np.ndarray, temperature: float) -> float:
    points = views / np.linalg.norm(views, axis=-1, keepdims=True)
    losses = []
    for view, b in np.ndindex(points.shape[:2]):
        others = [points[v, c] for v, c in np.ndindex(points.shape[:2]) if c != b]
        against = sum(np.exp(points[view, b] @ other / temperature) for other in others)
        for v in range(len(points)):
            if v != view:
                positive = np.exp(points[view, b] @ points[v, b] / temperature)
                losses.append(-np.log(positive / (positive + against)))
    return float(np.mean(losses))


@pytest.mark.parametrize("num_views", [2, 3])
def test_contrast_is_the_formula_with_loops(num_views: int) -> None:
    views = torch.randn(num_views, 7, 5, dtype=torch.float64)
    expected = contrast_with_loops(views.numpy(), 0.2)
    assert contrast(views, 0.2).item() == pytest.approx(expected, rel=1e-9)
    assert torch.autograd.gradcheck(lambda given: contrast(given, 0.2), views.requires_grad_())


def test_contrast_of_two_views_is_cross_entropy_over_the_rest_of_the_batch() -> None:
    views = torch.randn(2, 9, 6)
    points = torch.nn.functional.normalize(views.flatten(0, 1), dim=-1)
    logits = (points @ points.T / 0.05).fill_diagonal_(-torch.inf)
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(18).roll(9))
    torch.testing.assert_close(contrast(views, 0.05), expected)


def test_contrast_neither_over_nor_underflows_in_half_precision() -> None:
    points = torch.eye(4).repeat(2, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        best, worst = contrast(points.bfloat16(), 0.001), contrast(torch.stack([points[0], -points[0]]).half(), 0.001)
    assert best.item() == pytest.approx(0.0, abs=1e-6)
    assert worst.item() == pytest.approx(1000 + np.log(6), rel=1e-3)


def test_frobenius_is_the_formula_with_loops() -> None:
    rows = torch.randn(2, 10, 4, dtype=torch.float64) + 0.5
    columns = rows.flatten(0, 1).numpy().T
    cosines = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in columns] for a in columns]
    expected = 0.5 * np.log(4 + sum(cosines[i][j] ** 2 for i in range(4) for j in range(4) if i != j))
    assert frobenius(rows).item() == pytest.approx(expected, rel=1e-9)
    assert frobenius(torch.eye(4)[None]).item() == pytest.approx(0.5 * np.log(4))
    assert torch.autograd.gradcheck(frobenius, rows.requires_grad_())


@pytest.mark.parametrize("num_utterances", [4, 9])
def test_coding_rate_is_the_log_determinant_also_with_fewer_utterances_than_dimensions(num_utterances: int) -> None:
    views = torch.randn(2, num_utterances, 6, dtype=torch.float64)
    views = torch.nn.functional.normalize(views, dim=-1)
    scale = 6 / (num_utterances * 0.5)
    rates = [0.5 * np.linalg.slogdet(np.eye(6) + scale * z.T @ z).logabsdet for z in views.numpy()]
    expected = -(6 + num_utterances) / (6 * num_utterances) * np.mean(rates)
    assert coding_rate(views, 0.5).item() == pytest.approx(expected, rel=1e-9)
    assert torch.autograd.gradcheck(lambda given: coding_rate(given, 0.5), views.requires_grad_())


def test_coding_rate_is_best_where_points_are_at_right_angles_and_worst_where_they_are_one() -> None:
    apart, one = torch.eye(5)[None], torch.eye(5)[:1].repeat(5, 1)[None]
    assert coding_rate(apart, 0.5).item() == pytest.approx(-10 / 25 * 2.5 * np.log(3), rel=1e-5)
    assert coding_rate(one, 0.5).item() == pytest.approx(-10 / 25 * 0.5 * np.log(11), rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert coding_rate(apart, 0.5).dtype == torch.float32


def test_mean_entropy_is_scipys_and_falls_as_prototypes_share_the_utterances() -> None:
    shares = torch.softmax(torch.randn(2, 6, 10, dtype=torch.float64), dim=-1)
    expected = np.log(10) - entropy(shares.flatten(0, 1).mean(0).numpy())
    assert mean_entropy(shares).item() == pytest.approx(expected, rel=1e-9)
    assert mean_entropy(torch.eye(4)).item() == pytest.approx(0.0, abs=1e-6), "one-hot, but evenly"
    assert mean_entropy(torch.eye(4)[:1].repeat(3, 1)).item() == pytest.approx(np.log(4))
    assert torch.autograd.gradcheck(mean_entropy, shares.requires_grad_())
