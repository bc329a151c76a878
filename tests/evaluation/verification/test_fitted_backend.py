"""Whole verification systems: what is fitted on what, what is reported, which leaks are refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dino_speech.data.manifest import Manifest, Utterance, read_manifest
from dino_speech.data.trials import Trials, make_trials
from dino_speech.embedding.embedded_manifest import EmbeddedManifest
from dino_speech.errors import InputError
from dino_speech.evaluation.verification.evaluate import evaluate_verification
from dino_speech.evaluation.verification.plda import PLDA
from dino_speech.evaluation.verification.report import VerificationReport
from dino_speech.evaluation.verification.scoring import CosineBackend, ScoreNorm
from dino_speech.metrics import act_dcf, cllr, eer, min_cllr, min_dcf

DIM = 12


def people(name: str, num: int = 40, *, each: int = 6, seed: int = 0) -> EmbeddedManifest:
    """Speakers differ in the first three dimensions, everything else is loud and says nothing of them."""
    rng = np.random.default_rng(seed)
    speakers = np.repeat(np.arange(num), each)
    rows = rng.standard_normal((num * each, DIM)) * np.linspace(0.5, 4.0, DIM) + 2.0
    rows[:, :3] += rng.standard_normal((num, 3))[speakers]
    utterances = [
        Utterance(f"{name}{i}", f"/{name}/{i}.wav", 1.0 + i % 5, labels={"speaker": f"{name}_{speaker}"})
        for i, speaker in enumerate(speakers)
    ]
    return EmbeddedManifest(Manifest(utterances, paths=[f"/{name}.csv"]), rows.astype(np.float32))


@pytest.fixture
def parts() -> dict[str, EmbeddedManifest]:
    return {name: people(name, seed=seed) for seed, name in enumerate(("test", "train", "cohort", "dev"))}


def evaluate(parts: dict[str, EmbeddedManifest], **options: Any) -> VerificationReport:
    test = parts["test"]
    options = {"num_resamples": 10, "embedded": test, **options}
    return evaluate_verification(None, test.manifest, make_trials(test.manifest), **options)


def rows_of(trials: Trials, embedded: EmbeddedManifest) -> tuple[np.ndarray, np.ndarray]:
    positions = embedded.manifest.by_id()
    return tuple(np.array([positions[name] for name in side]) for side in (trials.enroll, trials.test))  # type: ignore


def test_plain_cosine_says_so(parts) -> None:
    found = evaluate(parts).to_dict()
    assert found["backend"] == {"name": "cosine"}
    assert (found["score_norm"], found["calibration"]) == (None, None)


def test_plda_learns_the_directions_of_speakers(parts) -> None:
    plain, plda = evaluate(parts), evaluate(parts, backend="plda", train=parts["train"])
    assert plda.eer < plain.eer - 10
    fitted = PLDA().fit(parts["train"].embeddings, parts["train"].manifest.label("speaker"))
    given = evaluate(parts, backend=fitted)
    np.testing.assert_allclose(given.scores, plda.scores, atol=1e-5)
    unfitted = PLDA(lda_dim=3)
    assert evaluate(parts, backend=unfitted, train=parts["train"]).backend["dim"] == 3
    assert not hasattr(unfitted, "ratio_")  # the caller's own object is left as it is


def test_mean_of_the_training_set(parts) -> None:
    mean = parts["train"].embeddings.mean(axis=0)
    by_name, by_hand = evaluate(parts, backend="cosine_mean", train=parts["train"]), evaluate(parts, mean=mean)
    np.testing.assert_allclose(by_name.scores, by_hand.scores, atol=1e-6)
    assert by_name.backend == by_hand.backend == {"name": "cosine_mean"}


def test_a_cohort_is_of_speakers_where_they_are_known(parts) -> None:
    """Each is the mean of its utterances, as in WeSpeaker; `top` counts speakers."""
    cohort = parts["cohort"]
    report = evaluate(parts, score_norm="as", cohort=cohort, top=15)
    assert report.score_norm == {"kind": "as", "num_cohort": 240, "num_compared": 40, "top": 15}
    means = np.stack([cohort.embeddings[6 * i : 6 * i + 6].mean(axis=0) for i in range(40)])
    np.testing.assert_allclose(report.scores, normalized_by_hand(parts, means, top=15), atol=1e-4)
    with pytest.raises(InputError, match="top is 41; expected 2 to 40, the number of cohort speakers"):
        evaluate(parts, score_norm="as", cohort=cohort, top=41)
    from_train = evaluate(parts, backend="cosine_mean", train=parts["train"], score_norm="s")
    assert from_train.score_norm == {"kind": "s", "num_cohort": 240, "num_compared": 40, "top": None}


def test_an_utterance_of_the_cohort_whose_speaker_is_not_known_stands_alone(parts) -> None:
    cohort = parts["cohort"]
    for utterance in cohort.manifest[6:]:
        utterance.labels["speaker"] = ""
    report = evaluate(parts, score_norm="as", cohort=cohort, top=50)
    assert report.score_norm == {"kind": "as", "num_cohort": 240, "num_compared": 235, "top": 50}
    vectors = np.concatenate([cohort.embeddings[:6].mean(axis=0)[None], cohort.embeddings[6:]])
    np.testing.assert_allclose(report.scores, normalized_by_hand(parts, vectors, top=50), atol=1e-4)


def normalized_by_hand(parts: dict[str, EmbeddedManifest], cohort: np.ndarray, *, top: int) -> np.ndarray:
    trials, projected = make_trials(parts["test"].manifest), CosineBackend().project(parts["test"].embeddings)
    enroll, test = rows_of(trials, parts["test"])
    norm = ScoreNorm("as", CosineBackend().project(cohort), top=top)
    statistics = norm.statistics(projected, np.unique([enroll, test]))
    return norm.normalize(projected.score_pairs(enroll, test), enroll, test, statistics)


@pytest.mark.parametrize("quality", [(), ("duration", "norm", "cohort")])
def test_calibration_is_fitted_on_other_trials(parts, quality) -> None:
    dev = parts["dev"]
    options = {"score_norm": "s", "cohort": parts["cohort"], "backend": "plda", "train": parts["train"]}
    plain = evaluate(parts, **options)
    report = evaluate(parts, calibration=(make_trials(dev.manifest), dev), quality=quality, p_target=0.1, **options)
    found = report.calibration
    assert found is not None
    assert found["cllr"] == pytest.approx(cllr(report.scores, report.labels))
    assert found["act_dcf"] == pytest.approx(act_dcf(report.scores, report.labels, p_target=0.1))
    assert found["min_dcf"] == pytest.approx(min_dcf(report.scores, report.labels, p_target=0.1))
    assert found["min_cllr"] == pytest.approx(min_cllr(report.scores, report.labels))
    assert (found["min_dcf"] <= found["act_dcf"], found["min_cllr"] <= found["cllr"]) == (True, True)
    assert set(found["intervals"]) == {"act_dcf", "min_dcf", "cllr", "min_cllr"}
    for name, interval in found["intervals"].items():
        assert 0 <= interval.low <= interval.high, name
    assert found["cllr"] < min(1, cllr(plain.scores, plain.labels))
    assert (found["cllr_before"], found["act_dcf_before"]) == (None, None)  # normalised scores are no ratios
    assert (found["quality"], len(found["weights"])) == (list(quality), 1 + 2 * len(quality))
    if not quality:
        assert report.eer == pytest.approx(plain.eer, abs=1e-6)  # the order is the same
    text = json.dumps(report.to_dict(), allow_nan=False)
    assert [item["path"] for item in json.loads(text)["provenance"]["manifests"]] == [
        f"/{name}.csv" for name in ("test", "train", "cohort", "dev")
    ]


def test_only_what_is_a_likelihood_ratio_is_judged_as_one(parts) -> None:
    dev, learnt = parts["dev"], {"backend": "plda", "train": parts["train"]}
    plain = evaluate(parts, **learnt)
    calibration = make_trials(dev.manifest), dev
    found = evaluate(parts, calibration=calibration, p_target=0.1, **learnt).calibration
    assert found["cllr_before"] == pytest.approx(cllr(plain.scores, plain.labels))
    assert found["act_dcf_before"] == pytest.approx(act_dcf(plain.scores, plain.labels, p_target=0.1))
    of_cosines = evaluate(parts, calibration=calibration).calibration
    assert (of_cosines["cllr_before"], of_cosines["act_dcf_before"]) == (None, None)


@pytest.mark.parametrize("role", ["train", "cohort"])
def test_calibration_trials_of_speakers_who_trained_something_else_are_refused(parts, role) -> None:
    options = {
        "train": {"backend": "plda", "train": parts["train"]},
        "cohort": {"score_norm": "s", "cohort": parts["train"]},
    }
    dev = parts["dev"]
    parts["train"].manifest[7].labels["speaker"] = "dev_3"
    with pytest.raises(InputError, match=r"/train.csv: 1 speakers also stand in the calibration trials \(dev_3\)"):
        evaluate(parts, calibration=(make_trials(dev.manifest), dev), **options[role])


@pytest.mark.parametrize("role", ["train", "cohort", "calibration"])
def test_speakers_of_the_trials_are_refused_with_their_names(parts, role) -> None:
    parts["train"].manifest[7].labels["speaker"] = "test_3"
    options = {
        "train": {"backend": "plda", "train": parts["train"]},
        "cohort": {"score_norm": "s", "cohort": parts["train"]},
        "calibration": {"calibration": (make_trials(parts["train"].manifest), parts["train"])},
    }
    with pytest.raises(InputError, match=r"/train.csv: 1 speakers also stand in the trials \(test_3\)"):
        evaluate(parts, **options[role])


def test_recordings_of_the_trials_are_refused_where_speakers_are_unknown(parts) -> None:
    test = parts["test"]
    nameless = Manifest([Utterance(u.id, u.wav, u.duration) for u in test.manifest])
    with pytest.raises(InputError, match=r"cohort manifest: 240 recordings also stand in the trials"):
        evaluate(parts, score_norm="s", cohort=EmbeddedManifest(nameless, test.embeddings))


def test_other_speakers_of_one_manifest_may_calibrate(parts) -> None:
    test = parts["test"]
    halves = [[i for i in range(240) if (i < 120) == first] for first in (True, False)]
    judged, held_out = (make_trials(test.manifest.subset(rows)) for rows in halves)
    options = {"embedded": test, "num_resamples": 5}
    report = evaluate_verification(None, test.manifest, judged, calibration=(held_out, test), **options)
    assert report.eer == pytest.approx(eer(report.scores, judged.labels))
    with pytest.raises(InputError, match=r"calibration manifest /test.csv: 20 speakers also stand in the trials"):
        evaluate_verification(None, test.manifest, judged, calibration=(judged, test), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "lda"}, "backend is 'lda'; expected one of cosine, cosine_mean, plda"),
        ({"backend": "plda"}, "this back-end is learnt from other utterances"),
        ({"backend": PLDA()}, "this back-end is learnt from other utterances"),
        ({"score_norm": "x"}, "score_norm is 'x'"),
        ({"score_norm": "as"}, "give them as cohort"),
        ({"top": 5}, "no score_norm"),
        ({"quality": ["norm"]}, "give calibration trials, too"),
        ({"backend": "plda", "mean": np.zeros(DIM)}, "learnt from other utterances"),
    ],
)
def test_options_that_do_not_fit_together(parts, options, message) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(parts, **options)


def test_training_manifest_without_enough_is_named(parts) -> None:
    for utterance in parts["train"].manifest:
        utterance.labels["speaker"] = "one"
    with pytest.raises(InputError, match=r"/train.csv: 240 utterances of 1 speakers"):
        evaluate(parts, backend="plda", train=parts["train"])


def test_from_audio_each_part_is_embedded_once(encoder, voices_folder: Path) -> None:
    voices = read_manifest(voices_folder / "manifest.csv")
    test, train = voices.select(speaker=["spk0", "spk1"]), voices.select(speaker=["spk2", "spk3"])
    options = {"backend": "plda", "train": train, "score_norm": "s", "num_resamples": 5}
    report = evaluate_verification(encoder, test, make_trials(test), **options)
    assert report.backend["num_train_utterances"] == report.score_norm["num_cohort"] == 8
    assert encoder.num_files == 16
    Path(train[0].wav).unlink()
    again = evaluate_verification(encoder, test, make_trials(test), **options)
    assert [item.name for item in again.skipped] == [train[0].id]
    assert (again.num_dropped_trials, again.score_norm["num_cohort"]) == (0, 7)


def test_a_part_of_a_recording_of_the_trials_is_refused(parts) -> None:
    test, cohort = parts["test"].manifest, parts["cohort"]
    part = Utterance("part", test[5].wav, 0.5, 4000, 8000, {"speaker": "stranger"})
    leaking = EmbeddedManifest(Manifest([part, *cohort.manifest[1:]]), cohort.embeddings)
    with pytest.raises(InputError, match=r"1 recordings also stand in the trials \(part\)"):
        evaluate(parts, score_norm="s", cohort=leaking)


def test_a_refusal_that_could_not_be_made_is_said(parts) -> None:
    cohort = parts["cohort"]
    nameless = Manifest([Utterance(u.id, u.wav, u.duration) for u in cohort.manifest], paths=["/cohort.csv"])
    report = evaluate(parts, score_norm="s", cohort=EmbeddedManifest(nameless, cohort.embeddings))
    assert any(text.startswith("/cohort.csv has no column 'speaker': whether its") for text in report.warnings)
    assert evaluate(parts, score_norm="s", cohort=cohort).warnings == []
