"""Clusters of points that are known, cleaning, and quality against scikit-learn's and counting by hand."""

import numpy as np
import pytest

from dino_speech.errors import InputError
from dino_speech.transfer.clusters import Clustering, Clusters


def blobs(num_speakers: int = 12, num_each: int = 10, *, spread: float = 0.15, seed: int = 0) -> tuple:
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((num_speakers, 24))
    speakers = np.repeat(np.arange(num_speakers), num_each)
    points = centers[speakers] + spread * rng.standard_normal((len(speakers), 24))
    return points * rng.uniform(0.5, 2.0, (len(speakers), 1)), [f"s{speaker}" for speaker in speakers]


@pytest.mark.parametrize("utterances_per_centroid", [1, 4])
@pytest.mark.parametrize("end", [{"num_clusters": 12}, {"threshold": 0.6}])
def test_speakers_that_lie_apart_are_found(utterances_per_centroid: int, end: dict) -> None:
    points, speakers = blobs()
    clusters = Clustering(utterances_per_centroid=utterances_per_centroid, **end).fit(points, seed=0)
    quality = clusters.quality(speakers)
    assert clusters.num_clusters == 12
    assert quality is not None
    assert (quality.purity, quality.nmi) == (1.0, pytest.approx(1.0))


def test_the_same_seed_gives_the_same_clusters() -> None:
    points, _ = blobs(spread=0.8)
    first, second = (Clustering(num_clusters=12).fit(points, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.labels, second.labels)


def test_an_utterance_between_two_speakers_is_dropped() -> None:
    points, _ = blobs(num_speakers=2, spread=0.01)
    between = points[0] / np.linalg.norm(points[0]) + points[-1] / np.linalg.norm(points[-1])
    points = np.vstack([points, between])
    sure = Clustering(num_clusters=2, utterances_per_centroid=1, min_margin=0.1).fit(points, seed=0)
    assert sure.labels[-1] == -1
    assert sure.kept.sum() == 20
    everything = Clustering(num_clusters=2, utterances_per_centroid=1, min_margin=-2).fit(points, seed=0)
    assert everything.kept.all()


def test_small_clusters_go_and_large_ones_keep_their_most_certain() -> None:
    points, speakers = blobs(num_speakers=3, num_each=10)
    points, speakers = points[:22], speakers[:22]  # the last speaker has two utterances
    clusters = Clustering(num_clusters=3, utterances_per_centroid=1, min_utterances=3, max_utterances=6).fit(
        points, seed=0
    )
    assert clusters.num_clusters == 2
    assert clusters.num_found == 3
    assert not clusters.kept[20:].any()
    for cluster in (0, 1):
        assert (clusters.labels == cluster).sum() == 6
        of_speaker = np.flatnonzero(np.array(speakers) == speakers[np.flatnonzero(clusters.labels == cluster)[0]])
        dropped = [row for row in of_speaker if not clusters.kept[row]]
        assert clusters.margins[dropped].max() <= clusters.margins[clusters.labels == cluster].min()


def test_margin_by_hand() -> None:
    points = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.0, 2.0]])
    clusters = Clustering(num_clusters=2, utterances_per_centroid=1, min_margin=-2).fit(points, seed=0)
    assert clusters.labels[0] == clusters.labels[1] != clusters.labels[2]
    np.testing.assert_allclose(clusters.margins[:2], [0.8 - 0.0, 0.8 - 0.6], atol=1e-12)


def test_purity_by_hand_and_blank_labels_left_out() -> None:
    labels = np.array([0, 0, 0, 1, 1, -1])
    quality = Clusters(labels, np.zeros(6), 2).quality(["a", "a", "b", "b", "", "c"])
    assert quality is not None
    assert quality.purity == 3 / 4
    assert (quality.num_utterances, quality.num_speakers, quality.num_clusters) == (4, 2, 2)
    assert Clusters(labels, np.zeros(6), 2).quality([""] * 6) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give one of them"),
        ({"num_clusters": 5, "threshold": 0.5}, "give one of them"),
        ({"num_clusters": 1}, "at least 2"),
        ({"threshold": 1.5}, "cosine between -1 and 1"),
        ({"num_clusters": 5, "min_utterances": 4, "max_utterances": 3}, "at least min_utterances"),
    ],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Clustering(**options)


def test_more_clusters_than_utterances_allow_is_refused() -> None:
    with pytest.raises(InputError, match="lower it to 60"):
        Clustering(num_clusters=100).fit(blobs()[0], seed=0)


def test_nothing_left_is_refused() -> None:
    with pytest.raises(InputError, match="fewer than two are left"):
        Clustering(num_clusters=12, min_utterances=50, max_utterances=None).fit(blobs()[0], seed=0)
