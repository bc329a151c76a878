"""A clinical question: told by the voice, or by the silence; the control must know which."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dino_speech.data.manifest import Manifest, read_manifest
from dino_speech.errors import InputError
from dino_speech.evaluation.clinical.evaluate import evaluate_clinical
from dino_speech.evaluation.clinical.subjects import EmbeddingProbe, SegmentOdds
from dino_speech.evaluation.reports.result_folder import write_results
from dino_speech.models.checkpoint import load_encoder

QUESTION = {"label": "diagnosis", "positive": "ad", "num_resamples": 200}
EMOTION = {**QUESTION, "label": "emotion"}
Clinic = Callable[..., Manifest]


@pytest.mark.slow
def test_a_confound_in_silence_is_found(clinic: Clinic) -> None:
    report = evaluate_clinical(load_encoder("fbank_stats"), clinic(in_silence=True), **QUESTION)
    assert report.result.figures["auc"] > 0.9  # the recordings look like a success
    assert report.silence.result.figures["auc"] > 0.9
    assert report.silence.above_chance
    assert report.silence.result.num_subjects == 20
    warning = report.warnings()[0]
    assert "silent parts alone tell ad from control" in warning
    assert not report.silence.nonspeech_fraction.tells


@pytest.mark.slow
def test_a_voice_that_tells_does_not_alarm_the_control(clinic: Clinic) -> None:
    report = evaluate_clinical(load_encoder("fbank_stats"), clinic(in_voice=True), **QUESTION)
    assert report.result.figures["auc"] > 0.9
    assert not report.silence.above_chance
    assert not any("silent parts alone" in text for text in report.warnings())
    assert "silence alone" in str(report.tables())


@pytest.mark.slow
def test_the_share_of_pauses_and_the_length_are_told(clinic: Clinic) -> None:
    report = evaluate_clinical(load_encoder("fbank_stats"), clinic(pause_s=(1.5, 1.0)), **QUESTION)
    assert report.silence.nonspeech_fraction.auc == 1.0
    assert report.duration.tells
    told = " ".join(report.warnings())
    assert "share of non-speech alone" in told
    assert "length of the recordings alone" in told


@pytest.mark.slow
def test_no_pauses_in_one_class(clinic: Clinic) -> None:
    report = evaluate_clinical(load_encoder("fbank_stats"), clinic(in_voice=True, pause_s=(0.0, 1.0)), **QUESTION)
    silence = report.silence
    assert silence.result is None
    assert silence.reason.startswith("not possible: enough non-speech in only 0 of 10 positive and 10 of 10 negative")
    assert (silence.num_missing, silence.num_people) == ((10, 0), (10, 10))
    assert any("Who has no silence depends on the class: 10 of 10 ad, 0 of 10 control" in t for t in report.warnings())
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert found["silence_control"]["possible"] is False
    assert "not possible" in str(report.tables())


@pytest.mark.slow
def test_people_without_silence_are_left_out_of_the_control_only(clinic: Clinic, tmp_path: Path) -> None:
    manifest = clinic(in_voice=True)
    for number in (0, 1, 3):  # one patient and two controls lose their pause
        wave = soundfile.read(tmp_path / f"{number}.wav")[0]
        soundfile.write(tmp_path / f"{number}.wav", wave[:12_800], 16_000, subtype="FLOAT")
    report = evaluate_clinical(load_encoder("fbank_stats"), manifest, **QUESTION)
    assert (report.result.num_subjects, report.silence.result.num_subjects) == (20, 17)
    assert report.silence.same_people.num_subjects == 17
    assert report.silence.num_missing == (1, 2)
    assert len(report.tables()["Figures"]) == 3


@pytest.mark.slow
def test_segments_are_pooled_by_person_and_parts_can_be_kept(clinic: Clinic, tmp_path: Path) -> None:
    manifest = clinic(in_voice=True)
    options = {"segment_s": 0.5, "control_folder": str(tmp_path / "kept"), **QUESTION}
    report = evaluate_clinical(load_encoder("fbank_stats"), manifest, **options)
    assert report.result.num_segments == 5 * 20
    assert report.result.num_subjects == 20
    kept = read_manifest(tmp_path / "kept" / "nonspeech" / "manifest.csv", must_exist=True)
    assert len(kept) == 20
    again = evaluate_clinical(load_encoder("fbank_stats"), manifest, **options)
    assert np.array_equal(report.scores.log_odds, again.scores.log_odds)
    assert report.silence.to_dict() == again.silence.to_dict()


def test_official_split(clinic: Clinic) -> None:
    report = evaluate_clinical(load_encoder("fbank_stats"), clinic(in_silence=True), split="split", **QUESTION)
    assert (report.num_folds, report.result.num_subjects, report.silence.result.num_subjects) == (1, 10, 10)
    assert set(report.scores.names) == {f"s{i}" for i in range(10)}
    assert report.silence.num_people == (10, 10)  # also those that are learnt from


@pytest.mark.slow
def test_another_classifier_can_take_the_place_of_the_probe(clinic: Clinic) -> None:
    manifest, runs = clinic(in_voice=True), []
    probe = EmbeddingProbe(load_encoder("fbank_stats"))

    def classifier(train: Manifest, test: Manifest, *, run: str) -> SegmentOdds:
        runs.append(run)
        return probe(train, test, run=run)

    found = evaluate_clinical(None, manifest, classifier=classifier, num_folds=2, **QUESTION)
    expected = evaluate_clinical(load_encoder("fbank_stats"), manifest, num_folds=2, **QUESTION)
    assert runs == ["recordings/fold1", "recordings/fold2", "silence/fold1", "silence/fold2"]
    assert np.allclose(found.scores.log_odds, expected.scores.log_odds)
    with pytest.raises(InputError, match="either an encoder or a classifier"):
        evaluate_clinical(load_encoder("fbank_stats"), manifest, classifier=classifier, **QUESTION)


def test_each_segment_is_embedded_once(encoder, voices: Manifest) -> None:
    for row in voices:
        row.labels["emotion"] = "ad" if row.labels["speaker"] in ("spk0", "spk1") else "control"
    report = evaluate_clinical(encoder, voices, num_folds=2, silence_control=False, **EMOTION)
    assert encoder.num_files == 16
    assert (report.result.num_subjects, report.result.num_segments) == (4, 16)
    assert "was not asked for" in report.warnings()[0]


def test_bad_files_are_listed(encoder, broken_voices: Manifest) -> None:
    for row in broken_voices:
        row.labels["emotion"] = "ad" if row.labels["speaker"] in ("spk0", "spk1") else "control"
    report = evaluate_clinical(encoder, broken_voices, num_folds=2, **EMOTION)
    assert {item.name for item in report.skipped} == {"spk0_0", "spk1_1", "spk2_2"}
    assert report.silence.result is None


@pytest.mark.slow
def test_age_and_sex_are_reported_by_class_and_fold(clinic: Clinic, tmp_path: Path) -> None:
    report = evaluate_clinical(load_encoder("fbank_stats"), clinic(in_voice=True), silence_control=False, **QUESTION)
    assert (report.age.positive, report.age.negative) == (69.0, 70.0)
    assert (report.sex.positive, report.sex.negative) == (0.5, 0.5)
    assert sum(row["people"] for row in report.folds) == 20
    assert not any("differ in sex" in text for text in report.warnings())
    page = report.write(tmp_path / "report").read_text()
    assert "Warnings" in page
    assert "share of women" in page
    assert "not a diagnosis" in page


@pytest.mark.slow
@pytest.mark.corpus
def test_several_systems_stand_in_one_report(clinic: Clinic, tmp_path: Path) -> None:
    report = evaluate_clinical(load_encoder("fbank_stats"), clinic(in_silence=True), **QUESTION)
    text = write_results(tmp_path / "both", {"one": report, "other": report}).read_text()
    assert text.startswith("# Clinical evaluation: diagnosis, ad against control")
    assert "| system | on | people |" in text
    assert "| other | silence alone |" in text
    assert "## one: warnings" in text
    kept = json.loads((tmp_path / "both" / "report.json").read_text())["results"]
    assert kept["other"]["sensitivity"] == report.result.figures["sensitivity"]
    with pytest.raises(InputError, match="different questions"):
        write_results(tmp_path / "two", {"one": report, "other": replace(report, positive="mci")})
    with pytest.raises(InputError, match="reports of one kind, at least one; found none"):
        write_results(tmp_path / "two", {})


@pytest.mark.slow
def test_a_held_vowel_has_no_silence(data_root: Path) -> None:
    manifest = read_manifest(data_root / "pathology_parkinson_vowel" / "manifest.csv")
    report = evaluate_clinical(
        load_encoder("fbank_stats"), manifest, label="label", positive="PD", fold_column="fold", num_resamples=200
    )
    assert (report.result.num_subjects, report.result.num_positive, report.num_folds) == (61, 30, 5)
    assert 0.5 < report.result.figures["auc"] < 0.9
    assert report.silence.result is None
    assert "not possible" in report.silence.reason
    assert "\n" not in report.silence.reason
    assert report.age is None
    assert report.sex is None
