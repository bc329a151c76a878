"""Bootstrap over speakers: equal to copying rows by hand, and covering the truth where files are not independent."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta, binomtest, norm, ttest_1samp
from scipy.stats import t as student

from dino_speech.errors import InputError
from dino_speech.intervals import (
    PERCENT,
    SHARE,
    Interval,
    bootstrap_interval,
    bootstrap_trials,
    bootstrap_weighted_trials,
    sample_of,
)
from dino_speech.metrics import DetCurve, RankedTrials, eer, uar


def speaker_trials(num_speakers: int = 12, num_files: int = 3, *, seed: int = 0) -> tuple[np.ndarray, ...]:
    """All pairs of files; a speaker is a place in 2-D, and the files are off it by the speaker's own spread."""
    rng = np.random.default_rng(seed)
    speakers = np.repeat(np.arange(num_speakers), num_files)
    spread = np.exp(rng.standard_normal(num_speakers) - 1)[speakers, None]
    places = rng.standard_normal((num_speakers, 2))[speakers] + spread * rng.standard_normal((speakers.size, 2))
    enroll, test = np.triu_indices(speakers.size, k=1)
    scores = -np.linalg.norm(places[enroll] - places[test], axis=1)
    return scores, (speakers[enroll] == speakers[test]).astype(int), speakers[enroll], speakers[test]


def test_trial_bootstrap_equals_copying_the_trials_of_the_drawn_speakers() -> None:
    scores, labels, enroll, test = speaker_trials()
    rng, values = np.random.default_rng(4), []
    for _ in range(50):  # the same draws, made flesh: every trial is written as often as its speakers were drawn
        drawn = rng.integers(12, size=12).tolist()
        copies = [
            drawn.count(a) if a == b else drawn.count(a) * drawn.count(b) for a, b in zip(enroll, test, strict=True)
        ]
        values.append(eer(scores.repeat(copies), labels.repeat(copies)))
    found = bootstrap_trials({"eer": DetCurve.eer}, scores, labels, enroll, test, few=0, num_resamples=50, seed=4)[
        "eer"
    ]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=1e-9)
    assert found.low < eer(scores, labels) < found.high


def test_resampling_speakers_is_wider_than_resampling_trials() -> None:
    scores, labels, enroll, test = speaker_trials(num_speakers=30, num_files=8)
    options = {"num_resamples": 200, "seed": 1}
    by_speaker = bootstrap_trials({"eer": DetCurve.eer}, scores, labels, enroll, test, **options)["eer"]
    by_trial = bootstrap_trials({"eer": DetCurve.eer}, scores, labels, None, None, **options)["eer"]
    assert by_speaker.high - by_speaker.low > 2 * (by_trial.high - by_trial.low)


def test_utterance_bootstrap_covers_the_true_mean_although_files_of_a_speaker_agree() -> None:
    covered = {"speakers": 0, "files": 0}
    for trial in range(60):
        rng = np.random.default_rng(trial)
        groups = np.repeat(np.arange(25), 20)
        values = rng.standard_normal(25)[groups] + 0.3 * rng.standard_normal(groups.size)  # true mean 0
        for name, ids in (("speakers", groups), ("files", np.arange(groups.size))):
            found = bootstrap_interval(lambda w, v=values: np.average(v, weights=w), ids, num_resamples=200)
            covered[name] += found.low <= 0 <= found.high
    assert covered["speakers"] >= 50  # nominal 57 of 60
    assert covered["files"] <= 40


def test_statistics_that_are_undefined_in_a_draw_are_left_out() -> None:
    scores, labels, enroll, test = (
        np.array([0.9, 0.8, 0.1]),
        np.array([1, 1, 0]),
        np.array(list("abc")),
        np.array(list("aba")),
    )
    statistics = {"eer": DetCurve.eer}  # a and c are both drawn in 12 of 27 cases: too few for an interval
    assert np.isnan(bootstrap_trials(statistics, scores, labels, enroll, test, few=0)["eer"].low)
    enroll[2], test[2] = "a", "b"
    scores, labels, enroll, test = (
        np.append(x, y) for x, y in ((scores, 0.2), (labels, 0), (enroll, "b"), (test, "c"))
    )
    found = bootstrap_trials(statistics, scores, labels, enroll, test, few=0)["eer"]
    assert (found.low, found.high) == (0.0, 0.0)
    nothing = bootstrap_interval(lambda weights: float("nan"), ["a", "b"], num_resamples=5)
    assert np.isnan(nothing.low)
    assert json.dumps(nothing.to_dict()) == '{"low": null, "high": null, "confidence": 0.95, "method": "bootstrap"}'


def test_same_seed_same_interval_and_strings_as_groups() -> None:
    true, predicted = np.array(list("aabbaabb")), np.array(list("aabaabbb"))
    speakers = np.array(["x", "x", "x", "x", "y", "y", "z", "z"])
    first, again = (
        bootstrap_interval(lambda w: uar(true, predicted, weights=w), speakers, bounds=SHARE, num_resamples=50)
        for _ in range(2)
    )
    assert first == again
    assert isinstance(first, Interval)
    assert 0 <= first.low <= uar(true, predicted) <= first.high <= 1


def test_too_little_to_resample_is_refused() -> None:
    with pytest.raises(InputError, match="at least 2 speakers"):
        bootstrap_interval(lambda w: 0.0, ["a", "a"])
    with pytest.raises(InputError, match="confidence is 95"):
        bootstrap_interval(lambda w: 0.0, ["a", "b"], confidence=95)


def test_weighted_trials_equal_the_trial_bootstrap() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(2, size=300), rng.standard_normal(300)
    sides = rng.integers(12, size=(2, 300))
    ranked = RankedTrials(scores + labels, labels)
    options = {"num_resamples": 40, "seed": 3, "few": 0}
    found = bootstrap_weighted_trials(lambda w: ranked.curve(w[ranked.order]).eer(), 300, *sides, **options)
    expected = bootstrap_trials({"eer": DetCurve.eer}, scores + labels, labels, *sides, **options)["eer"]
    assert (found.low, found.high) == (expected.low, expected.high)


def test_five_people_who_are_all_right_do_not_give_one_to_one() -> None:
    """Of five, all right, the truth may be 0.48: Clopper and Pearson for five answers, however many files they made."""
    people = np.repeat(np.arange(5), 30)
    true = np.tile([0, 1], 75)
    found = bootstrap_interval(lambda w: uar(true, true, weights=w), people, bounds=SHARE)
    exact = binomtest(5, 5).proportion_ci(method="exact")
    assert (found.low, found.high) == (pytest.approx(exact.low), 1.0)
    of_thirty = bootstrap_interval(lambda w: 1.0, np.arange(30), bounds=SHARE)
    assert (of_thirty.low, of_thirty.high) == (pytest.approx(binomtest(30, 30).proportion_ci(method="exact").low), 1.0)


def test_few_independent_answers_have_the_exact_interval_nearly() -> None:
    """What Student's quantile adds to it is the price of a deviation that is estimated, too."""
    right = np.array([1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 0, 1])
    found = bootstrap_interval(lambda w: np.average(right, weights=w), np.arange(12), bounds=SHARE)
    exact = binomtest(9, 12).proportion_ci(method="exact")
    assert found.method == "clopper-pearson"
    assert exact.low - 0.07 < found.low < exact.low < exact.high < found.high < exact.high + 0.02


def test_a_difference_of_few_speakers_has_students_interval() -> None:
    values = np.random.default_rng(0).standard_normal(8)
    found = bootstrap_interval(lambda w: np.average(values, weights=w), np.arange(8))
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high, found.method) == (
        pytest.approx(expected.low),
        pytest.approx(expected.high),
        "jackknife-t",
    )


def test_trials_of_few_speakers_leave_each_out_on_both_sides() -> None:
    scores, labels, enroll, test = speaker_trials()
    found = bootstrap_trials({"eer": DetCurve.eer}, scores, labels, enroll, test, bounds={"eer": PERCENT})["eer"]
    without = [eer(*(part[(enroll != one) & (test != one)] for part in (scores, labels))) for one in range(12)]
    deviation, share = np.sqrt(11 / 12 * np.sum((without - np.mean(without)) ** 2)), eer(scores, labels) / 100
    size = share * (1 - share) / (deviation / 100) ** 2 * (norm.ppf(0.975) / student.ppf(0.975, 11)) ** 2
    expected = 100 * beta.ppf([0.025, 0.975], share * size + [0, 1], size - share * size + [1, 0])
    assert (found.low, found.high) == pytest.approx(tuple(expected))


def test_whom_the_intervals_rest_on_is_said() -> None:
    assert sample_of(["a", "b"] * 15)["warnings"] == [
        "2 speakers, fewer than 20, say little about others: see the intervals"
    ]
    many = sample_of(np.arange(20))
    assert many == {"num_speakers": 20, "resampled": "speakers", "warnings": []}
    unknown = sample_of(None)
    assert (unknown["num_speakers"], unknown["resampled"]) == (None, "recordings")
    assert "too narrow where a speaker has several recordings" in unknown["warnings"][0]


@pytest.mark.parametrize("name", ["uar", "uar_easy", "ccc", "eer"])
def test_intervals_of_few_speakers_hold_the_truth(name: str) -> None:
    """Some draws of the simulation whose table is in docs/pages/results.md."""
    path = Path(__file__).parents[1] / "recipes" / "YourSpeech" / "dino" / "coverage.py"
    script = runpy.run_path(str(path))
    held, width = script["coverage"](script[name], 6, num=40)
    assert held >= 87.5  # 35 of 40: of intervals that hold it in 95 %, 39 in 40 sets have as many
    assert width > 0
