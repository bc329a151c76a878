"""Finding mates without labels: nearest neighbours among all utterances, those that choose each other, the nearest.

What is done with them is in `data/loading/mates.py` and `data/loading/datasets.py`. Letters: `N` utterances, `D`
embedding.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from dino_speech.argument_checks import Share
from dino_speech.data.loading.mates import Mates, load_mates, recordings_of
from dino_speech.data.utterances import Manifest, Skipped
from dino_speech.embedding.embedded_manifest import EmbeddedManifest, embed_manifest
from dino_speech.errors import InputError
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.whitening import Whitening
from dino_speech.training.settings import Settings

BLOCK = 1024  # utterances whose similarities to all others are in memory at a time


@dataclass
class MateSettings(Settings):
    """Views from other recordings: how often, and which."""

    table: str | None = None  # of `dino-speech mates`; or "label:COLUMN", a control that uses labels; None: no mates
    probability: Share = 0.5  # with which half the views of an utterance that has a mate are the mate's; ours

    def load(self, manifest: Manifest, *, within: str | None) -> Mates | None:
        """The mates of a training set, see `load_mates`; None where there is no table."""
        return None if self.table is None else load_mates(self.table, manifest, within=within)

    def identity(self, mates: Mates | None) -> dict[str, Any] | None:
        """What must be the same where a run goes on: the pairs, wherever their file lies, and the probability."""
        return None if mates is None else {**mates.identity(), "probability": self.probability}


@dataclass(frozen=True, eq=False)
class FoundMates:
    """Pairs of utterances, each in both directions, and how they were come by."""

    pairs: list[tuple[str, str, float]]  # ID, mate, cosine in the whitened space
    figures: dict[str, float]  # see `Mates.figures`; `reciprocity` is here of all nearest neighbours, before the gate
    skipped: list[Skipped]


def find_mates(
    encoder: SpeechEncoder | None,
    manifest: Manifest,
    *,
    coverage: float = 0.3,
    same: str | None = None,
    shrinkage: float = 0.001,
    embedded: EmbeddedManifest | None = None,
    **options: Any,
) -> FoundMates:
    """Pairs that are each other's nearest neighbour in the whitened space of an encoder; no labels are used.

    Two utterances of one recording (column `recording`; else one file) are never mates.

    Args:
        encoder: any, for instance an untrained one; where it does not whiten, whitened here by these utterances.
        manifest: the training set.
        coverage: at most this share of utterances, 0 to 1, gets a mate: the nearest pairs.
        same: a column whose values mates must share, for instance that of `schedule.batch_by`.
        shrinkage: see `Whitening`.
        embedded: of this manifest, instead of the encoder.
        options: passed to `embed_files`.

    Raises:
        InputError: too few utterances, or there is no pair.

    Source: SSPS, arXiv 2505.14561, positives from other recordings; exact neighbours, reciprocity and gate are ours, as
        a small corpus allows the first and needs the others.
    """
    if not 0 < coverage <= 1:
        raise InputError(f"coverage={coverage}: expected above 0, and at most 1")
    found = embed_manifest(encoder, manifest, embedded=embedded, **options)
    rows = np.flatnonzero(found.usable)
    points = torch.from_numpy(found.embeddings[rows])
    if encoder is None or encoder.whitening is None:
        whitening = Whitening(points.shape[1])
        whitening.fit(points, shrinkage=shrinkage)
        points = whitening(points)
    subset = manifest.subset(rows.tolist())
    groups = np.zeros(len(rows), np.int64) if same is None else np.unique(subset.label(same), return_inverse=True)[1]
    nearest, similarity = _nearest(points, torch.from_numpy(recordings_of(subset)), torch.from_numpy(groups))
    exists = np.isfinite(similarity)
    reciprocal = exists & (nearest[nearest] == np.arange(len(rows)))
    # The nearest first; both directions of a pair follow each other, whatever the last bit of their cosines.
    similarity = np.where(reciprocal, np.maximum(similarity, similarity[nearest]), similarity)
    order = np.lexsort((np.minimum(nearest, np.arange(len(rows))), -similarity))
    chosen = order[reciprocal[order]][: int(coverage * len(manifest)) // 2 * 2]
    if not len(chosen):
        problem = f"{manifest.name}: no two of {len(rows)} utterances are each other's nearest neighbour"
        raise InputError(f"{problem}, or coverage = {coverage:g} lets none through; give more speech, or raise it")
    mates = Mates.of_pairs("table", rows[np.stack([chosen, nearest[chosen]], axis=1)], len(manifest))
    figures = {**mates.figures(manifest), "reciprocity": float(reciprocal.sum() / max(1, exists.sum()))}
    pairs = [(subset[i].id, subset[j].id, s) for i, j, s in _triples(chosen, nearest, similarity)]
    return FoundMates(pairs, figures, found.skipped)


def _triples(chosen: NDArray[Any], nearest: NDArray[Any], similarity: NDArray[Any]) -> list[tuple[int, int, float]]:
    return list(zip(chosen.tolist(), nearest[chosen].tolist(), similarity[chosen].tolist(), strict=True))


def _nearest(
    points: torch.Tensor, recordings: torch.Tensor, groups: torch.Tensor
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(N,) the nearest of another recording and the same group, and its cosine; -inf where there is none."""
    points = F.normalize(points.double(), dim=1)  # float64: whether two choose each other must not hang on rounding
    nearest, similarity = [], []
    for start in range(0, len(points), BLOCK):
        block = slice(start, start + BLOCK)
        refused = (recordings[block, None] == recordings) | (groups[block, None] != groups)
        best = (points[block] @ points.T).masked_fill(refused, -torch.inf).max(dim=1)
        nearest.append(best.indices)
        similarity.append(best.values)
    return torch.cat(nearest).numpy(), torch.cat(similarity).numpy()
