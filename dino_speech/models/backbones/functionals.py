"""Published sets of acoustic functionals as an encoder: no network, a floor for emotion and for clinical questions.

opensmile computes them (the extra `dino-speech[descriptors]`), on the CPU; its licence allows research only. They are
in their own units, so a probe, which standardises them, or whitening makes them comparable; a bare cosine does not.
Letters: `B` utterances, `T` samples, `Q` functionals.
"""

from typing import Any

import torch
from torch import Tensor, nn

from dino_speech.errors import InputError

# Name -> opensmile's name and Q. Eyben et al., IEEE Transactions on Affective Computing 7 (2016); Schuller et al.,
# Interspeech 2016 (the set of the ComParE challenges).
SETS = {"egemaps": ("eGeMAPSv02", 88), "compare2016": ("ComParE_2016", 6373)}


def open_smile(name: str) -> Any:
    """opensmile's `Smile` of a set of `SETS`; InputError: it is not installed."""
    try:
        import opensmile
    except ImportError as error:
        raise InputError(
            f"{name!r} needs opensmile ({error}): pip install 'dino-speech[descriptors]' (its licence is for research"
            " only)"
        ) from error
    return opensmile.Smile(
        feature_set=opensmile.FeatureSet[SETS[name][0]], feature_level=opensmile.FeatureLevel.Functionals
    )


class Functionals(nn.Module):
    """One set; its frames are the waves' samples. opensmile is looked for when the first wave comes.

    Args:
        num_bands: 1.
        embedding_dim: Q.
        feature_set: a name of `SETS`.
    """

    min_frames = 1

    def __init__(self, num_bands: int, embedding_dim: int, *, feature_set: str = "egemaps") -> None:
        super().__init__()
        if feature_set not in SETS or SETS[feature_set][1] != embedding_dim:
            raise InputError(f"feature_set={feature_set!r} of {embedding_dim} functionals; expected one of {SETS}")
        self.feature_set = feature_set
        self._smile: Any = None

    @torch.no_grad()
    def forward(self, frames: Tensor, num_frames: Tensor | None = None, note: object = None) -> Tensor:
        """(B, T, 1) and (B,) -> (B, Q) float32; there are no layers to tell `note` of."""
        self._smile = open_smile(self.feature_set) if self._smile is None else self._smile
        lengths = [frames.shape[1]] * len(frames) if num_frames is None else num_frames.tolist()
        waves = (wave[:length, 0].float().cpu().numpy() for wave, length in zip(frames, lengths, strict=True))
        rows = [torch.from_numpy(self._smile.process_signal(wave, 16_000).to_numpy()[0].copy()) for wave in waves]
        # What a set does not define in an utterance (no voiced frame) is 0, as opensmile gives it for most.
        return torch.stack(rows).float().nan_to_num().to(frames.device)
