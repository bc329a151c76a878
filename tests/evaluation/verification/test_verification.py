"""Verification from files to figures, with bad audio, groups, joined manifests and no speakers."""

import json
from pathlib import Path

import numpy as np
import pytest

from dino_speech.data.manifest import Manifest, Utterance, read_manifest
from dino_speech.data.trials import Trials, make_trials, read_trials
from dino_speech.embedding.embedded_manifest import EmbeddedManifest, embed_manifest
from dino_speech.errors import InputError
from dino_speech.evaluation.stress.fairness import evaluate_fairness
from dino_speech.evaluation.verification.evaluate import evaluate_verification
from dino_speech.evaluation.verification.verifier import Verifier
from dino_speech.metrics import eer, min_cllr, min_dcf
from dino_speech.models.checkpoint import load_encoder
from dino_speech.studies.trial_lists import TrialList


def test_report_equals_scoring_the_trials_one_by_one(encoder, voices: Manifest) -> None:
    trials = make_trials(voices)
    report = evaluate_verification(encoder, voices, trials, num_resamples=50)
    scores = []
    for a, b in zip(trials.enroll, trials.test, strict=True):
        x, y = (encoder.embed_file(voices[voices.by_id()[name]].wav).double().numpy() for name in (a, b))
        scores.append(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
    assert report.scores == pytest.approx(scores, abs=1e-5)
    assert report.eer == pytest.approx(eer(scores, trials.labels), abs=1e-9)
    assert report.min_dcf == pytest.approx(min_dcf(scores, trials.labels), abs=1e-9)
    assert report.min_dcf_05 == pytest.approx(min_dcf(scores, trials.labels, p_target=0.05), abs=1e-9)
    assert report.min_cllr == pytest.approx(min_cllr(scores, trials.labels), abs=1e-9)
    assert (report.num_trials, report.num_targets) == (len(trials), int(trials.labels.sum()))
    assert report.eer_interval.low <= report.eer <= report.eer_interval.high
    assert report.resampled == "speakers"


def test_each_utterance_is_embedded_once_and_only_if_a_trial_needs_it(encoder, voices: Manifest) -> None:
    names = ["spk0_0", "spk0_1", "spk1_0"]
    trials = Trials(np.array([1, 0] * 50, dtype=np.int8), [names[0], names[0]] * 50, [names[1], names[2]] * 50)
    report = evaluate_verification(encoder, voices, trials, num_resamples=10)
    assert encoder.num_files == 3 == report.num_utterances


def test_json_holds_the_promised_keys_first(encoder, voices: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "trials.txt"
    path.write_text("1 spk0_0 spk0_1\n1 spk1_0 spk1_1\n0 spk0_0 spk1_0\n0 spk1_1 spk2_0\n")
    report = evaluate_verification(encoder, voices, read_trials(path), group_by="emotion", num_resamples=20)
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert list(found)[:3] == ["eer", "min_dcf", "num_trials"]
    assert found["provenance"]["manifests"][0]["path"] == voices.path
    assert len(found["provenance"]["trials"]["sha256"]) == 64
    assert "scores" not in found


def test_bad_audio_is_listed_and_its_trials_counted(encoder, broken_voices: Manifest) -> None:
    trials = make_trials(broken_voices)
    bad = {"spk0_0", "spk1_1", "spk2_2"}
    touched = [a in bad or b in bad for a, b in zip(trials.enroll, trials.test, strict=True)]
    report = evaluate_verification(encoder, broken_voices, trials, num_resamples=20)
    assert {item.name for item in report.skipped} == bad
    assert report.num_dropped_trials == sum(touched) > 0
    assert report.num_trials == len(trials) - sum(touched)
    assert report.labels.tolist() == [label for label, bad in zip(trials.labels, touched, strict=True) if not bad]
    assert {item["name"] for item in report.to_dict()["skipped"]} == bad


def test_trials_that_all_need_bad_audio_are_refused(encoder, broken_voices: Manifest) -> None:
    trials = Trials(np.array([1, 0], dtype=np.int8), ["spk3_0", "spk3_0"], ["spk3_1", "spk0_0"])
    with pytest.raises(InputError, match=r"1 targets and 0 non-targets can be scored \(1 trials need skipped audio"):
        evaluate_verification(encoder, broken_voices, trials)


def simple(num: int = 400, *, with_speakers: bool = True) -> tuple[EmbeddedManifest, Trials]:
    rng = np.random.default_rng(0)
    speakers = rng.integers(0, 40, num)
    embeddings = rng.standard_normal((40, 5))[speakers] + 0.8 * rng.standard_normal((num, 5))
    rows = [
        Utterance(f"u{i}", f"/u{i}.wav", 1.0, labels={"speaker": f"s{s}" * with_speakers, "source": f"pack{s % 2}"})
        for i, s in enumerate(speakers)
    ]
    enroll, test = rng.integers(0, num, (2, 20_000))
    kept = enroll != test
    labels = (speakers[enroll] == speakers[test])[kept].astype(np.int8)
    trials = Trials(labels, [f"u{i}" for i in enroll[kept]], [f"u{i}" for i in test[kept]])
    return EmbeddedManifest(Manifest(rows), embeddings.astype(np.float32)), trials


def test_both_sides_of_a_groups_trials_are_in_it() -> None:
    """The same trials in a report, in a comparison of groups and in a study's lists."""
    embedded, trials = simple()
    embedded.manifest[0].labels["source"] = ""  # of no group
    report = evaluate_verification(
        None, embedded.manifest, trials, embedded=embedded, group_by="source", num_resamples=20
    )
    enroll, test = (
        np.array([embedded.manifest[int(name[1:])].labels["source"] for name in side])
        for side in (trials.enroll, trials.test)
    )
    assert (enroll != test).sum() > 1000
    options = {"embedded": embedded, "trials": trials, "group": "source", "num_resamples": 2}
    fair = evaluate_fairness(None, embedded.manifest, **options).figures["eer"].groups
    lists = {one.name: one.trials for one in TrialList("", trials, embedded.manifest).within("source")}
    assert list(report.groups) == list(fair) == list(lists) == ["pack0", "pack1"]
    for name in ("pack0", "pack1"):
        inside = (enroll == name) & (test == name)
        expected = eer(report.scores[inside], report.labels[inside])
        assert report.groups[name] == pytest.approx(expected) == fair[name].value
        assert report.group_trials[name] == inside.sum() == fair[name].num == len(lists[name])
    with pytest.raises(InputError, match=r"no column 'sourc'.*did you mean 'source'"):
        evaluate_verification(None, embedded.manifest, trials, embedded=embedded, group_by="sourc")


def test_without_speakers_the_trials_are_resampled_and_the_report_says_so() -> None:
    embedded, trials = simple()
    nameless, _ = simple(with_speakers=False)
    by_speaker = evaluate_verification(None, embedded.manifest, trials, embedded=embedded, num_resamples=100)
    by_trial = evaluate_verification(None, nameless.manifest, trials, embedded=nameless, num_resamples=100)
    assert (by_speaker.resampled, by_trial.resampled) == ("speakers", "trials")
    assert (by_speaker.num_speakers, by_trial.num_speakers) == (40, None)
    assert (by_speaker.warnings, len(by_trial.warnings)) == ([], 1)
    assert by_speaker.eer == by_trial.eer
    widths = [r.eer_interval.high - r.eer_interval.low for r in (by_speaker, by_trial)]
    assert widths[0] > widths[1] > 0


def test_a_mean_of_other_utterances_is_subtracted() -> None:
    embedded, trials = simple()
    shifted = EmbeddedManifest(embedded.manifest, embedded.embeddings + np.array([30, 0, 0, 0, 0], dtype=np.float32))
    plain, with_shift, mended = (
        evaluate_verification(None, e.manifest, trials, embedded=e, mean=mean, num_resamples=2).eer
        for e, mean in ((embedded, None), (shifted, None), (shifted, np.array([30, 0, 0, 0, 0])))
    )
    assert mended == pytest.approx(plain, abs=1e-3)
    assert with_shift > plain + 1


def test_trials_name_what_the_manifest_lacks(encoder, voices: Manifest) -> None:
    trials = Trials(np.array([1], dtype=np.int8), ["spk0_0"], ["spk9_9"])
    with pytest.raises(InputError, match="trials number 1: test 'spk9_9' is neither"):
        evaluate_verification(encoder, voices, trials)


def test_verifier_decides_only_with_a_threshold(encoder, voices: Manifest) -> None:
    first, other = voices[0].wav, voices[12].wav
    undecided = Verifier(encoder).compare_files(first, other)
    assert undecided.same_speaker is None
    same = Verifier(encoder, threshold=0.999).compare_files(first, first)
    assert (same.score, same.same_speaker) == (pytest.approx(1.0, abs=1e-6), True)
    assert Verifier(encoder, threshold=1.0 - 1e-6).compare_files(first, other).same_speaker is False
    assert Verifier(encoder, threshold=undecided.score).compare_files(first, other).same_speaker is True
    report = evaluate_verification(encoder, voices, make_trials(voices), num_resamples=2)
    decided = report.scores >= report.eer_threshold
    assert np.mean(decided == report.labels) == pytest.approx(1 - report.eer / 100, abs=0.1)
    assert set(undecided.to_dict()) == {"score", "same_speaker"}
    with pytest.raises(InputError, match="no such file"):
        Verifier(encoder).compare_files(first, "none.wav")


def test_embeddings_made_before_give_the_same_report(encoder, voices: Manifest) -> None:
    trials, embedded = make_trials(voices), embed_manifest(encoder, voices)
    first = evaluate_verification(encoder, voices, trials, num_resamples=10).to_dict()
    again = evaluate_verification(None, voices, trials, embedded=embedded, num_resamples=10).to_dict()
    first.pop("provenance"), again.pop("provenance")
    assert first == again


@pytest.mark.slow
@pytest.mark.corpus
def test_level_normalised_statistics_on_real_telephone_speech(data_root: Path) -> None:
    """The floor that every result is compared with, on the 415 trials of one source (the pack's own floor is 11 %)."""
    manifest = read_manifest(data_root / "speakers_more" / "manifest.csv", where={"source": "Hyke", "split": "test"})
    trials = read_trials(data_root / "speakers_more" / "trials_test.txt")
    kept = [i for i, name in enumerate(trials.enroll) if "/hyke/" in name]
    trials = Trials(trials.labels[kept], [trials.enroll[i] for i in kept], [trials.test[i] for i in kept])
    report = evaluate_verification(load_encoder("fbank_stats"), manifest, trials, group_by="source")
    assert (report.num_trials, report.num_targets, report.num_utterances) == (415, 166, 84)
    assert 1 < report.eer < 12
    assert report.groups == {"Hyke": report.eer}
    assert report.eer_interval.high - report.eer_interval.low > 1
