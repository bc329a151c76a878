"""Every metric against an independent computation: by hand, a slow loop, or scikit-learn."""

import numpy as np
import pytest
import scipy.stats
from scipy.optimize import brentq
from sklearn import metrics as reference
from sklearn.isotonic import IsotonicRegression

from dino_speech import metrics
from dino_speech.errors import InputError


def trials(num: int = 500, *, decimals: int | None = None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(num) < 0.3).astype(np.int8)
    scores = rng.standard_normal(num) + 1.5 * labels
    return (scores if decimals is None else scores.round(decimals)), labels


def test_eer_by_hand_on_six_scores() -> None:
    # Accepting from 0.7 up: one target of three missed (0.3), one non-target of three accepted (0.7).
    assert metrics.eer([0.9, 0.8, 0.3, 0.7, 0.2, 0.1], [1, 1, 1, 0, 0, 0]) == pytest.approx(100 / 3)
    assert metrics.eer([0.9, 0.8, 0.7, 0.3, 0.2, 0.1], [1, 1, 1, 0, 0, 0]) == 0.0
    assert metrics.eer([0.1, 0.2, 0.3, 0.7, 0.8, 0.9], [1, 1, 1, 0, 0, 0]) == 100.0


def test_eer_by_hand_with_ties() -> None:
    # 0.5 is held by one target and two non-targets. Points (p_miss, p_false_alarm): above the tie (2/3, 0), after
    # accepting the tie (1/3, 2/3); the straight line between them meets the diagonal at 4/9.
    scores, labels = np.array([0.9, 0.5, 0.1, 0.5, 0.5, 0.0]), np.array([1, 1, 1, 0, 0, 0])
    assert metrics.eer(scores, labels) == pytest.approx(400 / 9)
    for order in (np.arange(6)[::-1], np.array([4, 1, 5, 3, 0, 2])):
        assert metrics.eer(scores[order], labels[order]) == pytest.approx(400 / 9)
    assert metrics.eer(np.zeros(6), labels) == pytest.approx(50.0)  # a constant score knows nothing


@pytest.mark.parametrize("decimals", [None, 1, 0])
@pytest.mark.parametrize("seed", range(5))
def test_eer_equals_the_interpolated_roc_of_sklearn(decimals: int | None, seed: int) -> None:
    scores, labels = trials(300, decimals=decimals, seed=seed)
    p_false_alarm, p_hit, _ = reference.roc_curve(labels, scores, drop_intermediate=False)
    expected = brentq(lambda x: 1 - x - np.interp(x, p_false_alarm, p_hit), 0, 1, xtol=1e-14)
    assert metrics.eer(scores, labels) == pytest.approx(100 * expected, abs=1e-9)
    assert metrics.auc(scores, labels) == pytest.approx(reference.roc_auc_score(labels, scores), abs=1e-12)


def test_eer_threshold_splits_the_trials_at_the_eer() -> None:
    scores, labels = trials(4000)
    threshold = metrics.det_curve(scores, labels).eer_threshold()
    rates = np.mean(scores[labels == 1] < threshold), np.mean(scores[labels == 0] >= threshold)
    assert 100 * np.array(rates) == pytest.approx(metrics.eer(scores, labels), abs=0.2)
    assert metrics.det_curve([1.0, 0.0], [1, 0]).eer_threshold() == 1.0  # a perfect list is split without an error


def slow_min_dcf(scores: np.ndarray, labels: np.ndarray, p: float, miss: float, false_alarm: float) -> float:
    costs = []
    for threshold in [*sorted(set(scores)), np.inf]:
        p_miss = sum(s < threshold for s in scores[labels == 1]) / sum(labels == 1)
        p_false_alarm = sum(s >= threshold for s in scores[labels == 0]) / sum(labels == 0)
        costs.append(miss * p * p_miss + false_alarm * (1 - p) * p_false_alarm)
    return min(costs) / min(miss * p, false_alarm * (1 - p))


@pytest.mark.parametrize("decimals", [None, 1])
@pytest.mark.parametrize(("p", "miss", "false_alarm"), [(0.01, 1, 1), (0.05, 1, 1), (0.5, 1, 1), (0.9, 10, 1)])
def test_min_dcf_equals_a_loop_over_thresholds(decimals: int | None, p: float, miss: float, false_alarm: float) -> None:
    scores, labels = trials(120, decimals=decimals)
    costs = {"p_target": p, "cost_miss": miss, "cost_false_alarm": false_alarm}
    found = metrics.min_dcf(scores, labels, **costs)
    assert found == pytest.approx(slow_min_dcf(scores, labels, p, miss, false_alarm), abs=1e-12)
    assert found <= 1.0


def test_act_dcf_of_calibrated_ratios_is_near_its_minimum_and_a_shift_costs() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat([1, 0], 20_000)
    # Unit-variance normals at +1 and -1: the log-likelihood ratio of x is 2x.
    ratios = 2 * (rng.standard_normal(40_000) + np.where(labels == 1, 1.0, -1.0))
    for p_target in (0.05, 0.5):
        minimum, actual = (f(ratios, labels, p_target=p_target) for f in (metrics.min_dcf, metrics.act_dcf))
        assert minimum <= actual < 1.05 * minimum
        assert metrics.act_dcf(ratios + 3, labels, p_target=p_target) > 1.2 * minimum
    by_hand = np.mean(ratios[labels == 1] < np.log(99)) + 99 * np.mean(ratios[labels == 0] >= np.log(99))
    assert metrics.act_dcf(ratios, labels) == pytest.approx(by_hand, rel=1e-12)
    assert metrics.min_cllr(ratios, labels) <= metrics.cllr(ratios, labels) < metrics.min_cllr(ratios, labels) + 0.01


def test_cllr_by_hand() -> None:
    assert metrics.cllr([0.0, 0.0, 0.0], [1, 0, 0]) == pytest.approx(1.0)
    assert metrics.cllr([np.inf, -np.inf], [1, 0]) == 0.0
    expected = 0.5 * (np.log2(1 + np.exp(-2.0)) + (np.log2(1 + np.exp(-1.0)) + np.log2(1 + np.exp(0.5))) / 2)
    assert metrics.cllr([2.0, -1.0, 0.5], [1, 0, 0]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("decimals", [None, 1, 0])
def test_min_cllr_equals_cllr_after_sklearns_isotonic_regression(decimals: int | None) -> None:
    scores, labels = trials(400, decimals=decimals, seed=5)
    posterior = IsotonicRegression(y_min=0, y_max=1).fit(scores, labels).predict(scores)
    with np.errstate(divide="ignore"):
        ratios = np.log(posterior / (1 - posterior)) - np.log(labels.mean() / (1 - labels.mean()))
    assert metrics.min_cllr(scores, labels) == pytest.approx(metrics.cllr(ratios, labels), abs=1e-9)
    assert metrics.min_cllr(np.exp(scores), labels) == pytest.approx(metrics.min_cllr(scores, labels), abs=1e-12)
    assert metrics.min_cllr([1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1]) == 0.0
    assert metrics.min_cllr([4.0, 3.0, 2.0, 1.0], [0, 0, 1, 1]) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["eer", "min_dcf", "act_dcf", "cllr", "min_cllr", "auc"])
def test_a_weight_of_n_equals_the_trial_written_n_times(name: str) -> None:
    scores, labels = trials(200, decimals=1, seed=2)
    weights = np.random.default_rng(1).integers(0, 4, size=200)
    metric = getattr(metrics, name)
    repeated = metric(np.repeat(scores, weights), np.repeat(labels, weights))
    assert metric(scores, labels, weights=weights) == pytest.approx(repeated, abs=1e-10)


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.1, np.nan], [1, 0], "1 of 2 scores are not finite, the first at 1"),
        ([0.1, 0.2], [1, 1], "all 2 trials are targets; both are needed"),
        ([0.1, 0.2], [0, 0], "all 2 trials are non-targets"),
        ([0.1, 0.2], [1, 2], "labels must be 1"),
        ([0.1, 0.2, 0.3], [1, 0], "one score per label"),
        ([], [], "at least one"),
    ],
)
def test_bad_trials_are_refused_by_name(scores: list[float], labels: list[int], message: str) -> None:
    for metric in (metrics.eer, metrics.min_dcf, metrics.min_cllr):
        with pytest.raises(InputError, match=message):
            metric(scores, labels)
    with pytest.raises(InputError, match="p_target"):
        metrics.min_dcf([0.1, 0.2], [1, 0], p_target=1.0)


def classes(num: int = 300, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    names = np.array(["angry", "happy", "neutral", "sad"])
    true = names[rng.choice(4, size=num, p=[0.5, 0.3, 0.15, 0.05])]
    return true, np.where(rng.random(num) < 0.6, true, names[rng.integers(3, size=num)])  # "sad" is hardly predicted


@pytest.mark.parametrize("seed", range(3))
def test_classification_metrics_equal_sklearn(seed: int) -> None:
    true, predicted = classes(seed=seed)
    weights = np.random.default_rng(seed).integers(0, 3, size=true.size)
    for w in (None, weights):
        keys = {"sample_weight": w}
        assert metrics.uar(true, predicted, weights=w) == pytest.approx(
            reference.balanced_accuracy_score(true, predicted, **keys)
        )
        assert metrics.micro_f1(true, predicted, weights=w) == pytest.approx(
            reference.f1_score(true, predicted, average="micro", **keys)
        )
        assert metrics.macro_f1(true, predicted, weights=w) == pytest.approx(
            reference.f1_score(true, predicted, average="macro", **keys)
        )
        assert metrics.accuracy(true, predicted, weights=w) == pytest.approx(
            reference.accuracy_score(true, predicted, **keys)
        )


def test_lists_of_different_lengths_are_refused() -> None:
    for metric in (metrics.uar, metrics.accuracy, metrics.macro_f1):
        with pytest.raises(InputError, match="one length"):
            metric(["a"], ["a", "b"])


def test_ccc_by_its_definition() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(100)
    y = 0.7 * x + 0.3 * rng.standard_normal(100) + 0.2
    expected = 2 * np.corrcoef(x, y)[0, 1] * x.std() * y.std() / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    assert metrics.ccc(x, y) == pytest.approx(expected)
    assert metrics.ccc(x, x) == pytest.approx(1.0)
    assert metrics.ccc(x, -x) < 0
    assert metrics.ccc(x, np.zeros(100)) == 0.0
    weights = rng.integers(0, 3, 100)
    assert metrics.ccc(x, y, weights=weights) == pytest.approx(metrics.ccc(x.repeat(weights), y.repeat(weights)))


@pytest.mark.parametrize("decimals", [None, 1])
def test_costs_of_ratios_are_read_off_the_curve(decimals: int | None) -> None:
    scores, labels = trials(400, decimals=decimals, seed=7)
    weights = np.random.default_rng(1).integers(0, 4, size=400)
    curve = metrics.det_curve(scores, labels, weights=weights)
    assert curve.cllr() == pytest.approx(metrics.cllr(scores, labels, weights=weights))
    assert curve.min_cllr() == pytest.approx(metrics.min_cllr(scores, labels, weights=weights))
    for p_target in (0.01, 0.3, 0.9):
        expected = metrics.act_dcf(scores, labels, weights=weights, p_target=p_target)
        assert curve.act_dcf(p_target=p_target) == pytest.approx(expected)


@pytest.mark.parametrize("p_target", [0.01, 0.05])
def test_eer_and_min_dcf_are_speechbrains_to_the_grain_of_its_thresholds(p_target: float) -> None:
    torch = pytest.importorskip("torch")
    from speechbrain.utils.metric_stats import EER, minDCF

    rng = np.random.default_rng(4)
    scores = np.concatenate([rng.normal(1.5, 1, 300), rng.normal(0, 1, 700)])
    labels = np.repeat([1, 0], [300, 700])
    targets, others = torch.tensor(scores[:300]), torch.tensor(scores[300:])
    # It takes the threshold where the two errors are nearest, and does not divide by the cost of deciding blindly.
    assert metrics.eer(scores, labels) == pytest.approx(100 * EER(targets, others)[0], abs=100 * 0.5 / 300)
    expected = minDCF(targets, others, p_target=p_target)[0] / p_target
    assert metrics.min_dcf(scores, labels, p_target=p_target) == pytest.approx(expected, rel=1e-5)


def test_ccc_is_what_scipys_correlation_and_moments_make_it() -> None:
    rng = np.random.default_rng(5)
    true = rng.normal(3, 1.5, 200)
    predicted = 0.6 * true + rng.normal(0.5, 1, 200)
    r = scipy.stats.pearsonr(true, predicted).statistic
    spread = 2 * r * np.std(true) * np.std(predicted)
    moments = [scipy.stats.describe(values, ddof=0) for values in (true, predicted)]
    expected = spread / (sum(m.variance for m in moments) + (moments[0].mean - moments[1].mean) ** 2)
    assert metrics.ccc(true, predicted) == pytest.approx(expected, rel=1e-12)


def test_classes_that_occur_on_one_side_alone() -> None:
    assert metrics.uar(["a", "a"], ["a", "b"]) == 0.5  # nobody was b
    assert metrics.macro_f1(["a", "b"], ["a", "a"]) == pytest.approx(1 / 3)
    assert metrics.macro_f1(["a", "a", "b"], ["a", "a", "b"], weights=[1, 1, 0]) == 1.0


def test_what_has_no_figure_is_refused_and_full_agreement_is_one() -> None:
    for weights in ([1, 0], [0, 1]):
        with pytest.raises(InputError, match="at least one target and one non-target"):
            metrics.eer([1.0, 2.0], [0, 1], weights=weights)
    for lists in (([1.0, 2.0], [1.0]), ([[1.0, 2.0]], [[1.0, 2.0]]), ([1.0], [1.0])):
        with pytest.raises(InputError, match="ccc needs two lists of one length"):
            metrics.ccc(*lists)
    assert metrics.ccc([3.0, 3.0], [3.0, 3.0]) == 1.0


def test_small_unsigned_numbers_are_scores() -> None:
    assert metrics.cllr(np.array([0, 3], np.uint8), [0, 1]) == metrics.cllr([0.0, 3.0], [0, 1])
