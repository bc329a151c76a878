"""Cosine scores against a plain computation."""

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from dino_speech.evaluation.verification.scoring import cosine_scores, normalize


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
