"""What must hold of figures, crops, folds, schedules, targets and whitening whatever they are given."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from dino_speech import metrics
from dino_speech.audio.crops import MultiCrop
from dino_speech.audio.io import seconds_to_samples
from dino_speech.data.folds import speaker_folds
from dino_speech.dino.centering import Center, sinkhorn_targets, softmax_targets
from dino_speech.dino.loss import DINOLoss
from dino_speech.dino.regularizers import koleo
from dino_speech.errors import InputError
from dino_speech.models.whitening import Whitening
from dino_speech.training.schedules import RunLength, cosine, linear_warmup, warmup_cosine

Trials = tuple[np.ndarray, np.ndarray]
seeds = st.integers(0, 2**31)
# Quarters: ties are frequent, and cubes of them exact.
trials = (
    st.lists(st.tuples(st.integers(-12, 12), st.booleans()), min_size=2, max_size=40)
    .filter(lambda rows: len({kind for _, kind in rows}) == 2)
    .map(lambda rows: (np.array([score / 4 for score, _ in rows]), np.array([int(kind) for _, kind in rows])))
)
FIGURES = [metrics.eer, metrics.min_dcf, metrics.min_cllr, metrics.auc]


@given(trials, seeds)
def test_figures_see_only_the_order_of_the_scores(given_trials: Trials, seed: int) -> None:
    scores, labels = given_trials
    order = np.random.default_rng(seed).permutation(len(scores))
    for figure in FIGURES:
        found = figure(scores, labels)
        assert figure(scores[order], labels[order]) == pytest.approx(found, abs=1e-9)
        assert figure(scores**3 + 2 * scores - 7, labels) == pytest.approx(found, abs=1e-9)


@given(trials)
def test_the_two_kinds_of_trials_are_mirror_images(given_trials: Trials) -> None:
    scores, labels = given_trials
    assert metrics.eer(-scores, 1 - labels) == pytest.approx(metrics.eer(scores, labels), abs=1e-9)
    assert metrics.eer(-scores, labels) == pytest.approx(100 - metrics.eer(scores, labels), abs=1e-9)
    pairs = scores[labels == 1][:, None] - scores[labels == 0]
    assert metrics.auc(scores, labels) == pytest.approx(np.mean((pairs > 0) + (pairs == 0) / 2), abs=1e-12)
    swapped = metrics.min_dcf(-scores, 1 - labels, p_target=0.3, cost_miss=2, cost_false_alarm=5)
    assert swapped == pytest.approx(metrics.min_dcf(scores, labels, p_target=0.7, cost_miss=5, cost_false_alarm=2))


@given(trials, st.floats(0.01, 0.99), st.floats(0.1, 10), st.floats(0.1, 10))
def test_costs_lie_within_their_bounds(given_trials: Trials, p_target: float, miss: float, alarm: float) -> None:
    scores, labels = given_trials
    costs = {"p_target": p_target, "cost_miss": miss, "cost_false_alarm": alarm}
    minimum = metrics.min_dcf(scores, labels, **costs)
    assert 0 <= minimum <= 1
    assert minimum <= metrics.act_dcf(scores, labels, **costs) + 1e-12
    doubled = {**costs, "cost_miss": 2 * miss, "cost_false_alarm": 2 * alarm}
    assert metrics.min_dcf(scores, labels, **doubled) == pytest.approx(minimum)
    assert 0 <= metrics.min_cllr(scores, labels) <= min(1, metrics.cllr(scores, labels)) + 1e-12
    assert 0 <= metrics.eer(scores, labels) <= 100


@given(trials, seeds)
def test_a_weight_is_a_repetition(given_trials: Trials, seed: int) -> None:
    scores, labels = given_trials
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 4, len(scores))
    repeated = scores.repeat(weights), labels.repeat(weights)
    assume(len(set(repeated[1].tolist())) == 2)
    for figure in (*FIGURES, metrics.act_dcf, metrics.cllr):
        assert figure(scores, labels, weights=weights) == pytest.approx(figure(*repeated), abs=1e-9)
    predicted = rng.integers(0, 3, len(labels))
    for judge in (metrics.uar, metrics.macro_f1, metrics.accuracy, metrics.ccc):
        expected = judge(repeated[1], predicted.repeat(weights))
        assert judge(labels, predicted, weights=weights) == pytest.approx(expected, abs=1e-9)
        assert -1 - 1e-12 <= expected <= 1 + 1e-12
        assert judge(labels, labels) == pytest.approx(1)


@st.composite
def crops(draw: st.DrawFn) -> MultiCrop:
    short_s = draw(st.integers(1, 30)) / 100
    long_s = short_s + draw(st.integers(0, 30)) / 100
    disjoint = draw(st.booleans())
    spare_s = draw(st.one_of(st.none(), st.integers(0, 50)))
    excerpt_s = None if spare_s is None else long_s + disjoint * short_s + spare_s / 100 + 1e-6
    views = {"num_long": draw(st.integers(1, 3)), "num_short": draw(st.integers(1, 3))}
    return MultiCrop(**views, long_s=long_s, short_s=short_s, disjoint=disjoint, excerpt_s=excerpt_s, min_s=1e-4)


@given(crops(), st.integers(2, 20_000), seeds)
def test_every_view_lies_in_the_file(multi_crop: MultiCrop, num_samples: int, seed: int) -> None:
    plan = multi_crop.plan(num_samples, torch.Generator().manual_seed(seed))
    assert 0 <= plan.start < plan.stop <= num_samples
    lengths = [multi_crop.long_samples] * multi_crop.num_long + [multi_crop.short_samples] * multi_crop.num_short
    assert [length for _, length in plan.views] == lengths
    heard = num_samples
    if multi_crop.excerpt_s is not None:
        heard = min(num_samples, seconds_to_samples(multi_crop.excerpt_s))
        assert plan.stop - plan.start <= heard
    spans = [(first, first + length) for first, length in plan.views]
    for (first, stop), length in zip(spans, lengths, strict=True):
        assert 0 <= first < plan.stop - plan.start
        assert stop <= plan.stop - plan.start or length > heard  # only what is longer than all there is wraps
    if multi_crop.disjoint and heard >= multi_crop.long_samples + multi_crop.short_samples:
        long, short = spans[: multi_crop.num_long], spans[multi_crop.num_long :]
        assert all(a[1] <= b[0] or b[1] <= a[0] for a in long for b in short)
        assert max(b for _, b in long) <= min(a for a, _ in short) or max(b for _, b in short) <= min(
            a for a, _ in long
        )
    # What is read of the file gives the views of the whole file: a ramp shows where each sample came from.
    wave = torch.arange(float(num_samples))
    for view, (first, length) in zip(
        [v for part in multi_crop.cut(wave[plan.start : plan.stop], plan) for v in part], plan.views, strict=True
    ):
        expected = plan.start + (first + torch.arange(length)) % (plan.stop - plan.start)
        assert torch.equal(view, expected.float())


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=2, max_size=60), st.integers(2, 6), seeds)
def test_folds_cover_all_and_share_no_speaker(rows: list[tuple[int, int]], num_folds: int, seed: int) -> None:
    speakers, classes = [f"s{speaker}" for speaker, _ in rows], [f"c{kind}" for _, kind in rows]
    for kinds in (None, classes):
        try:
            folds = speaker_folds(speakers, kinds, num_folds=num_folds, seed=seed)
        except InputError:
            # Without classes only too few speakers are a reason.
            assert kinds is not None or len(set(speakers)) < num_folds
            continue
        assert sorted(i for _, test in folds for i in test.tolist()) == list(range(len(rows)))
        for train, test in folds:
            assert sorted([*train.tolist(), *test.tolist()]) == list(range(len(rows)))
            assert not {speakers[i] for i in train} & {speakers[i] for i in test}
            assert kinds is None or {kinds[i] for i in train} == set(kinds)


@given(st.integers(1, 500), st.integers(0, 600), st.floats(-1, 1), st.floats(-1, 1))
def test_schedules_go_from_one_end_to_the_other(num_steps: int, step: int, start: float, stop: float) -> None:
    low, high = min(start, stop) - 1e-12, max(start, stop) + 1e-12
    for schedule in (linear_warmup, cosine):
        here, next_ = (schedule(s, num_steps, start, stop) for s in (step, step + 1))
        assert low <= here <= high
        assert (next_ - here) * (stop - start) >= -1e-15
        assert schedule(0, num_steps, start, stop) == pytest.approx(start)
        assert schedule(num_steps + step, num_steps, start, stop) == pytest.approx(stop)
    warmup_steps = step % num_steps
    peak = warmup_cosine(warmup_steps, num_steps, stop, start, warmup_steps=warmup_steps, start=start)
    assert peak == pytest.approx(stop)
    assert low <= warmup_cosine(step, num_steps, stop, start, warmup_steps=warmup_steps, start=start) <= high


@given(st.integers(1, 10_000), st.integers(1, 5_000), st.integers(1, 256), st.integers(1, 300))
def test_lengths_say_the_same_in_every_unit(num_steps: int, per_epoch: int, batch: int, count: int) -> None:
    run = RunLength(num_steps, per_epoch, batch)
    assert run.count(count) == run.count(f"{count} steps") == run.count(f"{count * batch} utterances") == count
    assert run.count(f"{count} epochs") == count * per_epoch
    share = (count - 1) / 300
    assert run.count(share) == run.count(f"{100 * share:.10f} %")
    assert run.count(share) <= share * num_steps + 1e-6 < run.count(share) + 1 + 1e-6


logits_of = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(2, 40), seeds)


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(logits_of, st.integers(0, 3), st.sampled_from([0.05, 0.1, 1.0]))
def test_the_loss_is_the_mean_over_pairs_of_different_views(sizes: tuple, num_short: int, temperature: float) -> None:
    num_long, batch, dim, seed = sizes
    assume(num_long + num_short > 1)
    student = drawn(num_long + num_short, batch, dim, seed=seed)
    targets = softmax_targets(drawn(num_long, batch, dim, seed=seed + 1), None, 0.04)
    criterion = DINOLoss(num_long=num_long, student_temperature=temperature)
    pairs = [
        -(targets[teacher, b] * torch.log_softmax(student[view, b] / temperature, 0)).sum()
        for teacher in range(num_long)
        for view in range(num_long + num_short)
        for b in range(batch)
        if view != teacher
    ]
    loss = criterion(student, targets)
    torch.testing.assert_close(loss, torch.stack(pairs).mean())
    # A shift of a row's logits says nothing; prototypes and utterances may change places.
    order = torch.randperm(dim, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(criterion(student + 5, targets), loss)
    torch.testing.assert_close(criterion(student[..., order], targets[..., order]), loss)
    torch.testing.assert_close(criterion(student.flip(1), targets.flip(1)), loss)


@given(logits_of, st.sampled_from([0.03, 0.1, 1.0]))
def test_targets_are_distributions_and_sinkhorn_shares_the_prototypes(sizes: tuple, temperature: float) -> None:
    views, batch, dim, seed = sizes
    logits = drawn(views, batch, dim, seed=seed)
    for targets in (softmax_targets(logits, logits.mean((0, 1)), temperature), sinkhorn_targets(logits, temperature)):
        torch.testing.assert_close(targets.sum(-1), torch.ones(views, batch, dtype=torch.float64))
        assert (targets >= 0).all()
    even = sinkhorn_targets(logits, 1.0, num_iterations=50).flatten(0, 1)
    torch.testing.assert_close(
        even.sum(0), torch.full((dim,), views * batch / dim, dtype=torch.float64), rtol=1e-3, atol=1e-6
    )
    torch.testing.assert_close(
        sinkhorn_targets(logits.flip(1), temperature), sinkhorn_targets(logits, temperature).flip(1)
    )


@given(logits_of, st.floats(0, 1), st.integers(1, 5))
def test_the_center_does_not_know_micro_batches(sizes: tuple, momentum: float, size: int) -> None:
    views, batch, dim, seed = sizes
    logits = drawn(views, batch, dim, seed=seed).float()
    whole, parts = Center(dim, momentum=momentum), Center(dim, momentum=momentum)
    whole.accumulate(logits)
    for part in logits.split(size, dim=1):
        parts.accumulate(part)
    for center in (whole, parts):
        center.step()
    torch.testing.assert_close(parts.value, whole.value, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(whole.value, (1 - momentum) * logits.mean((0, 1)), atol=1e-6, rtol=1e-5)


@given(st.integers(2, 8), st.integers(2, 6), seeds, st.floats(0.1, 100))
def test_koleo_sees_directions_alone(batch: int, dim: int, seed: int, scale: float) -> None:
    points = drawn(batch, dim, seed=seed)
    unit = points / points.norm(dim=1, keepdim=True)
    nearest = (torch.cdist(unit, unit) + 9 * torch.eye(batch)).min(1).values
    expected = -torch.log((nearest.square() + 1e-8).sqrt()).mean()
    for embeddings in (points, scale * points, points.flip(0), torch.stack([points, points.flip(0)])):
        torch.testing.assert_close(koleo(embeddings), expected, rtol=1e-5, atol=1e-6)


@given(st.integers(1, 8), seeds, st.floats(0.1, 1000))
def test_whitened_embeddings_have_a_unit_covariance(dim: int, seed: int, scale: float) -> None:
    mixed = (
        scale * drawn(20 * dim + 20, dim, seed=seed) @ (drawn(dim, dim, seed=seed + 1) + 3 * torch.eye(dim)) + 5
    ).float()
    spread = torch.linalg.cond(torch.cov(mixed.T.double()).reshape(dim, dim))
    assume(float(spread) < 1e4)  # float32 holds no more
    whitening = Whitening(dim)
    whitening.fit(mixed, shrinkage=0.0)
    white = whitening(mixed).double()
    torch.testing.assert_close(
        torch.cov(white.T).reshape(dim, dim), torch.eye(dim, dtype=torch.float64), atol=2e-2, rtol=0
    )
    torch.testing.assert_close(white.mean(0), torch.zeros(dim, dtype=torch.float64), atol=1e-2, rtol=0)
    # ZCA: the map is symmetric, so it turns nothing.
    torch.testing.assert_close(whitening.projection, whitening.projection.T)
    whitening.fit(mixed, shrinkage=1.0)
    factor = whitening.projection[0, 0]
    torch.testing.assert_close(whitening.projection, factor * torch.eye(dim), atol=1e-6 * float(factor), rtol=1e-5)
    assert math.isfinite(float(factor))
