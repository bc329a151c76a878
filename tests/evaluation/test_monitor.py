"""The monitor: true figures, cached audio, the encoder left as it was found."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from dino_speech.data.manifest import Manifest, Utterance
from dino_speech.data.trials import Trials, make_trials
from dino_speech.errors import InputError
from dino_speech.evaluation.monitor import Monitor, _some_of_each, nearest_neighbour
from dino_speech.evaluation.verification.evaluate import evaluate_verification


def test_eer_equals_the_full_evaluation(encoder, voices: Manifest) -> None:
    trials = make_trials(voices)
    found = Monitor(voices, trials=trials, label="speaker", batch_s=6.0)(encoder)
    assert found["eer"] == pytest.approx(evaluate_verification(encoder, voices, trials, num_resamples=2).eer, abs=1e-6)
    assert set(found) == {"eer", "nearest_neighbour", "rank_me"}
    assert 1 <= found["rank_me"] <= 16


def test_best_is_the_most_telling_figure_there_is(voices: Manifest) -> None:
    trials = make_trials(voices)
    with_trials, with_label, alone = (
        Monitor(voices, trials=trials, label="speaker"),
        Monitor(voices, label="emotion"),
        Monitor(voices),
    )
    assert [m.metric for m in (with_trials, with_label, alone)] == ["eer", "nearest_neighbour", "rank_me"]
    assert [m.best_is for m in (with_trials, with_label, alone)] == ["eer", "nearest_neighbour", "rank_me"]
    assert with_trials.better({"eer": 9.0}, {"eer": 10.0})
    assert not with_trials.better({"eer": 10.0}, {"eer": 10.0})
    assert with_label.better({"nearest_neighbour": 0.6}, {"nearest_neighbour": 0.5})
    assert alone.better({"rank_me": 20.0}, None)
    assert not alone.better({"rank_me": math.nan}, None)
    assert alone.better({"rank_me": 1.0}, {"rank_me": math.nan})


def test_modes_and_statistics_stay_as_they_were(encoder, voices: Manifest) -> None:
    encoder.train()
    encoder.norm.eval()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    first = Monitor(voices)(encoder)
    assert (encoder.training, encoder.norm.training) == (True, False)
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    encoder.norm.train()
    assert Monitor(voices)(encoder) == first  # eval mode inside, whatever it was outside
    assert encoder.norm.training


def test_audio_is_decoded_once_within_the_cache(encoder, voices: Manifest) -> None:
    monitor, frugal = Monitor(voices), Monitor(voices, cache_gib=100_000 / 2**30)  # one or two waves fit
    first = monitor(encoder)
    assert frugal(encoder) == first
    for utterance in voices:
        Path(utterance.wav).write_bytes(b"")
    assert monitor(encoder) == first
    assert monitor.skipped == []
    with pytest.raises(InputError, match=r"1 utterances of .* can be monitored; spk.*empty file"):
        frugal(encoder)


def test_unreadable_audio_is_listed_once_and_left_out(encoder, broken_voices: Manifest) -> None:
    monitor = Monitor(broken_voices, trials=make_trials(broken_voices), label="speaker")
    assert monitor(encoder) == monitor(encoder)
    assert sorted(item.name for item in monitor.skipped) == ["spk0_0", "spk1_1", "spk2_2"]


def test_an_encoder_gone_wrong_gives_nan_and_is_never_best(encoder, voices: Manifest) -> None:
    monitor = Monitor(voices, label="speaker")
    encoder.norm.running_mean.fill_(math.nan)
    found = monitor(encoder)
    assert all(math.isnan(value) for value in found.values())
    assert not monitor.better(found, None)


def test_long_utterances_are_cut_and_spans_respected(
    encoder, write_wav: Callable[..., object], tone: Callable[..., np.ndarray]
) -> None:
    low, high = tone(2.0, hz=200.0), tone(2.0, hz=2000.0)
    path = str(write_wav("both.wav", np.concatenate([low, high])))
    spans = [
        Utterance("low", path, 2.0, None, 32_000),
        Utterance("high", path, 2.0, 32_000, None),
        Utterance("all", path, 4.0),
    ]
    monitor = Monitor(Manifest(spans), max_s=1.5)
    monitor(encoder)
    waves = {spans[row].id: wave.numpy() for row, wave in monitor._cache.items()}
    for name, expected in (("low", low), ("high", high), ("all", low)):
        assert waves[name] == pytest.approx(expected[:24_000], abs=1e-4)


def test_a_sample_is_drawn_where_there_is_much(voices: Manifest) -> None:
    assert len(Monitor(voices, max_utterances=5).manifest) == 5
    by_seed = [[u.id for u in Monitor(voices, max_utterances=5, seed=s).manifest] for s in (0, 0, 1)]
    assert by_seed[0] == by_seed[1] != by_seed[2]
    labels = np.array([f"s{i // 3}" for i in range(1500)] + [""] * 50)
    kept = _some_of_each(labels, 90, np.random.default_rng(0))[:90]
    assert len(set(labels[kept])) == 30  # whole speakers: one file of each could not be compared
    assert "" not in labels[kept]


def test_what_cannot_be_measured_is_refused_before_training(voices: Manifest, broken_voices: Manifest) -> None:
    with pytest.raises(InputError, match=r"1 utterances of .* can be monitored; there are no more"):
        Monitor(voices.subset([15]))
    with pytest.raises(InputError, match=r"1 utterances of .* can be monitored; spk0_0: .*0\.wav: cannot be decoded"):
        Monitor(voices.subset([0, 15]))
    trials = Trials(np.array([1, 0], dtype=np.int8), ["spk3_0", "spk3_0"], ["spk3_1", "spk0_0"])
    with pytest.raises(InputError, match="1 targets and 0 non-targets; each kind is needed"):
        Monitor(broken_voices, trials=trials)
    with pytest.raises(InputError, match=r"no two utterances of .* have the same label"):
        Monitor(voices.subset([1, 4, 8]), label="speaker")
    with pytest.raises(InputError, match="no column 'accent'"):
        Monitor(voices, label="accent")


@pytest.mark.parametrize("num", [60, 1500])
def test_nearest_neighbour_equals_sklearn(num: int) -> None:
    rng = np.random.default_rng(0)
    labels = np.array([f"c{i % 6}" for i in range(num)])
    embeddings = rng.standard_normal((6, 10))[np.arange(num) % 6] + rng.standard_normal((num, 10))
    if num <= 60:
        knn = KNeighborsClassifier(1, metric="cosine")
        expected = cross_val_score(knn, embeddings, labels, cv=LeaveOneOut()).mean()
    else:
        _, neighbours = KNeighborsClassifier(2, metric="cosine").fit(embeddings, labels).kneighbors(embeddings)
        expected = np.mean(labels[neighbours[:, 1]] == labels)
    assert nearest_neighbour(embeddings, labels) == pytest.approx(expected)


def test_neighbours_of_the_same_speaker_and_blank_labels_do_not_answer() -> None:
    # Each speaker's two files are close together; the nearest file of another speaker has the other label.
    embeddings = np.array([[1, 0], [1, 0.01], [1, 0.1], [1, 0.11], [0, 1], [0, 1]], dtype=np.float32)
    labels = np.array(["a", "a", "b", "b", "a", ""])
    speakers = np.array(["x", "x", "y", "y", "z", "z"])
    assert nearest_neighbour(embeddings, labels) == 4 / 5
    # x: both hear y (wrong); y is alone with b, so there is no right answer; z hears y (wrong).
    assert nearest_neighbour(embeddings, labels, speakers=speakers) == 0.0
    assert math.isnan(nearest_neighbour(embeddings[:2], np.array(["a", "b"])))
