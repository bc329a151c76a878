"""Fairness: matched labels, differences that are there and differences that only labels make, spread that is chance."""

import json

import numpy as np
import pytest

from dino_speech.data.manifest import Manifest, Utterance
from dino_speech.data.trials import Trials
from dino_speech.embedding.embedded_manifest import EmbeddedManifest
from dino_speech.errors import InputError
from dino_speech.evaluation.probing.regression import evaluate_regression
from dino_speech.evaluation.stress.fairness import FairnessReport, evaluate_fairness
from dino_speech.evaluation.stress.group_differences import matched_weights, speaker_spread
from dino_speech.evaluation.verification.evaluate import evaluate_verification
from dino_speech.metrics import ccc

OPTIONS = {"num_resamples": 60}


def people(*, noise: dict[str, float], span: dict[str, float] | None = None, seed: int = 0) -> EmbeddedManifest:
    """24 speakers x 24 utterances; the embedding holds arousal and emotion, less clearly where the noise is larger."""
    rng, rows, vectors = np.random.default_rng(seed), [], []
    for speaker in range(24):
        sex = "FM"[speaker % 2]
        place = rng.standard_normal(8)
        for number in range(24):
            arousal = rng.uniform(-1, 1) * (span or {}).get(sex, 1.0)
            vector = np.concatenate([place, [arousal, float(arousal > 0)], rng.standard_normal(4)])
            vectors.append(vector + noise[sex] * rng.standard_normal(14) * (np.arange(14) >= 8))
            labels = {"speaker": f"s{speaker:02}", "sex": sex, "arousal": f"{arousal:.5f}"}
            labels["emotion"] = "high" if arousal > 0 else "low"
            rows.append(Utterance(f"s{speaker}_{number}", f"/{speaker}/{number}.wav", 1.0, labels=labels))
    return EmbeddedManifest(Manifest(rows), np.array(vectors, dtype=np.float32))


def judge(data: EmbeddedManifest, **options: object) -> FairnessReport:
    return evaluate_fairness(None, data.manifest, embedded=data, **{**OPTIONS, **options})


def test_weights_match_the_distribution_of_labels() -> None:
    rng = np.random.default_rng(0)
    groups, counts = rng.choice(["a", "b", "c"], 300, p=[0.5, 0.3, 0.2]), rng.integers(0, 3, 300)
    strata = np.where(groups == "a", rng.integers(0, 4, 300), rng.integers(1, 4, 300))
    for drawn in (None, counts):
        weights = matched_weights(strata, groups, drawn)
        copies = np.ones(300) if drawn is None else drawn
        sums = [[weights[(strata == s) & (groups == g)].sum() for g in "abc"] for s in range(4)]
        sizes = [[copies[(strata == s) & (groups == g)].sum() for g in "abc"] for s in range(4)]
        assert np.allclose(sums, np.min(sizes, axis=1, keepdims=True) * np.ones(3))
    assert matched_weights(strata, groups)[strata == 0].sum() == 0  # only group a has it


@pytest.mark.slow
def test_a_group_that_is_served_worse_is_found() -> None:
    report = judge(people(noise={"F": 0.1, "M": 1.0}), labels=["arousal"])
    found = report.figures["arousal"]
    assert report.metric == "ccc"
    assert found.groups["F"].value > found.groups["M"].value + 0.1
    difference = found.differences["F - M"]
    assert difference.value == pytest.approx(found.matched["F"] - found.matched["M"])
    assert 0 < difference.interval.low < difference.value < difference.interval.high
    assert (found.groups["F"].num, found.groups["F"].num_speakers) == (288, 12)
    report = judge(people(noise={"F": 0.1, "M": 2.0}), label="emotion")
    assert report.figures["uar"].differences["F - M"].interval.low > 0


@pytest.mark.slow
def test_a_difference_that_only_the_labels_make_goes_away() -> None:
    plain, matched = [], []
    for seed in range(3):
        data = people(noise={"F": 0.4, "M": 0.4}, span={"M": 0.4}, seed=seed)
        found = judge(data, labels=["arousal"]).figures["arousal"]
        difference = found.differences["F - M"]
        assert difference.interval.low < 0 < difference.interval.high
        plain.append(found.groups["F"].value - found.groups["M"].value)
        matched.append(difference.value)
    assert min(plain) > 0.09
    assert np.mean(matched) < 0.4 * np.mean(plain)


@pytest.mark.slow
def test_overall_and_speakers_are_those_of_the_evaluation() -> None:
    data = people(noise={"F": 0.5, "M": 0.5})
    report = judge(data, labels=["arousal"])
    expected = evaluate_regression(None, data.manifest, labels=["arousal"], embedded=data, num_resamples=2)
    found = report.figures["arousal"]
    assert found.overall == pytest.approx(expected.ccc["arousal"])
    of_s05 = [utterance.labels["speaker"] == "s05" for utterance in data.manifest]
    assert found.speakers.values["s05"] == pytest.approx(ccc(expected.true[of_s05, 0], expected.predicted[of_s05, 0]))
    values = list(found.speakers.values.values())
    assert (found.speakers.min, found.speakers.max) == (min(values), max(values))
    assert found.speakers.worst[0] == min(found.speakers.values, key=found.speakers.values.__getitem__)
    assert found.speakers.num_speakers == 24


def test_spread_between_equal_speakers_is_what_exchanging_leaves() -> None:
    rng = np.random.default_rng(0)
    owners, right = np.repeat(np.arange(40).astype(str), 20), rng.random(800) < 0.7
    strata = rng.integers(2, size=800)
    equal = speaker_spread(lambda rows: float(right[rows].mean()), owners, strata, chance=0.5)
    assert equal.std == pytest.approx(equal.std_if_equal, rel=0.3)
    right = rng.random(800) < np.repeat(rng.choice([0.4, 0.95], 40), 20)
    unequal = speaker_spread(lambda rows: float(right[rows].mean()), owners, strata, chance=0.5)
    assert unequal.std > 2 * unequal.std_if_equal
    assert unequal.share_below_chance == np.mean(right.reshape(40, 20).mean(axis=1) <= 0.5)
    few = speaker_spread(lambda rows: float(right[rows].mean()), owners[:23], strata[:23], chance=0.5)
    assert (few.num_speakers, few.num_left_out) == (1, 1)
    assert few.to_dict()["std_if_equal"] is None
    none = speaker_spread(lambda rows: 0.0, owners[:3], strata[:3], chance=0.5)
    assert (none.num_speakers, none.num_left_out, none.to_dict()["mean"]) == (0, 1, None)


def test_trials_are_compared_within_groups() -> None:
    data = people(noise={"F": 0.1, "M": 0.1})
    rng = np.random.default_rng(1)
    of_m = np.array([utterance.labels["sex"] == "M" for utterance in data.manifest])
    data.embeddings[of_m] += 2 * rng.standard_normal(data.embeddings[of_m].shape)
    pairs = rng.integers(len(data.manifest), size=(6000, 2))
    speakers = np.array(data.manifest.label("speaker"))
    same = np.stack([np.arange(576), np.roll(np.arange(576), 1)], axis=1)
    pairs = np.concatenate([pairs, same[speakers[same[:, 0]] == speakers[same[:, 1]]]])
    labels = (speakers[pairs[:, 0]] == speakers[pairs[:, 1]]).astype(np.int8)
    names = [[data.manifest[i].id for i in side] for side in pairs.T.tolist()]
    trials = Trials(labels, *names)
    report = judge(data, trials=trials)
    found = report.figures["eer"]
    within = np.flatnonzero(of_m[pairs[:, 0]] & of_m[pairs[:, 1]])
    only_m = Trials(labels[within], *([side[i] for i in within.tolist()] for side in names))
    expected = evaluate_verification(None, data.manifest, only_m, embedded=data, num_resamples=2).eer
    assert found.groups["M"].value == pytest.approx(expected)
    assert found.groups["M"].num == len(within)
    assert found.differences["F - M"].interval.high < 0  # fewer errors for F
    assert found.speakers.worst[0] in set(speakers[of_m])
    assert 0 <= found.speakers.min < found.speakers.max <= 100


def test_report_is_plain_data_and_tables() -> None:
    report = judge(people(noise={"F": 0.5, "M": 0.5}), label="emotion")
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert list(plain)[:3] == ["metric", "group", "figures"]
    assert set(plain["figures"]["uar"]["groups"]) == {"F", "M"}
    assert [row["group"] for row in report.rows()] == ["F", "M", "F - M"]
    assert report.speaker_rows()[0]["num_speakers"] == 24


@pytest.mark.slow
def test_mistakes_are_named_and_blanks_listed() -> None:
    data = people(noise={"F": 0.5, "M": 0.5})
    with pytest.raises(InputError, match="no column 'gender'"):
        judge(data, label="emotion", group="gender")
    for utterance in data.manifest[:100]:
        utterance.labels["sex"] = ""
    report = judge(data, label="emotion")
    assert len(report.skipped) == 100
    assert report.skipped[0].reason == "column 'sex' is blank"
    assert sum(figure.num for figure in report.figures["uar"].groups.values()) == 476
    for utterance in data.manifest:
        utterance.labels["sex"] = "F"
    with pytest.raises(InputError, match=r"found the groups \['F'\]; fairness compares at least two"):
        judge(data, label="emotion")
    with pytest.raises(InputError, match="give either a label"):
        judge(data)
