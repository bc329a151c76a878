"""Margins against SpeechBrain's and against the angle itself; extremes stay finite; concordance against the metric."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dino_speech.errors import InputError
from dino_speech.metrics import ccc
from dino_speech.transfer.heads import LinearHead, MarginHead, balanced_weights, ccc_loss


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(64, 6, generator=generator), torch.randint(5, (64,), generator=generator)


@pytest.mark.parametrize("easy_margin", [False, True])
@pytest.mark.parametrize("margin", [0.0, 0.2, 1.2])
def test_margin_equals_speechbrains(batch, margin: float, easy_margin: bool) -> None:
    from dino_speech.compatibility import require_torchaudio

    require_torchaudio()
    from speechbrain.nnet.losses import AdditiveAngularMargin

    embedding, targets = batch
    head = MarginHead(6, 5, margin=margin, scale=30.0, easy_margin=easy_margin)
    reference = AdditiveAngularMargin(margin=margin, scale=30.0, easy_margin=easy_margin)
    expected = reference(head.cosines(embedding), F.one_hot(targets, 5).float())
    torch.testing.assert_close(head(embedding, targets), expected, rtol=0, atol=2e-5)
    torch.testing.assert_close(head(embedding), 30 * head.cosines(embedding))


def test_margin_is_added_to_the_angle(batch) -> None:
    embedding, targets = batch
    head = MarginHead(6, 5, margin=0.3, scale=1.0)
    angle = head.cosines(embedding).gather(1, targets[:, None]).acos()
    found = head(embedding, targets).gather(1, targets[:, None])
    near = angle < math.pi - 0.3
    torch.testing.assert_close(found[near], (angle[near] + 0.3).cos(), rtol=0, atol=1e-5)


def test_the_margin_lowers_the_true_logit_without_turning_back() -> None:
    head = MarginHead(2, 2, margin=0.5, scale=1.0)
    head.centers.data = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    angles = torch.linspace(0.0, math.pi, 200)
    embedding = torch.stack([angles.cos(), angles.sin()], dim=1)
    with torch.no_grad():
        logits = head(embedding, torch.zeros(200, dtype=torch.long))[:, 0]
    assert (logits.diff() < 1e-6).all()
    assert (logits < angles.cos() + 1e-6).all()


@pytest.mark.parametrize("num_subcenters", [1, 3])
def test_extremes_stay_finite(num_subcenters: int) -> None:
    head = MarginHead(4, 3, num_subcenters=num_subcenters, margin=0.4, scale=64.0)
    center = head.centers.data[0]
    embedding = torch.stack([center, -center, 1e-20 * center, torch.zeros(4), 1e20 * center]).requires_grad_(True)
    F.cross_entropy(head(embedding, torch.zeros(5, dtype=torch.long)), torch.zeros(5, dtype=torch.long)).backward()
    assert embedding.grad.isfinite().all()
    assert head.centers.grad.isfinite().all()


def test_the_nearest_subcenter_counts(batch) -> None:
    embedding, targets = batch
    head = MarginHead(6, 5, num_subcenters=3, margin=0.2, scale=10.0)
    all_cosines = F.normalize(embedding) @ F.normalize(head.centers).T
    for number in range(5):
        nearest = all_cosines[:, 3 * number : 3 * number + 3].max(1).values
        torch.testing.assert_close(head.cosines(embedding)[:, number], nearest)
    single = MarginHead(6, 5, margin=0.2, scale=10.0)
    single.centers.data = head.centers.data[::3].clone()
    head.centers.data = single.centers.data.repeat_interleave(3, dim=0)
    torch.testing.assert_close(head(embedding, targets), single(embedding, targets))


def test_a_schedule_may_set_the_margin(batch) -> None:
    embedding, targets = batch
    head = MarginHead(6, 5, margin=0.4)
    with_margin = head(embedding, targets)
    head.margin = 0.0
    torch.testing.assert_close(head(embedding, targets), head(embedding), rtol=0, atol=1e-4)
    assert not torch.allclose(with_margin, head(embedding))


@pytest.mark.parametrize("options", [{"margin": -0.1}, {"margin": 1.6}, {"scale": 0.0}, {"num_subcenters": 0}])
def test_impossible_margins_are_refused(options) -> None:
    with pytest.raises(InputError, match="expected at least 1"):
        MarginHead(4, 3, **options)


def test_linear_head_does_not_depend_on_the_scale_of_embeddings(batch) -> None:
    embedding, _ = batch
    head = LinearHead(6, 3)
    for _ in range(3):
        head(100 * embedding + 7)
    torch.testing.assert_close(head.norm.running_mean, (100 * embedding + 7).mean(0), rtol=1e-4, atol=1e-2)
    small = LinearHead(6, 3)
    small.load_state_dict(head.state_dict())
    torch.testing.assert_close(head(100 * embedding + 7), small(embedding), rtol=0, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_ccc_loss_equals_the_metric(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true, predicted = rng.standard_normal((2, 40, 3)) * [1, 5, 0.1] + rng.standard_normal((2, 1, 3))
    expected = 1 - np.mean([ccc(true[:, i], predicted[:, i]) for i in range(3)])
    assert ccc_loss(torch.tensor(predicted), torch.tensor(true)).item() == pytest.approx(expected, abs=1e-5)


def test_ccc_loss_of_constants_is_finite() -> None:
    predicted = torch.ones(4, 2, requires_grad=True)
    loss = ccc_loss(predicted, torch.ones(4, 2))
    loss.backward()
    assert loss.isfinite()
    assert predicted.grad.isfinite().all()


def test_balanced_weights_give_each_class_the_same_sum() -> None:
    classes = [0] * 5 + [1] * 2 + [2]
    weights = balanced_weights(classes, 3)[torch.tensor(classes)]
    assert weights.mean().item() == pytest.approx(1)
    for number in range(3):
        assert weights[torch.tensor(classes) == number].sum().item() == pytest.approx(8 / 3)
