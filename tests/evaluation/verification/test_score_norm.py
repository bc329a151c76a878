"""Score normalisation against a direct loop over trials and cohort."""

import numpy as np
import pytest

from dino_speech.errors import InputError
from dino_speech.evaluation.verification import scoring
from dino_speech.evaluation.verification.plda import PLDA
from dino_speech.evaluation.verification.scoring import Backend, CosineBackend, ScoreNorm


@pytest.fixture
def embeddings() -> np.ndarray:
    """30 to judge, then 70 strangers."""
    return np.random.default_rng(0).standard_normal((100, 5)) + 0.5


def backend_of(name: str, embeddings: np.ndarray) -> Backend:
    if name == "plda":
        return PLDA().fit(embeddings[30:], np.arange(70) // 5)
    return CosineBackend(embeddings[30:].mean(axis=0) if name == "cosine_mean" else None)


def by_loop(backend: Backend, rows: np.ndarray, cohort: np.ndarray, a: int, b: int, kind: str, top: int) -> float:
    def score(x: np.ndarray, y: np.ndarray) -> float:
        return float(backend.project(np.stack([x, y])).score_pairs(np.array([0]), np.array([1]))[0])

    def normal(value: float, side: np.ndarray) -> float:
        against = sorted((score(side, other) for other in cohort), reverse=True)
        against = against[:top] if kind == "as" else against
        return (value - np.mean(against)) / np.std(against)

    value = score(rows[a], rows[b])
    z, t = normal(value, rows[a]), normal(value, rows[b])
    return {"z": z, "t": t}.get(kind, (z + t) / 2)


@pytest.mark.parametrize("name", ["cosine", "cosine_mean", "plda"])
@pytest.mark.parametrize("kind", scoring.NORMS)
def test_equals_a_loop(kind: str, name: str, embeddings: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "BLOCK", 200)  # two or three utterances at a time
    backend, (enroll, test) = backend_of(name, embeddings), np.random.default_rng(1).integers(0, 20, (2, 25))
    norm = ScoreNorm(kind, backend.project(embeddings[30:]), top=10 if kind == "as" else None)
    projected = backend.project(embeddings[:30])
    statistics = norm.statistics(projected, np.unique([enroll, test]))
    found = norm.normalize(projected.score_pairs(enroll, test), enroll, test, statistics)
    expected = [
        by_loop(backend, embeddings[:30], embeddings[30:], a, b, kind, 10) for a, b in zip(enroll, test, strict=True)
    ]
    assert found == pytest.approx(expected, abs=1e-3)
    assert np.isnan(statistics.mean[20:]).all()  # nobody asked for them


def test_all_of_the_cohort_is_the_s_norm(embeddings: np.ndarray) -> None:
    projected = CosineBackend().project(embeddings)
    rows = np.arange(30)
    cohort = CosineBackend().project(embeddings[30:])
    adaptive, plain = (ScoreNorm(kind, cohort).statistics(projected, rows) for kind in ("as", "s"))
    np.testing.assert_array_equal(adaptive.mean, plain.mean)
    described = {"kind": "as", "num_cohort": 70, "num_compared": 70, "top": 70}
    assert ScoreNorm("as", cohort).describe() == described


@pytest.mark.slow
def test_memory_of_a_long_list_stays_flat() -> None:
    import tracemalloc

    rng = np.random.default_rng(0)
    test, cohort = (CosineBackend().project(rng.standard_normal((n, 32))) for n in (20_000, 5_000))
    tracemalloc.start()
    ScoreNorm("as", cohort).statistics(test, np.arange(20_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # all scores at once would be 400 MB


def test_mistakes_are_named(embeddings: np.ndarray) -> None:
    cohort = CosineBackend().project(embeddings[30:])
    with pytest.raises(InputError, match="score_norm is 'x'; expected one of z, t, s, as"):
        ScoreNorm("x", cohort)
    with pytest.raises(InputError, match="the cohort has 1 utterances"):
        ScoreNorm("s", CosineBackend().project(embeddings[:1]))
    with pytest.raises(InputError, match="top is 5, but score_norm is 's'"):
        ScoreNorm("s", cohort, top=5)
    with pytest.raises(InputError, match="top is 71; expected 2 to 70"):
        ScoreNorm("as", cohort, top=71)
    same = CosineBackend().project(np.ones((4, 5)))
    with pytest.raises(InputError, match="30 utterances score the same against the whole cohort of 4"):
        ScoreNorm("z", same).statistics(CosineBackend().project(np.abs(embeddings[:30])), np.arange(30))
