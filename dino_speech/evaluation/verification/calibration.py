"""From scores to log-likelihood ratios: a threshold that follows from costs and prior instead of from the test list.

A score is an order only; after a linear logistic calibration on other trials, ln(likelihood ratio) = a score + b
(+ weights times quality measures), and a decision is "accept where the ratio exceeds the prior's odds". Quality
measures say how much the two sides can be trusted. Letters: `T` trials, `Q` quality inputs, `N` utterances.

Source: Brümmer and du Preez, CSL 20 (2006) (prior-weighted logistic regression); Thienpondt, Desplanques and
Demuynck, "The IDLab VoxSRC-20 submission", ICASSP 2021 (quality measures).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.errors import InputError
from dino_speech.evaluation.one_thread import one_thread
from dino_speech.metrics import DetCurve

MEASURES = ("duration", "norm", "cohort")
P_TARGET = 0.01  # as in minDCF of the reports
STRENGTH = 1e4  # ours: C of the logistic regression; only keeps the slope finite where the trials are separable


class Calibration:
    """Linear logistic calibration, prior-weighted: the cost is that of the ratios at odds of `p_target` (0 to 1).

    Learnt by `fit`: `weights_` (1 + Q,), of the score and of each quality input, and `offset_`.
    """

    def __init__(self, *, p_target: float = P_TARGET) -> None:
        if not 0 < p_target < 1:
            raise InputError(f"p_target is {p_target}; expected a number between 0 and 1")
        self.p_target = p_target

    def fit(self, scores: NDArray, labels: NDArray, quality: NDArray | None = None) -> "Calibration":
        """Learn from trials that are not judged: finite scores (T,), labels (T,) (1: target), quality inputs (T, Q).

        Raises:
            InputError: one kind of trial only, or an input that is not finite.
        """
        from sklearn.linear_model import LogisticRegression

        inputs, is_target = _inputs(scores, quality), np.asarray(labels).astype(bool)
        if is_target.all() or not is_target.any():
            raise InputError(f"all {len(is_target)} calibration trials are of one kind; targets and non-targets needed")
        center, scale = inputs.mean(axis=0), inputs.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        shares = np.where(is_target, self.p_target / is_target.sum(), (1 - self.p_target) / (~is_target).sum())
        with one_thread():
            model = LogisticRegression(C=STRENGTH, max_iter=1000, tol=1e-8)
            model.fit((inputs - center) / scale, is_target, sample_weight=shares * len(inputs))
        self.weights_ = model.coef_[0] / scale
        prior_log_odds = np.log(self.p_target / (1 - self.p_target))
        self.offset_ = float(model.intercept_[0] - self.weights_ @ center - prior_log_odds)
        return self

    def apply(self, scores: NDArray, quality: NDArray | None = None) -> NDArray[np.float32]:
        """(T,) natural-log likelihood ratios, from as many inputs as in `fit`."""
        inputs = _inputs(scores, quality)
        if inputs.shape[1] != self.weights_.size:
            raise InputError(f"{inputs.shape[1] - 1} quality inputs; the calibration has {self.weights_.size - 1}")
        return (inputs @ self.weights_ + self.offset_).astype(np.float32)

    def statistics(self) -> dict[str, Callable[[DetCurve], float]]:
        """What judges likelihood ratios at the point they were made for, beside the best that their order allows."""
        costs = {"p_target": self.p_target}
        return {
            **{"cllr": DetCurve.cllr, "min_cllr": DetCurve.min_cllr},
            **{"act_dcf": lambda curve: curve.act_dcf(**costs), "min_dcf": lambda curve: curve.min_dcf(**costs)},
        }

    def describe(self) -> dict[str, Any]:
        """Plain data for a report."""
        return {"p_target": self.p_target, "weights": self.weights_.tolist(), "offset": self.offset_}


def check_measures(names: Sequence[str]) -> tuple[str, ...]:
    """The names, in order and known; anything else is refused."""
    unknown = [name for name in names if name not in MEASURES]
    if unknown or len(set(names)) < len(names):
        raise InputError(f"quality is {list(names)}; expected some of {', '.join(MEASURES)}, each once")
    return tuple(names)


def trial_quality(
    measures: Mapping[str, NDArray], enroll: NDArray[np.integer], test: NDArray[np.integer]
) -> NDArray[np.float64] | None:
    """Quality inputs (T, 2 x measures) of trials between rows `enroll` (T,) and `test` (T,).

    Each measure (N,) of the utterances gives two inputs, its smaller and its larger value of the two sides, so that
    swapping the sides changes nothing. None where there is no measure.
    """
    if not measures:
        return None
    sides = [(values[enroll], values[test]) for values in measures.values()]
    return np.stack([order(*pair) for pair in sides for order in (np.minimum, np.maximum)], axis=1)


def _inputs(scores: NDArray, quality: NDArray | None) -> NDArray[np.float64]:
    columns = [np.asarray(scores, dtype=np.float64)[:, None]]
    inputs = np.concatenate(columns if quality is None else [*columns, np.asarray(quality, dtype=np.float64)], axis=1)
    if not np.isfinite(inputs).all():
        raise InputError(
            f"{int((~np.isfinite(inputs).all(axis=1)).sum())} of {len(inputs)} trials have inputs that are not finite"
        )
    return inputs
