"""Waves themselves as features, for networks that learn their own first layers (wav2vec 2.0 and its kin).

Letters: `B` utterances. A "frame" is one sample here, and there is one band.
"""

import torch
from torch import Tensor, nn

from dino_speech.errors import InputError

VARIANCE_FLOOR = 1e-7  # as in transformers' Wav2Vec2FeatureExtractor


class NormalizedWave(nn.Module):
    """Waves with zero mean and unit variance over their true samples, always in float32.

    Args:
        normalize: False leaves the waves as they are, which some checkpoints expect (their `preprocessor_config.json`
            says `do_normalize`).
        sample_rate: Hz.
    """

    num_bands = 1

    def __init__(self, *, normalize: bool = True, sample_rate: int = 16_000) -> None:
        super().__init__()
        self.normalize, self.sample_rate = normalize, sample_rate

    def num_samples(self, num_frames: int) -> int:
        """Samples of the shortest utterance with so many frames: as many."""
        return num_frames

    def forward(self, waves: Tensor, num_samples: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, time) and true lengths (B,) -> (B, time, 1) float32, zero beyond each true end, and the lengths.

        Raises:
            InputError: the waves have another shape, or an utterance is longer than the batch.
        """
        if waves.ndim != 2:
            raise InputError(f"waves of shape {tuple(waves.shape)}: expected (B, time)")
        if num_samples is not None and int(num_samples.max()) > waves.shape[1]:
            raise InputError(f"num_samples up to {int(num_samples.max())}, but the waves have {waves.shape[1]} samples")
        with torch.autocast(waves.device.type, enabled=False):
            waves = waves.float()
            if num_samples is None:
                return self._level(waves, None, waves.shape[1])[:, :, None], None
            mask = torch.arange(waves.shape[1], device=waves.device) < num_samples[:, None]
            return self._level(waves * mask, mask, num_samples[:, None])[:, :, None], num_samples

    def _level(self, waves: Tensor, mask: Tensor | None, count: Tensor | int) -> Tensor:
        if not self.normalize:
            return waves
        centred = waves - waves.sum(1, keepdim=True) / count
        if mask is not None:
            centred = centred * mask
        variance = centred.square().sum(1, keepdim=True) / count
        return centred * (variance + VARIANCE_FLOOR).rsqrt()
