"""Losses of fine-tuning that torch lacks: concordance of dimensions, and weights that even out unequal classes."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def ccc_loss(predicted: Tensor, true: Tensor) -> Tensor:
    """1 - mean concordance correlation coefficient over the dimensions, by the moments of the batch.

    Args:
        predicted: (B, L), with B at least 2.
        true: (B, L).

    Returns:
        0-d, from 0 (equal) to 2. A dimension in which all B values are equal counts as no concordance, without NaN.

    Source: Lin, Biometrics 45 (1989), as `metrics.ccc`; as a loss for example arXiv 2203.07378.
    """
    predicted, true = predicted.float(), true.float()
    mean_predicted, mean_true = predicted.mean(0), true.mean(0)
    off_predicted, off_true = predicted - mean_predicted, true - mean_true
    covariance = (off_predicted * off_true).mean(0)
    spread = off_predicted.square().mean(0) + off_true.square().mean(0) + (mean_predicted - mean_true).square()
    tiny = torch.finfo(spread.dtype).tiny  # not NaN where predictions and truth are constant and equal
    return 1 - (2 * covariance / spread.clamp(min=tiny)).mean()


def balanced_weights(classes: Sequence[int], num_classes: int) -> Tensor:
    """Weights by which each class counts the same in sum, their mean over the utterances being 1: (C,) float32.

    Args:
        classes: (N,) the class of each utterance, each class at least once.
        num_classes: C.

    Example:
        >>> balanced_weights([0, 0, 0, 1], 2).tolist()
        [0.6666666865348816, 2.0]
    """
    counts = np.bincount(np.asarray(classes), minlength=num_classes)
    return torch.from_numpy(len(classes) / (num_classes * counts)).float()
