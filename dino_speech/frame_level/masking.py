"""Spans of frames that a model must guess, and frames of the same utterance to tell the right one from.

Letters: `B` utterances, `T` frames, `N` negatives.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dino_speech.errors import InputError


def span_mask(
    num_rows: int, num_frames: int, *, share: float, length: int, min_spans: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Which frames are masked, (B, T) bool: as many spans of one length in each row, begun anywhere, that may overlap.

    `share` is that of masked frames, if the spans did not overlap. Rows too short for `min_spans`: an `InputError`.

    Source: arXiv 2006.11477, Sec. 3.1, counted as in its official code and in transformers.
    """
    num_starts = num_frames - length + 1
    if num_starts < min_spans:
        found = f"chunks of {num_frames} frames hold no {min_spans} spans of {length}"
        raise InputError(f"{found}: raise chunk_s, or lower mask_length")
    num_spans = min(max(int(share * num_frames / length + rng.random()), min_spans), num_starts)
    mask = np.zeros((num_rows, num_frames), dtype=bool)
    for row in mask:
        starts = rng.choice(num_starts, num_spans, replace=False)
        row[(starts[:, None] + np.arange(length)).ravel()] = True
    return mask


def draw_negatives(
    mask: NDArray[np.bool_], num: int, rng: np.random.Generator, *, rows: slice = slice(None)
) -> NDArray[np.int64]:
    """For each masked frame other masked frames of its row (B, T), which has two or more: (B, T, N) positions.

    They count in the flattened rows that are asked for, `rows`, on which the draw does not depend; where nothing is
    masked they mean nothing.

    Source: arXiv 2006.11477, Sec. 3.2.
    """
    found = np.zeros((*mask.shape, num), dtype=np.int64)
    for number, row in enumerate(mask):
        masked = np.flatnonzero(row)
        others = rng.integers(len(masked) - 1, size=(len(masked), num))
        others += others >= np.arange(len(masked))[:, None]  # any but the frame itself
        found[number, masked] = masked[others]
    found = found[rows]
    return found + np.arange(len(found))[:, None, None] * mask.shape[1]


def masked_states(network: Any, conv: Tensor, mask: Tensor, filler: Tensor) -> Tensor:
    """Last layer (B, T, hidden) of a `Wav2Vec2` that hears `filler` (hidden,) where `mask` (B, T) is true.

    `conv` (B, T, C) is of its convolutions; all frames are true.
    """
    projected = network.project(conv)
    projected = torch.where(mask[:, :, None], filler.to(projected.dtype), projected)
    states: Tensor = network.model.encoder(projected)[0]
    return states


class MaskFiller(nn.Module):
    """The vector in place of masked frames: the model's own, where its checkpoint has one, else a new one."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        own = getattr(model, "masked_spec_embed", None)
        self.value = nn.Parameter(torch.empty(model.config.hidden_size).uniform_()) if own is None else own
