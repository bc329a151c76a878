"""The probe of classes against what it must and must not see."""

import numpy as np

from dino_speech.evaluation.probing.probes import CLASS_STRENGTHS, LogisticProbe


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
    scaled = embeddings * np.logspace(-3, 3, 41) + 100
    again = LogisticProbe().fit(scaled[train], labels[train], speakers[train])
    assert np.array_equal(again.predict(scaled[150:]), probe.predict(embeddings[150:]))


def test_strength_is_chosen_on_speakers_and_repeatable() -> None:
    # Few speakers and many dimensions that name them: a strong probe learns the people, a weak one the class.
    embeddings, labels, speakers = noisy_classes(8, signal=1.0, seed=1)
    first, again = (LogisticProbe(seed=3).fit(embeddings, labels, speakers) for _ in range(2))
    assert first.strength_ == again.strength_
    assert first.strength_ in CLASS_STRENGTHS
    assert first.strength_ < max(CLASS_STRENGTHS)
    assert LogisticProbe(strengths=[0.5]).fit(embeddings, labels, speakers).strength_ == 0.5
    alone = LogisticProbe().fit(embeddings[:10], labels[:10], speakers[:10])  # one speaker: nothing to choose with
    assert alone.strength_ == CLASS_STRENGTHS[2]


def test_a_small_class_weighs_as_much_as_a_large_one() -> None:
    rng = np.random.default_rng(0)
    labels = np.array(["often"] * 190 + ["rare"] * 10)
    embeddings = rng.standard_normal((200, 2)) + 1.5 * (labels == "rare")[:, None]
    speakers = np.array([str(i % 10) for i in range(200)])
    predicted = LogisticProbe().fit(embeddings, labels, speakers).predict(embeddings)
    assert np.mean(predicted[labels == "rare"] == "rare") > 0.6
