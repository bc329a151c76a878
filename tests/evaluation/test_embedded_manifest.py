"""Embedding once, cosine scores against a plain computation, the probe against what it must and must not see."""

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from dino_speech.data.manifest import Manifest
from dino_speech.embedding.embedded_manifest import (
    STRENGTHS,
    EmbeddedManifest,
    LogisticProbe,
    cosine_scores,
    embed_manifest,
    normalize,
)
from dino_speech.errors import InputError


@pytest.mark.slow
def test_cosine_scores_equal_sklearn() -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((50, 8)).astype(np.float32) * 1e3
    enroll, test = rng.integers(0, 50, (2, 70_000))  # more than one chunk
    expected = cosine_similarity(embeddings)[enroll, test]
    assert cosine_scores(embeddings, enroll, test) == pytest.approx(expected, abs=1e-5)
    mean = rng.standard_normal(8) * 1e3
    expected = cosine_similarity(embeddings - mean)[enroll, test]
    assert cosine_scores(embeddings, enroll, test, mean=mean) == pytest.approx(expected, abs=1e-5)


def test_an_embedding_of_zeros_scores_zero_and_a_huge_one_does_not_overflow() -> None:
    embeddings = np.array([[0, 0], [1e30, 0], [1e30, 1e30]], dtype=np.float32)
    found = cosine_scores(embeddings, np.array([0, 1]), np.array([1, 2]))
    assert found.tolist() == pytest.approx([0.0, np.sqrt(0.5)])
    assert np.linalg.norm(normalize(embeddings), axis=1) == pytest.approx([0, 1, 1])


def test_unreadable_audio_is_a_row_of_nan_and_listed(encoder, broken_voices: Manifest) -> None:
    found = embed_manifest(encoder, broken_voices)
    assert sorted(item.name for item in found.skipped) == ["spk0_0", "spk1_1", "spk2_2"]
    assert [broken_voices[i].id for i in np.flatnonzero(~found.usable)] == ["spk0_0", "spk1_1", "spk2_2"]
    assert "empty file" in next(item.reason for item in found.skipped if item.name == "spk1_1")
    good = broken_voices.by_id()["spk3_3"]
    assert found.embeddings[good] == pytest.approx(encoder.embed_file(broken_voices[good].wav).numpy())


def test_rows_choose_and_existing_embeddings_are_used(encoder, broken_voices: Manifest) -> None:
    part = embed_manifest(encoder, broken_voices, rows=np.array([0, 3]))
    assert encoder.num_files == 2
    assert np.flatnonzero(part.usable).tolist() == [3]
    whole = embed_manifest(encoder, broken_voices)
    encoder.num_files = 0
    again = embed_manifest(None, broken_voices, rows=np.array([1, 3]), embedded=whole)
    assert encoder.num_files == 0
    assert np.array_equal(again.embeddings, whole.embeddings, equal_nan=True)
    assert again.skipped == []  # the skipped files are not among the rows asked for
    with pytest.raises(InputError, match="the embeddings given are of"):
        embed_manifest(None, broken_voices.subset([0, 1]), embedded=whole)
    with pytest.raises(InputError, match="give an encoder, or the embeddings"):
        embed_manifest(None, broken_voices)


def test_nothing_readable_is_refused(encoder, broken_voices: Manifest) -> None:
    with pytest.raises(InputError, match=r"none of 1 utterances could be embedded \(spk0_0: "):
        embed_manifest(encoder, broken_voices.subset([0]))


def noisy_classes(num_speakers: int = 20, *, signal: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two classes by each speaker; the class is in dimension 0, the speaker (strongly) in dimensions 1 to 40."""
    rng = np.random.default_rng(seed)
    speakers = np.repeat(np.arange(num_speakers), 10)
    labels = np.tile(np.repeat(["calm", "loud"], 5), num_speakers)
    embeddings = rng.standard_normal((speakers.size, 41))
    embeddings[:, 0] += signal * (labels == "loud")
    embeddings[:, 1:] += 3 * rng.standard_normal((num_speakers, 40))[speakers]
    return embeddings, labels, speakers.astype(str)


def test_probe_learns_across_speakers_and_scales_do_not_matter() -> None:
    embeddings, labels, speakers = noisy_classes(signal=4.0)
    train = np.arange(150)
    probe = LogisticProbe().fit(embeddings[train], labels[train], speakers[train])
    assert np.mean(probe.predict(embeddings[150:]) == labels[150:]) > 0.9
    assert probe.classes_.tolist() == ["calm", "loud"]
    assert probe.predict_proba(embeddings[150:]).sum(axis=1) == pytest.approx(np.ones(50))
    scaled = embeddings * np.logspace(-3, 3, 41) + 100
    again = LogisticProbe().fit(scaled[train], labels[train], speakers[train])
    assert np.array_equal(again.predict(scaled[150:]), probe.predict(embeddings[150:]))


def test_strength_is_chosen_on_speakers_and_repeatable() -> None:
    # Few speakers and many dimensions that name them: a strong probe learns the people, a weak one the class.
    embeddings, labels, speakers = noisy_classes(8, signal=1.0, seed=1)
    first, again = (LogisticProbe(seed=3).fit(embeddings, labels, speakers) for _ in range(2))
    assert first.strength_ == again.strength_
    assert first.strength_ in STRENGTHS
    assert first.strength_ < max(STRENGTHS)
    assert LogisticProbe(strengths=[0.5]).fit(embeddings, labels, speakers).strength_ == 0.5
    alone = LogisticProbe().fit(embeddings[:10], labels[:10], speakers[:10])  # one speaker: nothing to choose with
    assert alone.strength_ == STRENGTHS[2]


def test_a_small_class_weighs_as_much_as_a_large_one() -> None:
    rng = np.random.default_rng(0)
    labels = np.array(["often"] * 190 + ["rare"] * 10)
    embeddings = rng.standard_normal((200, 2)) + 1.5 * (labels == "rare")[:, None]
    speakers = np.array([str(i % 10) for i in range(200)])
    predicted = LogisticProbe().fit(embeddings, labels, speakers).predict(embeddings)
    assert np.mean(predicted[labels == "rare"] == "rare") > 0.6


def test_embedded_manifest_says_what_is_usable() -> None:
    rows = np.array([[1.0, np.nan], [0.0, 1.0]], dtype=np.float32)
    assert EmbeddedManifest(Manifest([]), rows).usable.tolist() == [False, True]
