"""Speakers as Gaussians: linear discriminant analysis, and probabilistic LDA that gives log-likelihood ratios.

The two-covariance model: an embedding is mean + speaker + rest, speaker ~ N(0, B), rest ~ N(0, W). One change of basis
makes W the identity and B diagonal at once, so that each EM step and each score is a sum over dimensions, without a
loop over speakers or trials. Letters: `N` utterances, `S` speakers, `D` embedding, `d` dimensions kept.

SpeechBrain has an LDA and a PLDA too. It is ours here because theirs (1.1) asks `eigh` for the eigenvectors of a
matrix that is not symmetric, copies the statistics once per iteration, searches all utterances for each speaker, scores
full matrices instead of lists, and saves by pickle. Our tests hold this module to their EM and their scores.

Source: Brümmer and de Villiers, "The speaker partitioning problem", Odyssey 2010 (two-covariance model);
Garcia-Romero and Espy-Wilson, Interspeech 2011 (length normalisation); Belhumeur et al., PAMI 19 (1997) (principal
components before LDA where utterances are few).
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dino_speech.data.resumable_store import DAMAGED, read_arrays, write_arrays
from dino_speech.errors import InputError
from dino_speech.evaluation.one_thread import one_thread
from dino_speech.evaluation.speaker_means import speaker_sums
from dino_speech.evaluation.verification.scoring import Projection, normalize

LDA_DIM = 200  # the back-end of arXiv 2208.05445's authors (hyperion, egs/voxceleb/v2)
RESIDUALS_PER_DIMENSION = 2  # ours: a within-speaker variance of fewer values is mostly luck
NULL = 1e-9  # directions with less of the largest variance are taken for rounding
ARRAYS = ("mean_", "directions_", "center_", "basis_", "ratio_")


class LDA:
    """Directions that tell speakers apart best, scaled so that the total covariance is the identity.

    At full dimension that is a whitening. Principal components come first where the utterances do not determine the
    within-speaker covariance: it gets at least two residuals (utterances minus speakers) per dimension.

    Args:
        dim: dimensions to keep; None: 200, or as many as the training embeddings allow.

    Learnt by `fit`: `mean_` (D,), `directions_` (D, d), `within_` (d,) the within-speaker share of each variance, 0 to
    1 ascending.
    """

    def __init__(self, dim: int | None = None) -> None:
        self.dim = dim

    def fit(self, embeddings: NDArray, speakers: ArrayLike) -> "LDA":
        """Learn the directions.

        Raises:
            InputError: embeddings that are not finite, fewer than two speakers, no speaker with two utterances, or
                `dim` larger than these embeddings allow.
        """
        rows, codes, counts = _check(embeddings, speakers)
        self.mean_ = rows.mean(axis=0)
        centred = rows - self.mean_
        variances, axes = np.linalg.eigh(centred.T @ centred / len(rows))
        rank = int((variances > NULL * variances[-1]).sum()) if variances[-1] > 0 else 0
        num_residuals = (len(rows) - counts.size) // RESIDUALS_PER_DIMENSION
        largest = min(rank, max(1, num_residuals), counts.size - 1)
        if rank == 0 or (self.dim is not None and not 1 <= self.dim <= largest):
            raise InputError(
                f"LDA to {self.dim} dimensions: {len(rows)} embeddings of {counts.size} speakers, of rank {rank}, allow"
                f" 1 to {largest}; use fewer dimensions, or more speakers with several utterances each"
            )
        kept = slice(-min(rank, max(1, num_residuals)), None)
        whitening = axes[:, kept] / np.sqrt(variances[kept])  # (D, p)
        residuals = _residuals(centred @ whitening, codes, counts)
        # With the total covariance at the identity, Fisher's best directions are those of least within-covariance.
        shares, turn = np.linalg.eigh(residuals.T @ residuals / len(rows))
        dim = min(LDA_DIM, largest) if self.dim is None else self.dim
        self.directions_, self.within_ = whitening @ turn[:, :dim], shares[:dim]
        return self

    def transform(self, embeddings: NDArray) -> NDArray[np.float64]:
        """(N, D) -> (N, d)."""
        return (np.asarray(embeddings, dtype=np.float64) - self.mean_) @ self.directions_


class PLDA:
    """Log-likelihood ratio of "one speaker" against "two speakers": center, whiten and LDA, length norm, two Gaussians.

    Args:
        lda_dim: see `LDA`.
        whiten: whether LDA (at full dimension a whitening) comes first; without it the embeddings are only centred.
        length_norm: whether vectors get length one, which makes them more Gaussian (a single dimension is left as it
            is: of length one it would be a sign).
        num_iterations: of EM.

    Learnt by `fit`: `mean_` (D,), `directions_` (D, d), `center_` (d,), `basis_` (d, d) in which the within-speaker
    covariance is the identity, `ratio_` (d,) the between-speaker variances there; `num_speakers_`, `num_utterances_`,
    and `log_likelihoods_`, per utterance, before each iteration.
    """

    name = "plda"

    def __init__(
        self, *, lda_dim: int | None = None, whiten: bool = True, length_norm: bool = True, num_iterations: int = 20
    ) -> None:
        if lda_dim is not None and not whiten:
            raise InputError(f"lda_dim is {lda_dim} and whiten is False; LDA whitens: leave one of them out")
        self.lda_dim, self.whiten, self.length_norm = lda_dim, whiten, length_norm
        self.num_iterations = num_iterations

    @one_thread()
    def fit(self, embeddings: NDArray, speakers: ArrayLike) -> "PLDA":
        """Learn from labelled utterances (N, D) of speakers (N,); speakers with one utterance help to know B.

        Raises:
            InputError: see `LDA.fit`; without whitening also where utterances do not determine W.
        """
        rows, codes, counts = _check(embeddings, speakers)
        if self.whiten:
            lda = LDA(self.lda_dim).fit(rows, speakers)
            self.mean_, self.directions_ = lda.mean_, lda.directions_
        else:
            self.mean_, self.directions_ = rows.mean(axis=0), np.eye(rows.shape[1])
        vectors = self._vectors(rows)
        self.center_ = vectors.mean(axis=0)
        centred = vectors - self.center_
        residuals = _residuals(centred, codes, counts)
        within = residuals.T @ residuals / (len(rows) - counts.size)
        variances = np.linalg.eigvalsh(within)
        rank = int((variances > NULL * variances[-1]).sum()) if variances[-1] > 0 else 0
        if rank < len(within):
            raise InputError(
                f"the utterances vary within speakers in {rank} of {len(within)} dimensions; PLDA needs all of them:"
                " use a smaller lda_dim, or more speakers with several different utterances"
            )
        total = centred.T @ centred / len(rows)
        self._run_em(speaker_sums(centred, codes, counts), counts, total, within)
        self.num_utterances_, self.num_speakers_ = len(rows), counts.size
        return self

    def _run_em(self, sums: NDArray, counts: NDArray, total: NDArray, within: NDArray) -> None:
        """EM from moments: `sums` (S, d) and `counts` (S,) per speaker, `total` (d, d) covariance of all."""
        num, n = counts.sum(), counts[:, None]
        between, self.log_likelihoods_ = total - within, []
        for _ in range(self.num_iterations):
            basis, ratio = _diagonalize(within, between)
            back = np.linalg.inv(basis)
            f = sums @ basis
            spread = ratio / (1 + n * ratio)  # (S, d) posterior variance of each speaker
            place = spread * f  # (S, d) posterior mean
            scatter = num * basis.T @ total @ basis
            self.log_likelihoods_.append(_log_likelihood(scatter, f, n, ratio, back) / num)
            cross = f.T @ place
            between = back.T @ (np.diag(spread.mean(axis=0)) + place.T @ place / len(counts)) @ back
            within = scatter - cross - cross.T + (n * place).T @ place + np.diag((n * spread).sum(axis=0))
            within = back.T @ (within / num) @ back
        self.basis_, self.ratio_ = _diagonalize(within, between)

    def project(self, embeddings: NDArray) -> Projection:
        """Map embeddings (N, D), so that the score of a pair is its natural-log likelihood ratio."""
        z = (self._vectors(embeddings) - self.center_) @ self.basis_  # (N, d)
        alone, together = 1 + self.ratio_, 1 + 2 * self.ratio_
        offsets = -0.5 * (z**2) @ (self.ratio_**2 / (alone * together))
        offsets += 0.5 * np.sum(np.log(alone) - 0.5 * np.log(together))
        vectors = z * np.sqrt(self.ratio_ / together)
        return Projection(vectors.astype(np.float32), offsets.astype(np.float32))

    def score(self, enroll: NDArray, test: NDArray) -> NDArray[np.float32]:
        """(T,) log-likelihood ratios of the pairs of rows of `enroll` (T, D) and `test` (T, D)."""
        first = np.arange(len(enroll))
        return self.project(np.concatenate([enroll, test])).score_pairs(first, first + len(enroll))

    def describe(self) -> dict[str, Any]:
        """Plain data for a report."""
        return {
            "name": self.name,
            "dim": int(self.ratio_.size),
            "length_norm": self.length_norm,
            "num_train_utterances": self.num_utterances_,
            "num_train_speakers": self.num_speakers_,
        }

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write plain arrays (npz, no pickle); returns the path, which ends in .npz."""
        target = Path(path).with_suffix(".npz")
        counts = np.array([self.num_utterances_, self.num_speakers_, int(self.length_norm)])
        target.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(target, {"counts": counts, **{name: getattr(self, name) for name in ARRAYS}})
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "PLDA":
        """Read what `save` wrote.

        Raises:
            InputError: there is no such file, or it holds something else.
        """
        try:
            found = read_arrays(Path(path))
            arrays = {name: found[name].astype(np.float64, casting="same_kind") for name in ARRAYS}
            dim, reduced = arrays["directions_"].shape
            shapes = {"mean_": (dim,), "center_": (reduced,), "basis_": (reduced, reduced), "ratio_": (reduced,)}
            if any(arrays[name].shape != shape for name, shape in shapes.items()):
                raise ValueError(f"shapes {[array.shape for array in arrays.values()]} do not fit each other")
            if not all(np.isfinite(array).all() for array in arrays.values()) or (arrays["ratio_"] < 0).any():
                raise ValueError("numbers that are not finite, or variances below 0")
            num_utterances, num_speakers, length_norm = map(int, found["counts"])
        except (*DAMAGED, OverflowError) as error:
            raise InputError(f"{path}: not a PLDA written by PLDA.save ({error})") from error
        plda = cls(length_norm=bool(length_norm))
        plda.__dict__.update(arrays, num_utterances_=num_utterances, num_speakers_=num_speakers)
        return plda

    def _vectors(self, embeddings: NDArray) -> NDArray[np.float64]:
        """(N, D) -> (N, d), of length one where that is wanted and d > 1."""
        rows = (np.asarray(embeddings, dtype=np.float64) - self.mean_) @ self.directions_
        return normalize(rows).astype(np.float64) if self.length_norm and rows.shape[1] > 1 else rows


def _check(embeddings: NDArray, speakers: ArrayLike) -> tuple[NDArray[np.float64], NDArray, NDArray]:
    """Float64 rows, the speaker's number of each, and the utterances of each speaker."""
    rows, names = np.asarray(embeddings, dtype=np.float64), np.asarray(speakers)
    if rows.ndim != 2 or names.shape != (len(rows),):
        raise InputError(f"expected embeddings (N, D) and N speakers; found shapes {rows.shape} and {names.shape}")
    if not np.isfinite(rows).all():
        bad = int((~np.isfinite(rows).all(axis=1)).sum())
        raise InputError(f"{bad} of {len(rows)} embeddings are not finite; leave out what could not be embedded")
    found, codes, counts = np.unique(names, return_inverse=True, return_counts=True)
    if found.size < 2 or counts.max() < 2:
        raise InputError(
            f"{len(rows)} utterances of {found.size} speakers, at most {counts.max(initial=0)} of one; LDA and PLDA"
            " need two speakers or more, and some of them with two utterances or more"
        )
    return rows, codes, counts


def _residuals(rows: NDArray, codes: NDArray, counts: NDArray) -> NDArray[np.float64]:
    """(N, d) rows minus the mean of their speaker."""
    return rows - (speaker_sums(rows, codes, counts) / counts[:, None])[codes]


def _diagonalize(within: NDArray, between: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Basis (d, d), in which `within` is the identity and `between` diagonal, and that diagonal (d,), at least 0."""
    from scipy.linalg import eigh

    ratio, basis = eigh((between + between.T) / 2, (within + within.T) / 2)
    return basis, np.clip(ratio, 0.0, None)


def _log_likelihood(scatter: NDArray, f: NDArray, n: NDArray, ratio: NDArray, back: NDArray) -> float:
    """Natural log-likelihood of all utterances; arguments as in `_run_em`, in the basis, whose inverse is `back`."""
    num, dim = n.sum(), len(ratio)
    quadratic = np.trace(scatter) - np.sum(f**2 * ratio / (1 + n * ratio))
    determinants = np.sum(np.log1p(n * ratio)) + 2 * num * np.linalg.slogdet(back)[1]
    return float(-0.5 * (quadratic + determinants + num * dim * np.log(2 * np.pi)))
