"""Canonical correlations against scikit-learn, and what cross-validation is for."""

import numpy as np
import pytest

from dino_speech.data.folds import speaker_folds
from dino_speech.evaluation.layers.cca import CCA, SplitView, View, column_correlations, within_speakers


@pytest.fixture
def views() -> tuple[np.ndarray, np.ndarray]:
    """(400, 7) and (400, 4) that share three sources with much, some and little noise."""
    rng = np.random.default_rng(0)
    sources = rng.standard_normal((400, 3))
    noise = np.array([0.1, 1.0, 3.0])
    x = (sources + noise * rng.standard_normal((400, 3))) @ rng.standard_normal((3, 7))
    y = sources @ rng.standard_normal((3, 4)) + 0.3 * rng.standard_normal((400, 4))
    return 5 * x + 0.5 * rng.standard_normal((400, 7)) + 2, 0.01 * y - 1


def test_correlations_are_scikit_learns(views: tuple[np.ndarray, np.ndarray]) -> None:
    from sklearn import cross_decomposition

    x, y = views
    ours = CCA().fit(View.of(x), View.of(y))
    theirs = cross_decomposition.CCA(n_components=4, max_iter=10_000, tol=1e-12).fit(x, y)
    projected = theirs.transform(x, y)
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(*(side.T for side in projected), strict=True)]
    np.testing.assert_allclose(ours.correlations_, expected, atol=1e-4)
    found = column_correlations(*ours.project(x, y), np.ones(400))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    # Unseen utterances are projected alike.
    rng = np.random.default_rng(1)
    new_x, new_y = x[:50] + rng.standard_normal((50, 7)), y[:50] + 0.01 * rng.standard_normal((50, 4))
    reference = [np.corrcoef(a, b)[0, 1] for a, b in zip(*(s.T for s in theirs.transform(new_x, new_y)), strict=True)]
    np.testing.assert_allclose(column_correlations(*ours.project(new_x, new_y), np.ones(50)), reference, atol=1e-3)


def test_importance_is_the_projection_weight_of_its_definition(views: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = views
    cca = CCA().fit(View.of(x), View.of(y))
    standard = (y - y.mean(0)) / y.std(0)
    directions = cca.project(x, y)[1]
    directions = directions / np.linalg.norm(directions, axis=0)
    expected = np.array([sum((h @ column) ** 2 for column in standard.T) for h in directions.T])
    np.testing.assert_allclose(cca.importance_, expected / (standard**2).sum(), atol=1e-10)


def test_weighted_correlation_counts_an_utterance_as_often_as_its_weight() -> None:
    rng = np.random.default_rng(0)
    x, y, weights = rng.standard_normal((30, 2)), rng.standard_normal((30, 2)), rng.integers(0, 3, 30)
    x[:, 1] = 3.0
    found = column_correlations(x, y, weights.astype(float))
    repeated = np.repeat(np.arange(30), weights)
    assert found[0] == pytest.approx(np.corrcoef(x[repeated, 0], y[repeated, 0])[0, 1])
    assert found[1] == 0.0


def test_only_what_is_shared_is_found_on_other_speakers() -> None:
    rng = np.random.default_rng(0)
    speakers = np.repeat(np.arange(12), 10).astype(str)
    folds = speaker_folds(speakers.tolist(), num_folds=4)
    layer = rng.standard_normal((120, 90))
    view = SplitView(layer, folds, speakers)
    shared = layer[:, :3] @ rng.standard_normal((3, 3))
    in_training = CCA(1e-3).fit(View.of(layer), View.of(rng.standard_normal((120, 20))))
    assert in_training.correlations_[:10].min() > 0.8  # on noise: what no cross-validation would believe
    noise = view.compare(rng.standard_normal((120, 20))).value()
    assert abs(noise) < 0.2
    assert view.compare(shared).value() > 0.6
    assert view.compare(shared + 3 * rng.standard_normal(shared.shape)).value() < view.compare(shared).value()


def test_constant_and_repeated_columns_change_nothing() -> None:
    rng = np.random.default_rng(0)
    speakers = np.repeat(np.arange(10), 10).astype(str)
    folds = speaker_folds(speakers.tolist(), num_folds=3)
    x = rng.standard_normal((100, 5))
    y = x[:, :2] + 0.1 * rng.standard_normal((100, 2))
    plain = SplitView(x, folds, speakers).compare(y).value()
    padded = np.hstack([x, np.full((100, 1), 7.0)])
    assert SplitView(padded, folds, speakers).compare(y).value() == pytest.approx(plain, abs=1e-6)
    assert SplitView(x, folds, speakers).compare(np.zeros((100, 2))).value() == 0.0
    assert np.isnan(SplitView(x, folds, speakers).compare(y).value(np.zeros(100)))


def test_what_is_not_reached_counts_in_a_narrow_layer_as_in_a_wide_one() -> None:
    """A layer that holds 5 of 40 descriptors says an eighth of them, whatever else it holds."""
    rng = np.random.default_rng(0)
    speakers = np.repeat(np.arange(100), 8).astype(str)
    folds = speaker_folds(speakers.tolist(), num_folds=4)
    descriptors = rng.standard_normal((800, 40))
    narrow = descriptors[:, :5]
    wide = np.hstack([narrow, rng.standard_normal((800, 35))])
    assert SplitView(narrow, folds, speakers).compare(descriptors).value() == pytest.approx(5 / 40, abs=0.03)
    assert SplitView(wide, folds, speakers).compare(descriptors).value() == pytest.approx(5 / 40, abs=0.03)
    assert SplitView(descriptors, folds, speakers).compare(descriptors).value() == pytest.approx(1.0, abs=0.01)


def test_similarity_within_speakers_is_not_who_speaks() -> None:
    """A layer that knows the speakers' mean pitch only, and one that follows it from utterance to utterance."""
    rng = np.random.default_rng(0)
    speakers = np.repeat(np.arange(40), 10).astype(str)
    folds = speaker_folds(speakers.tolist(), num_folds=4)
    voice, moves = np.repeat(rng.choice([-3.0, 3.0], 40), 10), rng.standard_normal(400)
    pitch = (voice + moves)[:, None]
    for layer, between, within in ((voice, 0.9, 0.0), (voice + moves, 0.95, 0.95)):
        noisy = layer[:, None] + 0.1 * rng.standard_normal((400, 1))
        assert SplitView(noisy, folds, speakers).compare(pitch).value() > between
        centred = SplitView(within_speakers(noisy, speakers), folds, speakers)
        assert centred.compare(within_speakers(pitch, speakers)).value() == pytest.approx(within, abs=0.15)
