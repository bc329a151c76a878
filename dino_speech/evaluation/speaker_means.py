"""Utterances and the means of their speakers. Letters: `N` utterances, `S` speakers, `D` columns."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def speaker_means(rows: NDArray, speakers: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(S, D) means of rows (N, D), one per name in `speakers` (N,), in their order; and each row's speaker (N,)."""
    _, codes, counts = np.unique(np.asarray(speakers), return_inverse=True, return_counts=True)
    return speaker_sums(rows, codes, counts) / counts[:, None], codes


def speaker_sums(rows: NDArray, codes: NDArray, counts: NDArray) -> NDArray[np.float64]:
    """(S, D) sums of rows (N, D) of speakers numbered by `codes` (N,), of whom each has `counts` (S,) rows."""
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return np.add.reduceat(np.asarray(rows, dtype=np.float64)[np.argsort(codes, kind="stable")], starts, axis=0)
