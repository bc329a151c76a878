"""Classification of frozen embeddings: speaker-disjoint, repeatable, honest about what was left out."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as reference
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dino_speech.data.manifest import Manifest, Utterance
from dino_speech.embedding.embedded_manifest import EmbeddedManifest
from dino_speech.errors import InputError
from dino_speech.evaluation.probing.classification import evaluate_classification


def acted(signal: float, *, num_speakers: int = 12, confound: float = 0.0, seed: int = 0) -> EmbeddedManifest:
    """Three emotions by each speaker; with `confound`, speakers differ a lot and mostly show one emotion each."""
    rng = np.random.default_rng(seed)
    rows, vectors = [], []
    places = rng.standard_normal((num_speakers, 16))
    for speaker in range(num_speakers):
        for number in range(12):
            own = rng.random() < confound
            emotion = speaker % 3 if own else number % 3
            vectors.append(
                signal * np.eye(16)[emotion] + (1 + 3 * confound) * places[speaker] + rng.standard_normal(16)
            )
            labels = {"speaker": f"s{speaker}", "emotion": ["angry", "happy", "sad"][emotion]}
            rows.append(Utterance(f"s{speaker}_{number}", f"/{speaker}/{number}.wav", 1.0, labels=labels))
    return EmbeddedManifest(Manifest(rows), np.array(vectors, dtype=np.float32))


def test_figures_equal_sklearn_on_the_pooled_predictions() -> None:
    data = acted(2.0)
    report = evaluate_classification(None, data.manifest, label="emotion", embedded=data, num_resamples=50)
    assert report.true.tolist() == data.manifest.label("emotion")
    assert report.uar == pytest.approx(reference.balanced_accuracy_score(report.true, report.predicted))
    assert report.micro_f1 == pytest.approx(reference.accuracy_score(report.true, report.predicted))
    assert report.macro_f1 == pytest.approx(reference.f1_score(report.true, report.predicted, average="macro"))
    assert report.confusion == reference.confusion_matrix(report.true, report.predicted).tolist()
    assert report.labels == ["angry", "happy", "sad"]
    assert np.mean(list(report.recalls.values())) == pytest.approx(report.uar)
    assert (report.num_utterances, report.num_folds, report.num_speakers) == (144, 5, 12)
    assert (report.chance_uar, report.chance_micro_f1) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    for name, interval in report.intervals.items():
        assert interval.low <= getattr(report, name) <= interval.high
    assert report.uar > 0.6


@pytest.mark.slow
def test_speakers_that_give_the_class_away_do_not_help() -> None:
    # Each speaker is easily told apart and mostly shows one emotion, at random: random folds reach 0.9 by knowing the
    # people, honest ones know nothing (one draw of the speakers says little: the mean of several).
    found = []
    for seed in range(4):
        data = acted(0.0, confound=0.9, num_speakers=18, seed=seed)
        options = {"embedded": data, "num_resamples": 2}
        found.append(evaluate_classification(None, data.manifest, label="emotion", **options).uar)
    assert np.mean(found) == pytest.approx(1 / 3, abs=0.12)


def test_json_holds_the_promised_keys_first() -> None:
    data = acted(2.0)
    report = evaluate_classification(None, data.manifest, label="emotion", embedded=data, num_resamples=5)
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert list(found)[:5] == ["uar", "micro_f1", "macro_f1", "num_utterances", "num_folds"]
    assert found["intervals"]["uar"]["confidence"] == 0.95
    assert "predicted" not in found


@pytest.mark.slow
def test_same_seed_same_figures() -> None:
    data = acted(1.0)
    options = {"label": "emotion", "embedded": data, "num_resamples": 5}
    first, again, other = (evaluate_classification(None, data.manifest, seed=s, **options) for s in (1, 1, 2))
    assert np.array_equal(first.predicted, again.predicted)
    assert not np.array_equal(first.predicted, other.predicted)


def test_folds_follow_the_speakers_unless_asked_for() -> None:
    data = acted(2.0, num_speakers=3)
    options = {"label": "emotion", "embedded": data, "num_resamples": 5}
    assert evaluate_classification(None, data.manifest, **options).num_folds == 3
    assert evaluate_classification(None, data.manifest, num_folds=2, **options).num_folds == 2
    with pytest.raises(InputError, match="3 speakers cannot make 5"):
        evaluate_classification(None, data.manifest, num_folds=5, **options)


def test_rows_without_label_or_speaker_are_left_out_and_listed() -> None:
    data = acted(2.0)
    for row, column in ((0, "emotion"), (1, "speaker")):
        data.manifest[row].labels[column] = ""
    data.embeddings[2] = np.nan
    report = evaluate_classification(None, data.manifest, label="emotion", embedded=data, num_resamples=5)
    assert report.num_utterances == 141
    assert [(item.name, item.reason) for item in report.skipped] == [
        ("s0_0", "column 'emotion' is blank"),
        ("s0_1", "column 'speaker' is blank"),
    ]
    for utterance in data.manifest:
        utterance.labels["emotion"] = ""
    with pytest.raises(InputError, match="no row has both 'emotion' and 'speaker'"):
        evaluate_classification(None, data.manifest, label="emotion", embedded=data)


def test_missing_columns_are_named() -> None:
    data = acted(2.0)
    with pytest.raises(InputError, match=r"no column 'emotions'.*did you mean 'emotion'"):
        evaluate_classification(None, data.manifest, label="emotions", embedded=data)
    with pytest.raises(InputError, match="no column 'talker'"):
        evaluate_classification(None, data.manifest, label="emotion", speaker="talker", embedded=data)


def test_from_audio_with_bad_files(encoder, broken_voices: Manifest) -> None:
    report = evaluate_classification(encoder, broken_voices, label="emotion", num_resamples=5)
    assert (report.num_utterances, report.num_folds) == (13, 4)
    assert {item.name for item in report.skipped} == {"spk0_0", "spk1_1", "spk2_2"}
    assert encoder.num_files == 16


def with_column(data: EmbeddedManifest, name: str, cell: Callable[[int, Utterance], str]) -> EmbeddedManifest:
    rows = [replace(row, labels={**row.labels, name: cell(number, row)}) for number, row in enumerate(data.manifest)]
    return EmbeddedManifest(Manifest(rows), data.embeddings)


def session(_: int, utterance: Utterance) -> str:
    return str(1 + int(utterance.labels["speaker"][1:]) % 3)


def test_folds_as_published_are_judged_in_turn() -> None:
    data = with_column(acted(2.0, num_speakers=6), "session", session)
    options = {"label": "emotion", "embedded": data, "num_resamples": 5, "fold_column": "session"}
    report = evaluate_classification(None, data.manifest, **options)
    x, true = data.embeddings.astype(np.float64), np.array(data.manifest.label("emotion"))
    sessions, predicted = np.array(data.manifest.label("session")), true.copy()
    for number, strength in zip("123", report.strengths, strict=True):
        train, test = sessions != number, sessions == number
        model = LogisticRegression(C=strength, class_weight="balanced", max_iter=1000, tol=1e-6)
        predicted[test] = make_pipeline(StandardScaler(), model).fit(x[train], true[train]).predict(x[test])
        assert report.fold_uars[number] == pytest.approx(
            reference.recall_score(true[test], predicted[test], average="macro")
        )
    assert report.predicted.tolist() == predicted.tolist()
    assert (report.num_folds, report.num_utterances, report.num_shared_speakers) == (3, 72, 0)
    assert report.uar_speaker_disjoint is None
    with pytest.raises(InputError, match="give either a column of folds"):
        evaluate_classification(None, data.manifest, num_folds=2, **options)


def test_an_official_training_part_is_learnt_from_and_never_judged() -> None:
    data = with_column(acted(2.0, num_speakers=6), "split", lambda *row: "test" if session(*row) == "3" else "train")
    options = {"label": "emotion", "embedded": data, "num_resamples": 5, "fold_column": "split"}
    report = evaluate_classification(None, data.manifest, **options)
    assert (report.num_folds, report.num_utterances, report.num_speakers) == (1, 24, 2)
    for utterance in data.manifest:
        if utterance.labels["split"] == "train":
            utterance.labels["emotion"] = "sad"
    with pytest.raises(InputError, match="what fold 'test' learns from is all 'sad'"):
        evaluate_classification(None, data.manifest, **options)


@pytest.mark.slow
def test_folds_that_speakers_cross_are_refused_or_marked() -> None:
    data = with_column(acted(0.0, confound=0.9, num_speakers=6), "fold", lambda number, _: str(number % 3))
    options = {"label": "emotion", "embedded": data, "num_resamples": 5}
    with pytest.raises(InputError, match=r"column 'fold': 6 speakers are on both sides of fold '0' .*keep_shared"):
        evaluate_classification(None, data.manifest, fold_column="fold", **options)
    report = evaluate_classification(None, data.manifest, fold_column="fold", keep_shared_speakers=True, **options)
    honest = evaluate_classification(None, data.manifest, **options)
    assert report.num_shared_speakers == 6
    assert report.warnings[0].startswith("6 of 6 speakers are on both sides")
    assert report.uar_speaker_disjoint == honest.uar
    assert report.intervals["uar_speaker_disjoint"] == honest.intervals["uar"]
    assert report.uar > honest.uar  # it knows the people
    assert list(report.tables()["Results"][0])[-2:] == ["UAR, speaker-disjoint", "UAR, speaker-disjoint, 95 %"]
