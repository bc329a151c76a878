"""Speakers guessed from unlabelled embeddings: k-means, then agglomeration, then only what is sure is kept.

Letters: `N` utterances, `D` embedding, `C` clusters. Training on the guesses lives in `pseudo_labels.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dino_speech.argument_checks import Count, require, require_declared
from dino_speech.errors import InputError
from dino_speech.plain_data import PlainData

DROPPED = -1
MAX_AGGLOMERATED = 20_000  # ours: all pairs of so many points are 3 GB


@dataclass(frozen=True)
class ClusterQuality(PlainData):
    """How well clusters agree with labels that were not used to make them; over kept utterances that have a label.

    Args:
        nmi: normalised mutual information, 0 to 1; many tiny clusters raise it, so read it beside `purity`.
        purity: share of utterances that have their cluster's commonest label, 0 to 1.
        num_utterances: with a label, among the kept.
        num_speakers: labels among these.
        num_clusters: clusters among these.
    """

    nmi: float
    purity: float
    num_utterances: int
    num_speakers: int
    num_clusters: int


@dataclass(frozen=True, eq=False)
class Clusters:
    """What `Clustering.fit` found.

    Args:
        labels: (N,) cluster of each utterance, 0 to C - 1; -1 where it was dropped.
        margins: (N,) how much nearer an utterance is to the rest of its own cluster than to the next one, in cosine;
            negative: it would rather be elsewhere. NaN for an utterance alone.
        num_found: clusters before anything was dropped.
    """

    labels: NDArray[np.int64]
    margins: NDArray[np.float64] = field(repr=False)
    num_found: int

    @property
    def kept(self) -> NDArray[np.bool_]:
        """(N,) what can be learnt from."""
        return np.asarray(self.labels != DROPPED)

    @property
    def num_clusters(self) -> int:
        """C, the clusters that are left."""
        return int(np.unique(self.labels[self.kept]).size)

    def quality(self, speakers: Sequence[str]) -> ClusterQuality | None:
        """Agreement with (N,) labels, "" where there is none; None where no kept utterance has one."""
        from sklearn.metrics import normalized_mutual_info_score
        from sklearn.metrics.cluster import contingency_matrix

        names = np.asarray(speakers)
        if names.shape != self.labels.shape:
            raise InputError(f"{names.size} labels for {self.labels.size} clustered utterances; expected one for each")
        judged = self.kept & (names != "")
        if not judged.any():
            return None
        counts = contingency_matrix(names[judged], self.labels[judged])  # (speakers, clusters)
        return ClusterQuality(
            nmi=float(normalized_mutual_info_score(names[judged], self.labels[judged])),
            purity=float(counts.max(axis=0).sum() / counts.sum()),
            num_utterances=int(judged.sum()),
            num_speakers=counts.shape[0],
            num_clusters=counts.shape[1],
        )


@dataclass(frozen=True, kw_only=True)
class Clustering:
    """Clusters embeddings by cosine: k-means into small groups, average-linkage agglomeration of these, then cleaning.

    One of `num_clusters` and `threshold` says where the agglomeration ends.

    Args:
        num_clusters: how many speakers to guess; better too many than too few, a split speaker teaches less wrong.
        threshold: stop merging where the mean cosine between two clusters is below this.
        utterances_per_centroid: the k-means makes N / this many groups; 1 agglomerates the utterances themselves.
        min_utterances: smaller clusters are dropped, after doubtful utterances are.
        max_utterances: of a larger cluster only the most certain are kept; None: all.
        min_margin: utterances whose margin (see `Clusters`) is below this are dropped; -2 drops none.

    Raises:
        InputError: both or neither of `num_clusters` and `threshold`, or a value out of range.

    Source: k-means, then agglomeration as in the iterative pseudo-labels of arXiv 2208.05413 and its authors' later
        recipe (hyperion, egs/voxceleb/ssl.v1: 4 utterances per centroid, threshold 0.8, then clusters of 8 to 50).
        The margin in place of their posterior of a Gaussian mixture is ours: it has no parameter to fit, and clusters
        of two utterances have one too.
    """

    num_clusters: int | None = None
    threshold: float | None = None
    utterances_per_centroid: Count = 4  # [hyperion]
    min_utterances: Count = 2  # ours: corpora of hours have few files per speaker; hyperion: 8
    max_utterances: int | None = 50  # [hyperion]
    min_margin: float = 0.0  # ours: nearer to its own cluster than to any other

    def __post_init__(self) -> None:
        if (self.num_clusters is None) == (self.threshold is None):
            found = f"num_clusters = {self.num_clusters} and threshold = {self.threshold}"
            raise InputError(f"{found}: give one of them, for example num_clusters: 1000")
        require("num_clusters", self.num_clusters, "at least 2", lambda number: number >= 2)
        require("threshold", self.threshold, "a cosine between -1 and 1, such as 0.6", lambda cosine: -1 < cosine < 1)
        require_declared(self)
        least = self.min_utterances
        require("max_utterances", self.max_utterances, f"at least min_utterances = {least}", lambda n: n >= least)

    def fit(self, embeddings: NDArray, *, seed: int) -> Clusters:
        """Cluster (N, D) embeddings, whose lengths do not matter.

        Raises:
            InputError: fewer utterances than clusters, too many to agglomerate, or nothing is left after cleaning.
        """
        unit = _unit(embeddings)
        if self.num_clusters is not None and len(unit) < 2 * self.num_clusters:
            expected = "expected two utterances or more per cluster on average"
            given = f"num_clusters = {self.num_clusters} of {len(unit)} utterances"
            raise InputError(f"{given}: {expected}; lower it to {len(unit) // 2} or less")
        found = self._agglomerate(unit, seed)
        labels = _relabel(found)
        margins = _margins(unit, labels)
        kept = labels.copy()
        kept[margins < self.min_margin] = DROPPED
        self._keep_sizes(kept, margins)
        if np.unique(kept[kept != DROPPED]).size < 2:
            limits = f"min_utterances = {self.min_utterances} and min_margin = {self.min_margin}"
            few = f"of {labels.max() + 1} clusters fewer than two are left with {limits}"
            raise InputError(f"{few}; lower these, or num_clusters")
        return Clusters(_relabel(kept), margins, int(labels.max() + 1))

    def _agglomerate(self, unit: NDArray, seed: int) -> NDArray[np.int64]:
        from sklearn.cluster import AgglomerativeClustering

        groups = _kmeans(unit, self.utterances_per_centroid, seed)
        num_groups = int(groups.max() + 1)
        if num_groups > MAX_AGGLOMERATED:
            cure = f"raise utterances_per_centroid to {-(-len(unit) // MAX_AGGLOMERATED)} or more"
            raise InputError(f"{num_groups} groups are too many to agglomerate (at most {MAX_AGGLOMERATED}); {cure}")
        if self.num_clusters is not None and self.num_clusters >= num_groups:
            return groups
        ends = {"n_clusters": self.num_clusters}
        if self.threshold is not None:
            ends = {"n_clusters": None, "distance_threshold": 1 - self.threshold}  # type: ignore[dict-item]
        model = AgglomerativeClustering(metric="cosine", linkage="average", **ends)
        merged = model.fit_predict(_unit(_sums(unit, groups)))
        return np.asarray(merged[groups], dtype=np.int64)

    def _keep_sizes(self, labels: NDArray[np.int64], margins: NDArray) -> None:
        """Drop small clusters and the least certain utterances of large ones, in place."""
        clusters, sizes = np.unique(labels[labels != DROPPED], return_counts=True)
        labels[np.isin(labels, clusters[sizes < self.min_utterances])] = DROPPED
        if self.max_utterances is None:
            return
        for cluster in clusters[sizes > self.max_utterances]:
            rows = np.flatnonzero(labels == cluster)
            labels[rows[np.argsort(-margins[rows], kind="stable")[self.max_utterances :]]] = DROPPED


def _kmeans(unit: NDArray, utterances_per_centroid: int, seed: int) -> NDArray[np.int64]:
    if utterances_per_centroid == 1:
        return np.arange(len(unit))
    from sklearn.cluster import MiniBatchKMeans

    num_groups = max(2, len(unit) // utterances_per_centroid)
    # Batches must hold all centroids, or those that no batch hits stay where they began.
    size = max(1024, 3 * num_groups)
    model = MiniBatchKMeans(num_groups, batch_size=size, n_init=1, max_iter=10, random_state=seed % 2**32)
    return _relabel(model.fit_predict(unit))


def _margins(unit: NDArray, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N,) cosine to the rest of one's own cluster minus the largest cosine to another cluster; NaN if alone."""
    sums, sizes = _sums(unit, labels), np.bincount(labels)
    centroids = _unit(sums)
    rest = _unit(sums[labels] - unit)  # without oneself: in a cluster of two, oneself is half of the mean
    own = np.where(sizes[labels] > 1, np.einsum("nd,nd->n", rest, unit), np.nan)
    nearest = np.empty(len(unit))
    for begin in range(0, len(unit), 4096):
        rows = slice(begin, begin + 4096)
        cosines = unit[rows] @ centroids.T
        cosines[np.arange(len(cosines)), labels[rows]] = -np.inf
        nearest[rows] = cosines.max(axis=1)
    return own - nearest


def _sums(unit: NDArray, labels: NDArray[np.int64]) -> NDArray:
    sums = np.zeros((labels.max() + 1, unit.shape[1]))
    np.add.at(sums, labels, unit)
    return sums


def _unit(rows: NDArray) -> NDArray:
    rows = np.asarray(rows, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 1e-12, lengths, 1.0)


def _relabel(labels: NDArray) -> NDArray[np.int64]:
    """Clusters numbered from 0 without gaps; dropped ones stay dropped."""
    kept = labels != DROPPED
    numbered = np.full(len(labels), DROPPED, dtype=np.int64)
    numbered[kept] = np.unique(labels[kept], return_inverse=True)[1]
    return numbered
