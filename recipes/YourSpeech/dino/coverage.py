"""How often do the 95 % intervals of the reports hold the truth? `python coverage.py [--num 1000]`.

Speakers differ (some are recognised well, some badly), and their utterances are drawn from them; of each figure the
truth is that of endlessly many speakers. A corpus is drawn anew each time, and judged by the functions that the
reports use. Prints a Markdown table: by figure and number of speakers, how many intervals in a hundred hold it.
"""

import argparse
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import norm

from dino_speech import metrics
from dino_speech.intervals import (
    CORRELATION,
    PERCENT,
    SHARE,
    Interval,
    bootstrap_interval,
    bootstrap_trials,
)
from dino_speech.metrics import DetCurve

NUM_UTTERANCES, NUM_CLASSES = 30, 4
MANY = 200_000  # speakers, for the truth of a mean over speakers
Draw = Callable[[np.random.Generator, int, dict], tuple[Interval, float]]  # interval, truth


def uar(rng: np.random.Generator, num: int, options: dict, *, easy: float = 0.5, spread: float = 1.0):
    """Classes, each speaker's recognised with a rate of its own."""
    true, speakers, (said,) = _classes(rng, num, [easy], spread)
    found = bootstrap_interval(lambda w: metrics.uar(true, said, weights=w), speakers, bounds=SHARE, **options)
    return found, _mean_rate(easy, spread)


def uar_easy(rng: np.random.Generator, num: int, options: dict):
    """The same of a system that is nearly always right: often all of few speakers are."""
    return uar(rng, num, options, easy=4.5, spread=0.7)


def difference(rng: np.random.Generator, num: int, options: dict):
    """The UAR of one system less that of another, on the same speakers."""
    true, speakers, (one, other) = _classes(rng, num, [0.9, 0.5], 1.0)
    found = bootstrap_interval(
        lambda w: metrics.uar(true, one, weights=w) - metrics.uar(true, other, weights=w), speakers, **options
    )
    return found, _mean_rate(0.9, 1.0) - _mean_rate(0.5, 1.0)


def ccc(rng: np.random.Generator, num: int, options: dict):
    """Numbers that each speaker's are predicted with an offset and an error of the speaker's own."""
    speakers = np.repeat(np.arange(num), NUM_UTTERANCES)
    true = 0.5 * rng.standard_normal(num)[speakers] + rng.standard_normal(speakers.size)
    said = 0.7 * true + 0.4 * rng.standard_normal(num)[speakers] + 0.6 * rng.standard_normal(speakers.size)
    found = bootstrap_interval(lambda w: metrics.ccc(true, said, weights=w), speakers, bounds=CORRELATION, **options)
    variance = 0.5**2 + 1
    return found, 2 * 0.7 * variance / (variance + 0.7**2 * variance + 0.4**2 + 0.6**2)


def auc(rng: np.random.Generator, num: int, options: dict):
    """One number per person, half of whom are ill."""
    ill = np.arange(num) % 2
    odds = rng.standard_normal(num) + 1.2 * ill

    def statistic(weights: NDArray) -> float:
        both = weights[ill == 1].any() and weights[ill == 0].any()
        return metrics.auc(odds, ill, weights=weights) if both else float("nan")

    return bootstrap_interval(statistic, np.arange(num), bounds=SHARE, **options), float(norm.cdf(1.2 / np.sqrt(2)))


def accuracy(rng: np.random.Generator, num: int, options: dict):
    """People of whom nine in ten are decided rightly."""
    right = rng.random(num) < 0.9
    found = bootstrap_interval(lambda w: np.average(right, weights=w), np.arange(num), bounds=SHARE, **options)
    return found, 0.9


def eer(rng: np.random.Generator, num: int, options: dict):
    """Trials of speakers who are places in a plane, each with utterances around it, of a spread of its own."""
    trials = _trials(rng, num)
    found = bootstrap_trials({"eer": DetCurve.eer}, *trials, bounds={"eer": PERCENT}, **options)
    return found["eer"], _true_curve().eer()


def min_dcf(rng: np.random.Generator, num: int, options: dict):
    """The same trials; the threshold of each draw is its own best."""
    trials = _trials(rng, num)
    found = bootstrap_trials({"min_dcf": DetCurve.min_dcf}, *trials, bounds={"min_dcf": SHARE}, **options)
    return found["min_dcf"], _true_curve().min_dcf()


def _classes(rng: np.random.Generator, num: int, easy: list[float], spread: float):
    """Classes (N,), speakers (N,), and what systems of these log-odds of being right say, (N,) each."""
    speakers = np.repeat(np.arange(num), NUM_UTTERANCES)
    true = np.tile(np.arange(NUM_UTTERANCES) % NUM_CLASSES, num)
    own = spread * rng.standard_normal(num)[speakers]
    said = []
    for one in easy:
        right = rng.random(speakers.size) < expit(one + own)
        said.append(np.where(right, true, (true + rng.integers(1, NUM_CLASSES, speakers.size)) % NUM_CLASSES))
    return true, speakers, said


@cache
def _mean_rate(easy: float, spread: float) -> float:
    return float(expit(easy + spread * norm.ppf((np.arange(MANY) + 0.5) / MANY)).mean())


def _trials(rng: np.random.Generator, num: int, *, each: int = 6, most: int = 3000):
    """Scores, labels and speakers of both sides: all pairs within speakers, and as many others as `most` leaves."""
    speakers = np.repeat(np.arange(num), each)
    spread = _spread(rng, num)[speakers, None]
    places = rng.standard_normal((num, 3))[speakers] + spread * rng.standard_normal((speakers.size, 3))
    enroll, test = np.triu_indices(speakers.size, k=1)
    same = speakers[enroll] == speakers[test]
    others = rng.permutation(np.flatnonzero(~same))[: max(most - same.sum(), same.sum())]
    kept = np.concatenate([np.flatnonzero(same), others])
    enroll, test = enroll[kept], test[kept]
    scores = -np.linalg.norm(places[enroll] - places[test], axis=1)
    return scores, speakers[enroll] == speakers[test], speakers[enroll], speakers[test]


@cache
def _true_curve() -> DetCurve:
    """One target and one non-target of each of many speakers."""
    rng = np.random.default_rng(0)
    spread, places = _spread(rng, MANY)[:, None], rng.standard_normal((MANY, 3))
    first, second = (places + spread * rng.standard_normal((MANY, 3)) for _ in range(2))
    scores = [-np.linalg.norm(first - one, axis=1) for one in (second, np.roll(second, 1, axis=0))]
    return metrics.det_curve(np.concatenate(scores), np.repeat([1, 0], MANY))


def _spread(rng: np.random.Generator, num: int) -> NDArray:
    return 0.45 * np.exp(0.4 * rng.standard_normal(num))


FIGURES: dict[str, Draw] = {
    "UAR near 0.6": uar,
    "UAR near 0.99": uar_easy,
    "UAR, difference of two systems": difference,
    "CCC": ccc,
    "AUC of people": auc,
    "accuracy of people, 0.9": accuracy,
    "EER": eer,
    "minDCF (0.01)": min_dcf,
}


def coverage(draw: Draw, num_speakers: int, *, num: int, seed: int = 0, **options) -> tuple[float, float]:
    """Percent of `num` intervals that hold the truth, and their mean width."""
    held, widths = 0, []
    for number in range(num):
        found, truth = draw(np.random.default_rng([seed, num_speakers, number]), num_speakers, options)
        held += found.low <= truth <= found.high
        widths.append(found.high - found.low)
    return 100 * held / num, float(np.nanmean(widths))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=1000, help="corpora of each figure and size (%(default)s)")
    parser.add_argument("--num-resamples", type=int, default=400)
    parser.add_argument("--speakers", type=int, nargs="+", default=[6, 20, 60])
    parser.add_argument("--few", type=int, help="another border between jackknife and bootstrap, such as 0")
    parser.add_argument("--only", nargs="+", help="figures, by the beginning of their names")
    options = parser.parse_args()
    how = {"num_resamples": options.num_resamples} | ({} if options.few is None else {"few": options.few})
    print(f"| % of {options.num} intervals | {' | '.join(f'{n} speakers' for n in options.speakers)} |")
    print("|---" * (1 + len(options.speakers)) + "|")
    for name, draw in FIGURES.items():
        if options.only is None or name.startswith(tuple(options.only)):
            found = [coverage(draw, n, num=options.num, **how)[0] for n in options.speakers]
            print(f"| {name} | {' | '.join(f'{one:.1f}' for one in found)} |", flush=True)


if __name__ == "__main__":
    main()
