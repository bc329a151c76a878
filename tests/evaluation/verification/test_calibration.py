"""Calibration: known likelihood ratios are found again, against a direct minimisation, with and without quality."""

import numpy as np
import pytest
from scipy.optimize import minimize

from dino_speech.errors import InputError
from dino_speech.evaluation.verification.calibration import Calibration, check_measures, trial_quality
from dino_speech.metrics import act_dcf, cllr, min_cllr


def trials(num: int = 20_000, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose ln likelihood ratio is 10 s - 4: unit normals 0.4 apart in the middle of 0.4, deviation 0.2."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num) % 2
    return 0.2 + 0.4 * labels + 0.2 * rng.standard_normal(num), labels


@pytest.mark.parametrize("p_target", [0.5, 0.01])
def test_known_ratios_are_found(p_target: float) -> None:
    scores, labels = trials()
    calibration = Calibration(p_target=p_target).fit(scores, labels)
    assert (calibration.weights_[0], calibration.offset_) == (pytest.approx(10, abs=0.7), pytest.approx(-4, abs=0.4))
    other, kinds = trials(seed=1)
    ratios = calibration.apply(other)
    assert cllr(ratios, kinds) < cllr(other, kinds)
    assert cllr(ratios, kinds) == pytest.approx(min_cllr(other, kinds), abs=0.02)
    assert act_dcf(ratios, kinds) < 1.0 < act_dcf(other + 5, kinds)


def test_equals_minimising_the_prior_weighted_cost() -> None:
    scores, labels = trials(2_000)
    quality = np.random.default_rng(2).standard_normal((2_000, 2)) * [1.0, 30.0] + [0.0, 100.0]
    p, inputs = 0.1, np.column_stack([scores, quality / [1.0, 30.0], np.ones(2_000)])

    def cost(weights: np.ndarray) -> float:
        log_odds = inputs @ weights + np.log(p / (1 - p))
        targets, others = np.logaddexp(0, -log_odds)[labels == 1], np.logaddexp(0, log_odds)[labels == 0]
        return p * targets.mean() + (1 - p) * others.mean()

    expected = minimize(cost, np.zeros(4), options={"gtol": 1e-9}).x
    found = Calibration(p_target=p).fit(scores, labels, quality)
    assert found.weights_ * [1, 1, 30] == pytest.approx(expected[:3], abs=0.02)
    assert found.apply(scores, quality) == pytest.approx(inputs @ expected, abs=0.02)


def test_quality_tells_which_scores_to_trust() -> None:
    rng = np.random.default_rng(3)
    labels, shift = np.arange(8_000) % 2, rng.standard_normal(8_000)
    scores = labels + 0.3 * rng.standard_normal(8_000) + shift  # moved by something that the measure sees
    plain = Calibration(p_target=0.5).fit(scores, labels).apply(scores)
    found = Calibration(p_target=0.5).fit(scores, labels, shift[:, None])
    assert cllr(found.apply(scores, shift[:, None]), labels) < 0.5 * cllr(plain, labels)
    with pytest.raises(InputError, match="0 quality inputs; the calibration has 1"):
        found.apply(scores)


def test_separable_trials_give_finite_ratios() -> None:
    scores, labels = np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1])
    ratios = Calibration().fit(scores, labels).apply(scores)
    assert np.isfinite(ratios).all()
    assert np.all(np.diff(ratios) > 0)


def test_quality_of_a_trial_does_not_depend_on_the_order_of_its_sides() -> None:
    measures = {"duration": np.array([1.0, 2.0, 3.0]), "norm": np.array([5.0, 4.0, 6.0])}
    a, b = np.array([0, 1]), np.array([2, 0])
    found = trial_quality(measures, a, b)
    assert found.tolist() == [[1, 3, 5, 6], [1, 2, 4, 5]]
    np.testing.assert_array_equal(found, trial_quality(measures, b, a))
    assert trial_quality({}, a, b) is None


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match=r"p_target is 1.0; expected a number between 0 and 1"):
        Calibration(p_target=1.0)
    with pytest.raises(InputError, match="all 2 calibration trials are of one kind"):
        Calibration().fit(np.zeros(2), np.ones(2))
    with pytest.raises(InputError, match="1 of 2 trials have inputs that are not finite"):
        Calibration().fit(np.array([1.0, np.nan]), np.array([0, 1]))
    with pytest.raises(InputError, match=r"quality is \['loudness'\]; expected some of duration, norm, cohort"):
        check_measures(["loudness"])
