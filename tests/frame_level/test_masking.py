"""Masks and negatives of contrastive pretraining, beside those of transformers."""

import numpy as np
import pytest

from dino_speech.errors import InputError
from dino_speech.frame_level.masking import draw_negatives, span_mask


def test_masks_are_spans_and_cover_as_much_as_transformers_masks() -> None:
    from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices

    rng = np.random.default_rng(0)
    options = {"share": 0.65, "length": 10, "min_spans": 2}
    ours = np.concatenate([span_mask(4, 200, **options, rng=rng) for _ in range(50)])
    np.random.seed(0)  # noqa: NPY002
    theirs = np.concatenate([_compute_mask_indices((4, 200), 0.65, 10, min_masks=2) for _ in range(50)])
    assert ours.mean() == pytest.approx(theirs.mean(), abs=0.02)
    for row in ours:
        runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], row, [0]]).astype(int))))[::2]
        assert runs.min() >= 10
    with pytest.raises(InputError, match="chunks of 8 frames hold no 2 spans of 10"):
        span_mask(4, 8, **options, rng=rng)


def test_negatives_are_other_masked_frames_of_the_same_row() -> None:
    rng = np.random.default_rng(1)
    mask = span_mask(3, 40, share=0.3, length=3, min_spans=1, rng=rng)
    negatives = draw_negatives(mask, 300, rng)
    assert negatives.shape == (3, 40, 300)
    for row, frame in zip(*np.nonzero(mask), strict=True):
        rows, frames = np.divmod(negatives[row, frame], 40)
        assert set(rows) == {row}
        assert mask[row][frames].all()
        assert frame not in frames
        assert set(frames) == set(np.flatnonzero(mask[row])) - {frame}  # 300 draws find all of them
