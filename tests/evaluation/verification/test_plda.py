"""PLDA against a Gaussian likelihood ratio of scipy, closed forms, SpeechBrain's EM, and its errors."""

from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import subspace_angles
from scipy.stats import multivariate_normal
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from dino_speech.data.manifest import read_manifest
from dino_speech.data.trials import read_trials
from dino_speech.embedding.embedded_manifest import embed_manifest
from dino_speech.errors import InputError
from dino_speech.evaluation.verification.evaluate import evaluate_verification
from dino_speech.evaluation.verification.plda import LDA, PLDA
from dino_speech.models.checkpoint import load_encoder


def speech(
    num_speakers: int = 60, *, each: int | None = None, dim: int = 6, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (N, D) drawn from the model, and their speakers; 1 to 8 utterances of each unless said."""
    rng = np.random.default_rng(seed)
    mix, places = rng.standard_normal((dim, dim)), rng.standard_normal((num_speakers, dim))
    counts = rng.integers(1, 9, num_speakers) if each is None else np.full(num_speakers, each)
    speakers = np.repeat(np.arange(num_speakers), counts)
    rest = rng.standard_normal((len(speakers), dim)) @ rng.standard_normal((dim, dim)) * 0.4
    rows = 3.0 + places[speakers] * np.linspace(2, 0.3, dim) @ mix + rest
    order = rng.permutation(len(rows))
    return rows[order], np.array([f"s{code}" for code in speakers])[order]


def covariances(plda: PLDA) -> tuple[np.ndarray, np.ndarray]:
    """Between and within, from the basis in which they are diagonal."""
    back = np.linalg.inv(plda.basis_)
    return back.T @ np.diag(plda.ratio_) @ back, back.T @ back


def test_scores_are_gaussian_likelihood_ratios() -> None:
    rows, speakers = speech()
    plda = PLDA(lda_dim=4).fit(rows, speakers)
    between, within = covariances(plda)
    total = between + within
    same = multivariate_normal(np.zeros(8), np.block([[total, between], [between, total]]))
    alone = multivariate_normal(np.zeros(4), total)
    vectors = plda._vectors(rows) - plda.center_
    first, second = vectors[:50], vectors[50:100]
    expected = same.logpdf(np.hstack([first, second])) - alone.logpdf(first) - alone.logpdf(second)
    assert plda.score(rows[:50], rows[50:100]) == pytest.approx(expected, abs=1e-4)
    all_pairs = plda.project(rows).score_all(np.arange(50), plda.project(rows[50:100]))
    assert np.diag(all_pairs) == pytest.approx(expected, abs=1e-4)


def test_em_never_loses_likelihood_and_its_figure_is_the_models() -> None:
    rows, speakers = speech(30)
    plda = PLDA(whiten=False, length_norm=False, num_iterations=40).fit(rows, speakers)
    assert np.all(np.diff(plda.log_likelihoods_) > -1e-10)
    last = PLDA(whiten=False, length_norm=False, num_iterations=39).fit(rows, speakers)
    between, within = covariances(last)
    total = 0.0
    for name in np.unique(speakers):
        own = (rows[speakers == name] - last.mean_).ravel()
        num = own.size // 6
        covariance = np.kron(np.ones((num, num)), between) + np.kron(np.eye(num), within)
        total += multivariate_normal(np.zeros(own.size), covariance).logpdf(own)
    assert plda.log_likelihoods_[-1] == pytest.approx(total / len(rows), abs=1e-8)


def test_with_as_many_utterances_of_each_the_estimate_is_the_closed_form() -> None:
    rows, speakers = speech(40, each=5)
    plda = PLDA(whiten=False, length_norm=False, num_iterations=300).fit(rows, speakers)
    means = np.stack([rows[speakers == name].mean(axis=0) for name in np.unique(speakers)])
    residuals = np.concatenate([rows[speakers == n] - rows[speakers == n].mean(axis=0) for n in np.unique(speakers)])
    expected_within = residuals.T @ residuals / (200 - 40)
    between, within = covariances(plda)
    assert within == pytest.approx(expected_within, abs=1e-6)
    assert between == pytest.approx(np.cov(means.T, bias=True) - expected_within / 5, abs=1e-6)


def test_em_and_scores_equal_speechbrains() -> None:
    reference = pytest.importorskip("speechbrain.processing.PLDA_LDA")
    rows, speakers = speech(40)

    def statistics(vectors: np.ndarray, models: np.ndarray, names: np.ndarray) -> object:
        nothing, ones = np.array([None] * len(vectors)), np.ones((len(vectors), 1))
        return reference.StatObject_SB(models, names, nothing, nothing, ones, vectors)

    names = np.array([f"u{i:03d}" for i in range(len(rows))], dtype="|O")
    theirs = reference.PLDA(rank_f=6, nb_iter=400)
    theirs.plda(statistics(rows.copy(), speakers.astype("|O"), names))
    ours = PLDA(whiten=False, length_norm=False, num_iterations=400).fit(rows, speakers)
    between, within = covariances(ours)
    assert within == pytest.approx(theirs.Sigma, rel=0.02, abs=0.02)
    assert between == pytest.approx(theirs.F @ theirs.F.T, rel=0.02, abs=0.05)
    sides = [statistics(rows[part].copy(), names[part], names[part]) for part in (slice(0, 20), slice(20, 50))]
    trials = reference.Ndx(models=names[:20], testsegs=names[20:50])
    factors = np.linalg.cholesky(between)
    expected = reference.fast_PLDA_scoring(*sides, trials, ours.mean_, factors, within).scoremat
    projected = ours.project(rows)
    assert projected.score_all(np.arange(20), ours.project(rows[20:50])) == pytest.approx(expected, abs=1e-3)


def test_lda_spans_what_sklearns_does_and_whitens() -> None:
    rows, speakers = speech(40, each=6)
    lda = LDA(3).fit(rows, speakers)
    theirs = LinearDiscriminantAnalysis(solver="eigen", n_components=3).fit(rows, speakers)
    assert subspace_angles(lda.directions_, theirs.scalings_[:, :3]) == pytest.approx(0.0, abs=1e-6)
    vectors = lda.transform(rows)
    assert np.cov(vectors.T, bias=True) == pytest.approx(np.eye(3), abs=1e-8)
    assert np.all(np.diff(lda.within_) >= 0)


def test_scale_shift_and_rotation_change_nothing() -> None:
    rows, speakers = speech()
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((6, 6)))[0]
    plain, moved = (PLDA().fit(x, speakers).score(x[:40], x[40:80]) for x in (rows, 100 + 7 * rows @ rotation))
    assert moved == pytest.approx(plain, abs=1e-3)


def test_fewer_utterances_than_dimensions_and_dead_dimensions() -> None:
    rows, speakers = speech(10, each=3, dim=50)
    rows[:, :5] = 1.0
    plda = PLDA().fit(rows, speakers)
    assert plda.describe() == {
        "name": "plda",
        "dim": 9,
        "length_norm": True,
        "num_train_utterances": 30,
        "num_train_speakers": 10,
    }
    assert np.isfinite(plda.score(rows[:10], rows[10:20])).all()


def test_saved_as_plain_arrays(tmp_path: Path) -> None:
    rows, speakers = speech()
    plda = PLDA(length_norm=False).fit(rows, speakers)
    again = PLDA.load(plda.save(tmp_path / "new" / "plda.npz"))
    assert np.array_equal(again.score(rows[:9], rows[9:18]), plda.score(rows[:9], rows[9:18]))
    assert again.describe() == plda.describe()
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    for name in ("other.npz", "absent.npz"):
        with pytest.raises(InputError, match="not a PLDA written by"):
            PLDA.load(tmp_path / name)


def test_what_cannot_be_learnt_is_refused() -> None:
    rows, speakers = speech(20, each=4)
    with pytest.raises(InputError, match="of 1 speakers, at most 80 of one"):
        PLDA().fit(rows, ["one"] * 80)
    with pytest.raises(InputError, match="of 80 speakers, at most 1 of one"):
        PLDA().fit(rows, [f"s{i}" for i in range(80)])
    with pytest.raises(InputError, match="LDA to 7 dimensions: 80 embeddings of 20 speakers, of rank 6, allow 1 to 6"):
        PLDA(lda_dim=7).fit(rows, speakers)
    with pytest.raises(InputError, match=r"expected embeddings \(N, D\) and N speakers"):
        PLDA().fit(rows, speakers[:-1])
    rows[3, 2] = np.nan
    with pytest.raises(InputError, match="1 of 80 embeddings are not finite"):
        PLDA().fit(rows, speakers)
    rows[:, 2] = 0.0
    with pytest.raises(InputError, match="vary within speakers in 5 of 6 dimensions"):
        PLDA(whiten=False, length_norm=False).fit(rows, speakers)
    with pytest.raises(InputError, match="lda_dim is 3 and whiten is False"):
        PLDA(lda_dim=3, whiten=False)


@pytest.mark.slow
@pytest.mark.corpus
def test_plda_beats_the_cosine_on_real_speech(data_root: Path) -> None:
    """Seen with all 2245 speakers: EER 22.9 % by cosine, 13.9 % by PLDA, of the same statistics of log-mel frames."""
    path = data_root / "speakers_more" / "manifest.csv"
    train, test = (read_manifest(path, where={"split": split}) for split in ("pretrain", "test"))
    names = train.label("speaker")
    chosen = set(sorted(set(names) - {""})[::4])
    labelled = [row for row, name in enumerate(names) if name in chosen]
    trials, encoder = read_trials(data_root / "speakers_more" / "trials_test.txt"), load_encoder("fbank_stats")
    options = {"num_resamples": 10, "embedded": embed_manifest(encoder, test)}
    cosine = evaluate_verification(None, test, trials, **options)
    plda = evaluate_verification(encoder, test, trials, backend="plda", train=train.subset(labelled), **options)
    assert plda.eer < cosine.eer - 3
    assert plda.backend["num_train_speakers"] == len(chosen)
