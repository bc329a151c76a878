"""People as what is judged: who they are, folds they do not cross, figures as scikit-learn's, balance as scipy's."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from dino_speech.data.utterances import Manifest, Utterance
from dino_speech.errors import InputError
from dino_speech.evaluation.clinical.group_balance import age_difference, fold_rows, people_table, sex_difference
from dino_speech.evaluation.clinical.subject_scores import (
    FIGURES,
    SubjectScores,
    score_subjects,
    subject_figure,
    subject_result,
    trivial_score,
)
from dino_speech.evaluation.clinical.subjects import SegmentOdds, find_subjects, make_folds

CLASSES = {"label": "diagnosis", "positive": "ad"}


def people(num: int = 12, *, files: int = 2, **columns: list[str]) -> Manifest:
    """Every other person is a patient; `columns` give one value per person."""
    rows = []
    for person in range(num):
        labels = {"speaker": f"p{person}", "diagnosis": "control" if person % 2 else "ad"}
        labels |= {name: values[person] for name, values in columns.items()}
        rows += [Utterance(f"p{person}_{n}", f"/{person}/{n}.wav", 2.0, labels=dict(labels)) for n in range(files)]
    return Manifest(rows)


def decisions(num: int = 40, *, seed: int = 0) -> SubjectScores:
    rng = np.random.default_rng(seed)
    positive = rng.random(num) < 0.4
    return SubjectScores([f"p{i}" for i in range(num)], positive, rng.standard_normal(num) + positive, ["f"] * num, num)


def test_figures_are_those_of_sklearn() -> None:
    scores = decisions()
    weights = np.random.default_rng(1).integers(0, 3, len(scores.names))
    for counts in (None, weights):
        found = {x: subject_figure(x, scores.log_odds, scores.positive, weights=counts) for x in FIGURES}
        called, options = scores.log_odds >= 0, {"sample_weight": counts}
        assert found["accuracy"] == pytest.approx(reference.accuracy_score(scores.positive, called, **options))
        assert found["f1"] == pytest.approx(reference.f1_score(scores.positive, called, **options))
        assert found["sensitivity"] == pytest.approx(reference.recall_score(scores.positive, called, **options))
        recall = reference.recall_score(scores.positive, called, pos_label=False, **options)
        assert found["specificity"] == pytest.approx(recall)
        assert found["uar"] == pytest.approx(reference.balanced_accuracy_score(scores.positive, called, **options))
        assert found["auc"] == pytest.approx(reference.roc_auc_score(scores.positive, scores.log_odds, **options))
    result = subject_result(scores, num_resamples=200)
    intervals = result.intervals
    assert all(intervals[name].low <= value <= intervals[name].high for name, value in result.figures.items())


def test_figures_without_one_class_are_nan() -> None:
    found = {name: subject_figure(name, np.array([1.0, -1.0]), np.array([True, True])) for name in FIGURES}
    assert found["sensitivity"] == 0.5
    assert np.isnan([found["specificity"], found["auc"]]).all()


def test_a_number_alone() -> None:
    scores = decisions(200)
    noise = dict(zip(scores.names, np.random.default_rng(3).standard_normal(200).tolist(), strict=True))
    truth = dict(zip(scores.names, scores.positive.tolist(), strict=True))
    telling = {name: -float(truth[name]) + 0.3 * noise[name] for name in scores.names}
    assert not trivial_score(noise, scores, num_resamples=200).tells
    found = trivial_score(telling, scores, num_resamples=200)
    assert found.tells
    assert found.auc < 0.1
    assert found.means["positive"] < found.means["negative"]
    positives = [name for name, positive in zip(scores.names, scores.positive, strict=True) if positive]
    assert trivial_score(dict.fromkeys(positives, 1.0), scores) is None


def test_people_and_what_is_left_out() -> None:
    manifest = people()
    manifest[0].labels["diagnosis"] = ""
    manifest[2].labels["speaker"] = ""
    manifest[4].labels["diagnosis"] = manifest[5].labels["diagnosis"] = "mci"
    subjects, skipped = find_subjects(manifest, **CLASSES)
    assert len(subjects.names) == 12
    assert subjects.classes["p0"]
    assert not subjects.classes["p2"]
    assert [item.name for item in skipped] == ["p0_0", "p1_0"]
    subjects, skipped = find_subjects(manifest, negative="control", **CLASSES)
    assert len(subjects.names) == 11
    assert "diagnosis is 'mci'" in {item.reason for item in skipped}


def test_unclear_questions_are_refused() -> None:
    with pytest.raises(InputError, match=r"no row has diagnosis 'AD'; found values: ad, control"):
        find_subjects(people(), label="diagnosis", positive="AD")
    twice = Manifest([*people(), Utterance("x", "/x.wav", 1.0, labels={"speaker": "p0", "diagnosis": "control"})])
    with pytest.raises(InputError, match="'p0' has diagnosis 'control', and 'ad' in another row"):
        find_subjects(twice, **CLASSES)
    with pytest.raises(InputError, match="two are needed"):
        find_subjects(people().select(diagnosis="ad"), **CLASSES)


def test_folds_never_split_a_person() -> None:
    subjects, _ = find_subjects(people(), **CLASSES)
    folds = make_folds(subjects)
    assert len(folds) == 5
    assert sorted(name for fold in folds for name in fold.test) == sorted(subjects.names)
    assert all(not fold.train & fold.test for fold in folds)
    assert make_folds(subjects, seed=0) == folds != make_folds(subjects, seed=1)


def test_folds_and_splits_as_published() -> None:
    fold, split = [str(i // 4) for i in range(12)], ["test" if i < 4 else "train" for i in range(11)] + [""]
    subjects, _ = find_subjects(people(fold=fold, split=split), **CLASSES)
    assert [f.name for f in make_folds(subjects, fold_column="fold")] == ["fold-0", "fold-1", "fold-2"]
    (only,) = make_folds(subjects, split="split")
    assert only.test == {"p0", "p1", "p2", "p3"}
    assert "p11" not in only.train
    with pytest.raises(InputError, match="one of num_folds, fold_column and split"):
        make_folds(subjects, split="split", num_folds=3)
    with pytest.raises(InputError, match="needs the values train and test"):
        make_folds(subjects, split="fold")
    subjects.manifest[0].labels["split"] = "train"
    with pytest.raises(InputError, match=r"both sides of the split \(p0\)"):
        make_folds(subjects, split="split")
    one_class = ["a" if i % 2 else "b" for i in range(12)]
    with pytest.raises(InputError, match="lacks one of the two classes"):
        make_folds(find_subjects(people(fold=one_class), **CLASSES)[0], fold_column="fold")


def test_log_odds_are_averaged_and_what_is_judged_is_blind() -> None:
    subjects, _ = find_subjects(people(), **CLASSES)
    seen: list[str] = []

    def classifier(train: Manifest, test: Manifest, *, run: str) -> SegmentOdds:
        assert set(train.label("is_positive")) == {"0", "1"}
        assert not {"is_positive", "diagnosis"} & set(test.columns)
        assert all("diagnosis" not in row.labels for row in test)
        assert not set(train.label("speaker")) & set(test.label("speaker"))
        seen.append(run)
        odds = [np.nan if row.id == "p3_1" else 2.0 + 4 * row.id.endswith("_1") for row in test]
        return SegmentOdds(np.array(odds))

    found = score_subjects(classifier, subjects, make_folds(subjects, num_folds=3), run="recordings")
    assert seen == ["recordings/fold1", "recordings/fold2", "recordings/fold3"]
    assert dict(zip(found.names, found.log_odds.tolist(), strict=True)) == {
        name: 2.0 if name == "p3" else 4.0 for name in subjects.names
    }
    assert found.num_segments == 23


def test_age_and_sex_are_compared_as_scipy_does() -> None:
    rng = np.random.default_rng(0)
    ages = [f"{70 + 5 * (i % 2) + 4 * rng.standard_normal():.1f}" for i in range(30)]
    sexes = ["F" if i % 2 == 0 or i < 10 else "male" for i in range(29)] + ["?"]
    subjects, _ = find_subjects(people(30, age=ages, sex=sexes), **CLASSES)
    columns = {"subject": "speaker", "age": "age", "sex": "sex"}
    table = people_table(subjects.manifest, subjects.names, subjects.positive, **columns)
    groups = np.array(ages[::2], float), np.array(ages[1::2], float)
    age = age_difference(table)
    assert age.p == pytest.approx(stats.ttest_ind(*groups, equal_var=False).pvalue)
    deviation = np.sqrt((groups[0].var(ddof=1) + groups[1].var(ddof=1)) / 2)
    assert age.standardized == pytest.approx((groups[0].mean() - groups[1].mean()) / deviation)
    assert age.noteworthy
    sex = sex_difference(table)
    assert (sex.positive, sex.num_known) == (1.0, (15, 14))
    assert sex.p == pytest.approx(stats.chi2_contingency([[15, 0], [5, 9]], correction=False).pvalue)
    rows = fold_rows(table, ["a"] * 15 + ["b"] * 15, {True: "ad", False: "control"})
    assert [(row["fold"], row["class"], row["people"]) for row in rows] == [
        ("a", "ad", 8),
        ("a", "control", 7),
        ("b", "ad", 7),
        ("b", "control", 8),
    ]
    assert rows[0]["mean_age"] == pytest.approx(np.mean(groups[0][:8]))


def test_unknown_age_and_equal_groups() -> None:
    subjects, _ = find_subjects(people(age=["70"] * 12, sex=[""] * 12), **CLASSES)
    columns = {"subject": "speaker", "age": "age", "sex": "sex"}
    table = people_table(subjects.manifest, subjects.names, subjects.positive, **columns)
    assert sex_difference(table) is None
    age = age_difference(table)
    assert (age.positive, age.negative, age.noteworthy) == (70.0, 70.0, False)
    assert age.to_dict()["p"] is None
    assert fold_rows(table, ["a"] * 12, {True: "ad", False: "control"})[0]["share_female"] is None
