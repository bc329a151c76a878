"""Regression of frozen embeddings: against scikit-learn's ridge, speaker-disjoint, honest about what was left out."""

import json

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dino_speech.data.folds import speaker_folds
from dino_speech.data.manifest import Manifest, Utterance
from dino_speech.embedding.embedded_manifest import EmbeddedManifest
from dino_speech.errors import InputError
from dino_speech.evaluation.probing.probes import RidgeProbe
from dino_speech.evaluation.probing.regression import evaluate_regression
from dino_speech.metrics import ccc

LABELS = ("arousal", "valence")


def rated(signal: float = 1.0, *, num_speakers: int = 15, confound: float = 0.0, seed: int = 0) -> EmbeddedManifest:
    """Arousal is in the embeddings as strongly as `signal`, valence is not; with `confound` both follow the speaker."""
    rng = np.random.default_rng(seed)
    speakers = np.repeat(np.arange(num_speakers), 14)
    rows = rng.standard_normal((speakers.size, 20)) + 4 * confound * rng.standard_normal((num_speakers, 20))[speakers]
    values = 4 + rng.standard_normal((speakers.size, 2)) * (1 - confound)
    values += 2 * confound * rng.standard_normal((num_speakers, 2))[speakers]
    rows[:, 0] += signal * (values[:, 0] - 4)
    utterances = [
        Utterance(
            f"u{i}",
            f"/{i}.wav",
            1.0,
            labels={"speaker": f"s{speakers[i]}", "arousal": f"{pair[0]:.4f}", "valence": f"{pair[1]:.4f}"},
            origin=f"rated.csv row {i + 2}",
        )
        for i, pair in enumerate(values)
    ]
    return EmbeddedManifest(Manifest(utterances), rows.astype(np.float32))


def test_figures_are_those_of_the_pooled_predictions() -> None:
    data = rated(3.0)
    report = evaluate_regression(None, data.manifest, labels=LABELS, embedded=data, num_resamples=50)
    assert report.true[:, 0].tolist() == data.manifest.numbers("arousal")
    for i, name in enumerate(LABELS):
        true, predicted = report.true[:, i], report.predicted[:, i]
        assert report.ccc[name] == ccc(true, predicted)
        assert report.pearson[name] == pytest.approx(pearsonr(true, predicted)[0])
        assert report.rmse[name] == pytest.approx(np.sqrt(np.mean((true - predicted) ** 2)))
        assert report.deviation[name] == pytest.approx(true.std())
        assert report.intervals[name].low <= report.ccc[name] <= report.intervals[name].high
    assert report.ccc["arousal"] > 0.8
    assert abs(report.ccc["valence"]) < 0.2 + report.chance_ccc
    assert (report.num_utterances, report.num_folds, report.num_speakers) == (210, 5, 15)


@pytest.mark.slow
def test_no_speaker_is_on_both_sides() -> None:
    found = []
    for seed in range(4):
        data = rated(0.0, confound=0.9, num_speakers=20, seed=seed)
        options = {"embedded": data, "num_resamples": 2}
        found += evaluate_regression(None, data.manifest, labels=LABELS, **options).ccc.values()
    assert abs(np.mean(found)) < 0.15  # folds that split speakers give 0.9


def test_ridge_is_sklearns() -> None:
    data = rated()
    values, speakers = np.array([data.manifest.numbers(name) for name in LABELS]).T, data.manifest.label("speaker")
    probe = RidgeProbe().fit(data.embeddings, values, speakers)
    for i, strength in enumerate(probe.strengths_):
        theirs = make_pipeline(StandardScaler(), Ridge(alpha=strength * len(values)))
        theirs.fit(data.embeddings.astype(np.float64), values[:, i])
        expected = theirs.predict(data.embeddings.astype(np.float64))
        assert probe.predict(data.embeddings)[:, i] == pytest.approx(expected, abs=1e-6)


def test_strength_is_chosen_for_each_label_by_inner_folds() -> None:
    data = rated(3.0)
    values, speakers = np.array([data.manifest.numbers(name) for name in LABELS]).T, data.manifest.label("speaker")
    probe = RidgeProbe().fit(data.embeddings, values, speakers)
    folds = speaker_folds(speakers, num_folds=3, seed=0)
    merits = {}
    for strength in probe.strengths:
        predicted = np.empty(len(values))
        for train, test in folds:
            one = RidgeProbe(strengths=[strength]).fit(data.embeddings[train], values[train], np.array(speakers)[train])
            predicted[test] = one.predict(data.embeddings[test])[:, 0]
        merits[strength] = ccc(values[:, 0], predicted)
    assert probe.strengths_[0] == max(merits, key=merits.__getitem__)


def test_json_holds_the_promised_key_first() -> None:
    data = rated()
    report = evaluate_regression(None, data.manifest, labels=LABELS, embedded=data, num_resamples=5)
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert next(iter(found)) == "ccc"
    assert set(found["ccc"]) == set(LABELS)
    assert found["chance_ccc"] == 0
    assert found["intervals"]["arousal"]["confidence"] == 0.95
    assert "predicted" not in found


def test_blank_rows_are_left_out_and_listed() -> None:
    data = rated()
    for row, column in ((0, "arousal"), (1, "valence"), (2, "speaker")):
        data.manifest[row].labels[column] = ""
    data.embeddings[3] = np.nan
    report = evaluate_regression(None, data.manifest, labels=LABELS, embedded=data, num_resamples=5)
    assert report.num_utterances == 206
    assert [(item.name, item.reason) for item in report.skipped] == [
        ("u0", "column 'arousal' is blank"),
        ("u1", "column 'valence' is blank"),
        ("u2", "column 'speaker' is blank"),
    ]
    for utterance in data.manifest:
        utterance.labels["arousal"] = ""
    with pytest.raises(InputError, match="no row has all of 'arousal' and 'valence' and 'speaker'"):
        evaluate_regression(None, data.manifest, labels=LABELS, embedded=data)


@pytest.mark.parametrize("cell", ["high", "3,5", "nan", "inf"])
def test_what_is_no_number_is_named_with_file_row_and_column(cell: str) -> None:
    data = rated()
    data.manifest[4].labels["valence"] = cell
    with pytest.raises(InputError, match=rf"rated.csv row 6, column 'valence': found '{cell}'; expected a number"):
        evaluate_regression(None, data.manifest, labels=LABELS, embedded=data)


def test_other_mistakes_are_named() -> None:
    data = rated(num_speakers=3)
    with pytest.raises(InputError, match=r"no column 'arousals'.*did you mean 'arousal'"):
        evaluate_regression(None, data.manifest, labels=["arousals"], embedded=data)
    for labels in ("arousal", [], ["arousal", "arousal"]):
        with pytest.raises(InputError, match="expected a list of different columns"):
            evaluate_regression(None, data.manifest, labels=labels, embedded=data)
    with pytest.raises(InputError, match="3 speakers cannot make 4 speaker-disjoint folds"):
        evaluate_regression(None, data.manifest, labels=LABELS, embedded=data, num_folds=4)
    for utterance in data.manifest:
        utterance.labels["valence"] = "2.5"
    with pytest.raises(InputError, match=r"column 'valence' is 2.5 in all 42 usable rows"):
        evaluate_regression(None, data.manifest, labels=LABELS, embedded=data)


def test_from_audio_with_bad_files(encoder, broken_voices: Manifest) -> None:
    for utterance in broken_voices:
        utterance.labels["hz"] = str(90 + 45 * int(utterance.labels["speaker"][3]) + utterance.duration)
    broken = Manifest(broken_voices, paths=broken_voices.paths)
    report = evaluate_regression(encoder, broken, labels=["hz"], num_resamples=5)
    assert (report.num_utterances, report.num_folds) == (13, 4)
    assert {item.name for item in report.skipped} == {"spk0_0", "spk1_1", "spk2_2"}
