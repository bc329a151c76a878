"""From embeddings to scores and classes: every utterance embedded once, cosine scores, a linear probe.

Nothing here is fitted on what it is judged on: a mean is taken from other utterances, and a probe chooses its strength
inside its training part. Letters: `N` utterances or trials, `D` embedding, `C` classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dino_speech.data.folds import group_folds
from dino_speech.data.utterances import Manifest, Skipped, list_some
from dino_speech.errors import InputError
from dino_speech.metrics import uar
from dino_speech.models.encoder import SpeechEncoder

Embedding = NDArray[np.float32]

# ours: spans "almost the class means" to "almost no penalty" for standardised embeddings of a few hundred numbers
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
NUM_INNER_FOLDS = 3
CHUNK = 65_536  # trials scored at once: bounds the memory of a list of millions


@dataclass(frozen=True, eq=False)
class EmbeddedManifest:
    """A manifest with one embedding per utterance, to be used by several evaluations.

    Args:
        manifest: N utterances.
        embeddings: (N, D) float32; a row of NaN where the audio could not be embedded.
        skipped: those utterances, with the reason.
    """

    manifest: Manifest
    embeddings: Embedding
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """(N,) where there is an embedding."""
        return np.asarray(~np.isnan(self.embeddings).any(axis=1))


def embed_manifest(
    encoder: SpeechEncoder | None,
    manifest: Manifest,
    *,
    rows: NDArray[np.integer] | None = None,
    embedded: EmbeddedManifest | None = None,
    **options: Any,
) -> EmbeddedManifest:
    """Embed each utterance once; audio that cannot be read is skipped and listed.

    Args:
        encoder: put into eval mode by its own `embed_files`; None where `embedded` is given.
        manifest: what to embed.
        rows: positions of the utterances that are needed; the rows of the others are NaN. None: all.
        embedded: embeddings of this very manifest that exist already and are used instead of the encoder.
        options: passed to `embed_files` (`batch_s`, `num_workers`, `progress`).

    Raises:
        InputError: neither encoder nor embeddings, embeddings of something else, or nothing could be embedded.
    """
    rows = np.arange(len(manifest)) if rows is None else rows
    wanted = [manifest[row] for row in rows.tolist()]
    if embedded is not None:
        if [utterance.id for utterance in embedded.manifest] != [utterance.id for utterance in manifest]:
            raise InputError(f"the embeddings given are of {embedded.manifest!r}; expected those of {manifest!r}")
        ids = {utterance.id for utterance in wanted}
        return EmbeddedManifest(manifest, embedded.embeddings, [item for item in embedded.skipped if item.name in ids])
    if encoder is None:
        raise InputError("give an encoder, or the embeddings that one made (embedded=embed_manifest(...))")
    found = encoder.embed_files(wanted, on_error="skip", **options)
    if not found.ids:
        reasons = list_some([f"{item.name}: {item.reason}" for item in found.failures])
        raise InputError(f"{manifest.name}: none of {len(wanted)} utterances could be embedded ({reasons})")
    positions = manifest.by_id()
    embeddings = np.full((len(manifest), found.embeddings.shape[1]), np.nan, dtype=np.float32)
    embeddings[[positions[name] for name in found.ids]] = found.embeddings
    return EmbeddedManifest(manifest, embeddings, found.failures)


def cosine_scores(
    embeddings: NDArray, enroll: NDArray[np.integer], test: NDArray[np.integer], *, mean: NDArray | None = None
) -> Embedding:
    """Cosine of the two embeddings of each trial.

    Args:
        embeddings: (N, D), one row per utterance.
        enroll: (T,) rows of the first side.
        test: (T,) rows of the second side.
        mean: (D,) subtracted first; take it from utterances that are not judged here.

    Returns:
        (T,) float32 in [-1, 1]; an embedding of length zero gives 0.
    """
    return pair_products(normalize(embeddings if mean is None else embeddings - mean), enroll, test)


def pair_products(vectors: Embedding, enroll: NDArray[np.integer], test: NDArray[np.integer]) -> Embedding:
    """(T,) inner products of the rows `enroll` (T,) and `test` (T,) of vectors (N, D)."""
    products = np.empty(len(enroll), dtype=np.float32)
    for begin in range(0, len(enroll), CHUNK):
        part = slice(begin, begin + CHUNK)
        products[part] = np.einsum("nd,nd->n", vectors[enroll[part]], vectors[test[part]])
    return products


def normalize(embeddings: NDArray) -> Embedding:
    """Rows (N, D) of length one; a row of zeros stays."""
    rows = np.asarray(embeddings, dtype=np.float64)  # large embeddings must not overflow when squared
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)


class LogisticProbe:
    """Standardised embeddings, then logistic regression with an L2 penalty chosen on speaker-disjoint inner folds.

    Classes weigh the same whatever their size, because the figure of merit (UAR) counts them so. The mean and deviation
    come from the training part alone.

    Args:
        strengths: values of scikit-learn's `C` to choose from.
        seed: of the inner folds.

    Learnt by `fit`: `strength_` (the chosen C), `classes_` (sorted).
    """

    def __init__(self, *, strengths: Sequence[float] = STRENGTHS, seed: int = 0) -> None:
        self.strengths = tuple(sorted(strengths))
        self.seed = seed

    def fit(self, embeddings: NDArray, labels: ArrayLike, speakers: ArrayLike) -> "LogisticProbe":
        """Choose the strength by the UAR of the pooled inner predictions (the weakest of equals), then fit on all."""
        with one_thread():
            return self._fit(embeddings, labels, speakers)

    def _fit(self, embeddings: NDArray, labels: ArrayLike, speakers: ArrayLike) -> "LogisticProbe":
        classes, groups = np.asarray(labels), np.asarray(speakers)
        num_folds = min(NUM_INNER_FOLDS, np.unique(groups).size, np.unique(classes, return_counts=True)[1].max())
        folds = group_folds(classes, groups, num_folds=num_folds, seed=self.seed) if num_folds > 1 else []
        # A training part with one class has nothing to tell apart.
        folds = [(train, test) for train, test in folds if np.unique(classes[train]).size > 1]
        self.strength_ = self.strengths[len(self.strengths) // 2]
        if len(self.strengths) > 1 and folds:
            predicted = [_path(embeddings, classes, train, test, self.strengths) for train, test in folds]
            true = np.concatenate([classes[test] for _, test in folds])
            merits = [uar(true, column) for column in np.concatenate(predicted).T]
            self.strength_ = self.strengths[int(np.argmax(merits))]
        self._scaler, self._model = standardiser(embeddings), _logistic()
        self._model.set_params(C=self.strength_).fit(self._scaler.transform(embeddings), classes)
        self.classes_ = self._model.classes_
        return self

    def predict(self, embeddings: NDArray) -> NDArray:
        """(N,) classes."""
        return self._model.predict(self._scaler.transform(embeddings))

    def predict_proba(self, embeddings: NDArray) -> NDArray:
        """(N, C) probabilities, in the order of `classes_`."""
        return self._model.predict_proba(self._scaler.transform(embeddings))

    def log_odds(self, embeddings: NDArray) -> NDArray:
        """(N,) natural-log odds of the second of two classes, as if both were equally common: 0 is the border."""
        return self._model.decision_function(self._scaler.transform(embeddings))


def one_thread() -> Any:
    """Context in which NumPy and scikit-learn use one thread.

    The matrices here are small: on a busy machine their threads wait for each other, ten times longer than they work.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)


def _path(embeddings: NDArray, classes: NDArray, train: NDArray, test: NDArray, strengths: Sequence[float]) -> NDArray:
    """Predictions (N_test, S) for each strength, each fit starting from the one before."""
    scaler, model = standardiser(embeddings[train]), _logistic()
    inputs, unseen = scaler.transform(embeddings[train]), scaler.transform(embeddings[test])
    columns = [model.set_params(C=strength).fit(inputs, classes[train]).predict(unseen) for strength in strengths]
    return np.stack(columns, axis=1)


def standardiser(embeddings: NDArray) -> Any:
    """scikit-learn's `StandardScaler`, fitted on embeddings (N, D) in float64."""
    from sklearn.preprocessing import StandardScaler

    return StandardScaler().fit(np.asarray(embeddings, dtype=np.float64))


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(class_weight="balanced", max_iter=1000, tol=1e-3, warm_start=True)
