"""Bootstrap over speakers: equal to copying rows by hand, and covering the truth where files are not independent."""

import json

import numpy as np
import pytest

from dino_speech.errors import InputError
from dino_speech.intervals import Interval, bootstrap_interval, bootstrap_trials, bootstrap_weighted_trials
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
    found = bootstrap_trials({"eer": DetCurve.eer}, scores, labels, enroll, test, num_resamples=50, seed=4)["eer"]
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
    assert np.isnan(bootstrap_trials(statistics, scores, labels, enroll, test)["eer"].low)
    enroll[2], test[2] = "a", "b"
    scores, labels, enroll, test = (
        np.append(x, y) for x, y in ((scores, 0.2), (labels, 0), (enroll, "b"), (test, "c"))
    )
    found = bootstrap_trials(statistics, scores, labels, enroll, test)["eer"]
    assert (found.low, found.high) == (0.0, 0.0)
    nothing = bootstrap_interval(lambda weights: float("nan"), ["a", "b"], num_resamples=5)
    assert np.isnan(nothing.low)
    assert json.dumps(nothing.to_dict()) == '{"low": null, "high": null, "confidence": 0.95}'


def test_same_seed_same_interval_and_strings_as_groups() -> None:
    true, predicted = np.array(list("aabbaabb")), np.array(list("aabaabbb"))
    speakers = np.array(["x", "x", "x", "x", "y", "y", "z", "z"])
    first, again = (
        bootstrap_interval(lambda w: uar(true, predicted, weights=w), speakers, num_resamples=50) for _ in range(2)
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
    options = {"num_resamples": 40, "seed": 3}
    found = bootstrap_weighted_trials(lambda w: ranked.curve(w[ranked.order]).eer(), 300, *sides, **options)
    expected = bootstrap_trials({"eer": DetCurve.eer}, scores + labels, labels, *sides, **options)["eer"]
    assert (found.low, found.high) == (expected.low, expected.high)
