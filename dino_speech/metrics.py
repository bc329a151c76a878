"""Numbers that judge scores and predictions: verification, classification and regression. NumPy, one sort, no loops.

Verification metrics read one object, the `DetCurve` of the trials: the scores are sorted once (`RankedTrials`) and
every operating point comes from two cumulative sums, so that a re-weighting of the same trials (bootstrap, in
`intervals.py`) needs no new sort. `labels` are 1 target / 0 non-target. A trial is accepted where `score >= threshold`;
tied scores are accepted or rejected together. Letters: `N` trials or utterances, `G` distinct scores, `C` classes.
`eer` is in percent; everything else a fraction, or for costs and Cllr the number that the definition gives.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dino_speech.errors import InputError

Floats = NDArray[np.float64]
Weights = ArrayLike | None  # (N,) how often each trial or utterance counts; None: once


@dataclass(frozen=True, eq=False)
class DetCurve:
    """All operating points of a list of scored trials, from "accept all" to "reject all".

    All are (G + 1,): `thresholds` the distinct scores ascending, then infinity; `p_miss` the fraction of targets below
    the threshold, from 0 to 1; `p_false_alarm` that of non-targets at or above it, from 1 to 0.
    """

    thresholds: Floats
    p_miss: Floats
    p_false_alarm: Floats

    def _crossing(self) -> tuple[int, float]:
        """Segment `k - 1 -> k` that holds p_miss = p_false_alarm, and how far along it (0 to 1) the crossing is."""
        difference = self.p_miss - self.p_false_alarm  # never falls: from -1 to 1
        k = int(np.searchsorted(difference, 0.0))
        before, after = difference[k - 1], difference[k]
        return k, float(-before / (after - before))

    def eer(self) -> float:
        """Equal error rate in percent: see `eer`."""
        k, share = self._crossing()
        return float(100 * (self.p_miss[k - 1] + share * (self.p_miss[k] - self.p_miss[k - 1])))

    def eer_threshold(self) -> float:
        """The threshold nearest to the equal error rate (a score of the list: accept at or above it)."""
        k, share = self._crossing()
        return float(self.thresholds[k] if share >= 0.5 and np.isfinite(self.thresholds[k]) else self.thresholds[k - 1])

    def min_dcf(self, **costs: float) -> float:
        """Smallest normalised detection cost over all thresholds: see `min_dcf`."""
        miss, false_alarm = _cost_factors(**costs)
        return float(np.min(miss * self.p_miss + false_alarm * self.p_false_alarm))

    def act_dcf(self, **costs: float) -> float:
        """Normalised detection cost at the Bayes threshold, where the scores are likelihood ratios: see `act_dcf`."""
        miss, false_alarm = _cost_factors(**costs)
        k = int(np.searchsorted(self.thresholds, np.log(false_alarm / miss)))
        return float(miss * self.p_miss[k] + false_alarm * self.p_false_alarm[k])

    def _shares(self) -> tuple[Floats, Floats, Floats]:
        """(G,) each: share of the targets and of the non-targets at each score, and these scores."""
        targets, non_targets = np.diff(self.p_miss), -np.diff(self.p_false_alarm)
        counted = (targets + non_targets) > 0
        return targets[counted], non_targets[counted], self.thresholds[:-1][counted]

    def cllr(self) -> float:
        """Cost in bits, where the scores are finite natural-log likelihood ratios: see `cllr`."""
        targets, non_targets, ratios = self._shares()
        bits = targets @ np.logaddexp(0.0, -ratios) + non_targets @ np.logaddexp(0.0, ratios)
        return float(bits / (2 * np.log(2)))

    def min_cllr(self) -> float:
        """`cllr` after the best monotonic calibration: see `min_cllr`."""
        from scipy.optimize import isotonic_regression

        # Equal weight for the two kinds: posterior odds are then likelihood ratios (PAV does not depend on the prior).
        targets, non_targets, _ = self._shares()
        posterior = isotonic_regression(targets / (targets + non_targets), weights=targets + non_targets).x
        posterior = np.clip(posterior, 0.0, 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):  # a share of zero times an infinite cost counts nothing
            bits = -np.where(targets > 0, targets * np.log2(posterior), 0.0)
            bits -= np.where(non_targets > 0, non_targets * np.log2(1 - posterior), 0.0)
        return float(bits.sum() / 2)

    def auc(self) -> float:
        """Area under the ROC: the chance that a target scores above a non-target, ties counted half."""
        p_hit = 1 - self.p_miss
        return float(np.sum((self.p_false_alarm[:-1] - self.p_false_alarm[1:]) * (p_hit[:-1] + p_hit[1:])) / 2)


class RankedTrials:
    """Trials sorted by score once; each set of weights then gives its `DetCurve` by two cumulative sums.

    Refuses wrong shapes, a score that is not finite, a label other than 0 and 1, and only one kind of trial.
    """

    def __init__(self, scores: ArrayLike, labels: ArrayLike) -> None:
        found, is_target = _check_trials(scores, labels)
        self.order = np.argsort(found)
        self.is_target = is_target[self.order]
        ranked = found[self.order]
        self._last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), ranked.size - 1)  # last trial of each tie
        self._thresholds = np.append(ranked[self._last], np.inf).astype(np.float64)

    def curve(self, weights: NDArray | None = None) -> DetCurve:
        """The curve under `weights` (N,), which are in ranked order (`weights[ranked.order]`); None: all count once."""
        targets = np.cumsum(self.is_target if weights is None else weights * self.is_target)
        trials = np.arange(1, self.order.size + 1) if weights is None else np.cumsum(weights)
        if self._last.size < self.order.size:  # ties: only the end of each step is an operating point
            targets, trials = targets[self._last], trials[self._last]
        non_targets = trials - targets
        if not (targets[-1] > 0 and non_targets[-1] > 0):
            raise InputError("verification metrics need at least one target and one non-target trial")
        p_miss, p_false_alarm = np.zeros(trials.size + 1), np.ones(trials.size + 1)
        np.divide(targets, targets[-1], out=p_miss[1:])
        p_false_alarm[1:] -= non_targets / non_targets[-1]
        return DetCurve(self._thresholds, p_miss, p_false_alarm)


def det_curve(scores: ArrayLike, labels: ArrayLike, *, weights: Weights = None) -> DetCurve:
    """Miss and false-alarm rates at every threshold; `weights` (N,) say how often each trial counts."""
    ranked = RankedTrials(scores, labels)
    return ranked.curve(None if weights is None else np.asarray(weights)[ranked.order])


def eer(scores: ArrayLike, labels: ArrayLike, *, weights: Weights = None) -> float:
    """Equal error rate in PERCENT: where the miss rate equals the false-alarm rate.

    Neighbouring operating points are joined by straight lines; tied scores make one step that moves both rates, so that
    the result does not depend on the order of the file. This is what interpolating scikit-learn's `roc_curve` gives;
    the convex hull (ROCCH) is not taken, it can only be lower.

    Example:
        >>> eer([0.9, 0.8, 0.3, 0.7, 0.2, 0.1], [1, 1, 1, 0, 0, 0])
        33.33333333333333
    """
    return det_curve(scores, labels, weights=weights).eer()


def min_dcf(scores: ArrayLike, labels: ArrayLike, *, weights: Weights = None, **costs: float) -> float:
    """Minimum of the normalised detection cost over all thresholds, "accept all" and "reject all" included.

    cost = (cost_miss p_target p_miss + cost_false_alarm (1 - p_target) p_false_alarm)
           / min(cost_miss p_target, cost_false_alarm (1 - p_target)); 1.0 is a system that looks at nothing.
    `costs` are `p_target` (0.01), `cost_miss` (1) and `cost_false_alarm` (1).

    Source: NIST SRE evaluation plans (2008 on); defaults are the p_target = 0.01 of SRE 2010 and VoxCeleb papers.
    """
    return det_curve(scores, labels, weights=weights).min_dcf(**costs)


def act_dcf(log_likelihood_ratios: ArrayLike, labels: ArrayLike, *, weights: Weights = None, **costs: float) -> float:
    """Normalised detection cost at the Bayes threshold of natural-log likelihood ratios; cosine scores are not those.

    Accepts where llr >= ln(cost_false_alarm (1 - p_target) / (cost_miss p_target)). Never below `min_dcf`.
    """
    ratios, is_target = _check_trials(log_likelihood_ratios, labels, finite=False)
    miss, false_alarm = _cost_factors(**costs)
    accepted = ratios >= np.log(false_alarm / miss)
    p_miss, p_false_alarm = _means_by_kind(~accepted, accepted, is_target, weights)
    return float(miss * p_miss + false_alarm * p_false_alarm)


def cllr(log_likelihood_ratios: ArrayLike, labels: ArrayLike, *, weights: Weights = None) -> float:
    """Cost of natural-log likelihood ratios in bits; 0 is perfect, 1 is a system that always says 0.

    Source: Brümmer and du Preez, "Application-independent evaluation of speaker detection", CSL 20 (2006).
    """
    ratios, is_target = _check_trials(log_likelihood_ratios, labels, finite=False)
    bits = np.logaddexp(0.0, -ratios), np.logaddexp(0.0, ratios)
    return float(_means_by_kind(*bits, is_target, weights).sum() / (2 * np.log(2)))


def min_cllr(scores: ArrayLike, labels: ArrayLike, *, weights: Weights = None) -> float:
    """`cllr` after the best monotonic calibration on the same trials (pool adjacent violators): discrimination alone.

    Source: Brümmer and du Preez, CSL 20 (2006), Sec. 7.
    """
    return det_curve(scores, labels, weights=weights).min_cllr()


def auc(scores: ArrayLike, labels: ArrayLike, *, weights: Weights = None) -> float:
    """Area under the ROC curve, ties counted half."""
    return det_curve(scores, labels, weights=weights).auc()


def uar(true: ArrayLike, predicted: ArrayLike, *, weights: Weights = None) -> float:
    """Unweighted average recall: the mean over the true classes of the fraction recognised (balanced accuracy)."""
    hits, of_true, _ = _class_counts(true, predicted, weights)
    return float(np.mean(hits[of_true > 0] / of_true[of_true > 0]))


def accuracy(true: ArrayLike, predicted: ArrayLike, *, weights: Weights = None) -> float:
    """Fraction of utterances whose class is right."""
    hits, of_true, _ = _class_counts(true, predicted, weights)
    return float(hits.sum() / of_true.sum())


micro_f1 = accuracy  # F1 over all decisions together; with one class per utterance that is the accuracy


def macro_f1(true: ArrayLike, predicted: ArrayLike, *, weights: Weights = None) -> float:
    """Mean of the classes' F1 over all classes that occur, true or predicted."""
    hits, of_true, of_predicted = _class_counts(true, predicted, weights)
    sizes = of_true + of_predicted
    return float(np.mean(2 * hits[sizes > 0] / sizes[sizes > 0]))


def _class_counts(true: ArrayLike, predicted: ArrayLike, weights: Weights) -> Floats:
    """(3, C): utterances recognised, of each class, and called each class.

    scikit-learn's scores give the same, in ten times the time: too slow for thousands of resamples.
    """
    true, predicted = np.asarray(true), np.asarray(predicted)
    if true.shape != predicted.shape or true.ndim != 1 or true.size == 0:
        raise InputError(f"expected two lists of one length, at least 1; found shapes {true.shape}, {predicted.shape}")
    counts = np.ones(true.size) if weights is None else np.asarray(weights, dtype=np.float64)
    names, codes = np.unique(np.concatenate([true, predicted]), return_inverse=True)
    sides = codes.reshape(2, -1)
    counted = ((sides[0], counts * (sides[0] == sides[1])), (sides[0], counts), (sides[1], counts))
    return np.stack([np.bincount(side, weights=w, minlength=names.size) for side, w in counted])


def ccc(true: ArrayLike, predicted: ArrayLike, *, weights: Weights = None) -> float:
    """Concordance correlation coefficient, population moments; 1 only where predictions equal the truth.

    Source: Lin, "A concordance correlation coefficient to evaluate reproducibility", Biometrics 45 (1989).
    """
    x, y = np.asarray(true, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or x.size < 2:
        raise InputError(f"ccc needs two lists of one length, at least 2; found shapes {x.shape} and {y.shape}")
    share = np.ones(x.size) if weights is None else np.asarray(weights, dtype=np.float64)
    share = share / share.sum()
    mean_x, mean_y = share @ x, share @ y
    covariance = share @ ((x - mean_x) * (y - mean_y))
    spread = share @ ((x - mean_x) ** 2 + (y - mean_y) ** 2) + (mean_x - mean_y) ** 2
    return float(2 * covariance / spread) if spread > 0 else 1.0  # both constant and equal: in full agreement


def _check_trials(scores: ArrayLike, labels: ArrayLike, *, finite: bool = True) -> tuple[NDArray, NDArray[np.bool_]]:
    """Scores as floats and labels as booleans, or one clear error."""
    found, kinds = np.asarray(scores), np.asarray(labels)
    found = found if found.dtype.kind == "f" else found.astype(np.float64)
    if found.ndim != 1 or found.shape != kinds.shape or found.size == 0:
        raise InputError(f"expected one score per label, at least one; found shapes {found.shape} and {kinds.shape}")
    is_target = kinds.astype(bool)
    if kinds.dtype != np.bool_ and not np.array_equal(kinds, is_target):
        raise InputError(f"labels must be 1 (target) or 0 (non-target); found {np.unique(kinds)[:5].tolist()}")
    bad = ~np.isfinite(found) if finite else np.isnan(found)
    if bad.any():
        raise InputError(f"{int(bad.sum())} of {found.size} scores are not finite, the first at {int(bad.argmax())}")
    if is_target.all() or not is_target.any():
        raise InputError(f"all {found.size} trials are {'targets' if is_target[0] else 'non-targets'}; both are needed")
    return found, is_target


def _cost_factors(p_target: float = 0.01, cost_miss: float = 1.0, cost_false_alarm: float = 1.0) -> tuple[float, float]:
    """What one unit of p_miss and of p_false_alarm costs after normalisation."""
    miss, false_alarm = cost_miss * p_target, cost_false_alarm * (1 - p_target)
    if not (0 < p_target < 1 and miss > 0 and false_alarm > 0):
        raise InputError(f"expected 0 < p_target < 1, costs > 0; found {p_target}, {cost_miss}, {cost_false_alarm}")
    return miss / min(miss, false_alarm), false_alarm / min(miss, false_alarm)


def _means_by_kind(of_targets: NDArray, of_others: NDArray, is_target: NDArray[np.bool_], weights: Weights) -> Floats:
    """(2,): weighted mean of the first array over targets and of the second over non-targets."""
    counts = np.ones(is_target.size) if weights is None else np.asarray(weights, dtype=np.float64)
    kinds = is_target & (counts > 0), ~is_target & (counts > 0)
    means = (np.average(of[k], weights=counts[k]) for of, k in zip((of_targets, of_others), kinds, strict=True))
    return np.array(list(means))
