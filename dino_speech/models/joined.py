"""Several encoders as one: their embeddings side by side, or, of one run, their weights averaged.

Joined, each embeds the same waves, and their embeddings stand side by side, each of unit length.

The cosine of two such vectors is the mean of the parts' cosines, so what one part hears in the voice and another in the
long-term spectrum are weighed alike. Each part keeps its own features and its own whitening.
"""

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dino_speech.errors import InputError
from dino_speech.features import NormalizedWave
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.encoder_config import EncoderConfig
from dino_speech.models.layer_means import Note, ignore
from dino_speech.models.registry import ENCODERS, JOINED, Preset, Resolved, encoder_from_config


class Joined(nn.Module):
    """The network of a joined encoder; its frames are the waves' samples.

    Args:
        num_bands: 1.
        embedding_dim: the sum of the parts'.
        parts: the configuration of each part, as `EncoderConfig.to_dict` gives it.

    Raises:
        InputError: fewer than two parts, or dimensions that do not add up.
    """

    def __init__(self, num_bands: int, embedding_dim: int, *, parts: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__()
        configs = [EncoderConfig.from_dict(part) for part in parts]
        if len(configs) < 2 or sum(config.embedding_dim for config in configs) != embedding_dim:
            dims = [config.embedding_dim for config in configs]
            raise InputError(f"joined: parts of {dims} dimensions; expected two or more that make {embedding_dim}")
        self.parts = nn.ModuleList(encoder_from_config(config) for config in configs)
        self.min_frames = max(part.min_samples for part in self._encoders())

    def _encoders(self) -> list[SpeechEncoder]:
        return list(self.parts)  # type: ignore[arg-type]

    @property
    def affine_modules(self) -> tuple[str, ...]:
        """Names of the parts' last affine layers."""
        return tuple(f"parts.{i}.{name}" for i, part in enumerate(self._encoders()) for name in part.affine_modules)

    @property
    def depth_modules(self) -> list[tuple[str, ...]]:
        """Names of what holds parameters by depth; the parts' last levels are the last here."""
        depths = [part.depth_modules for part in self._encoders()]
        levels: list[tuple[str, ...]] = [()] * max(map(len, depths))
        for i, depth in enumerate(depths):
            for level, names in enumerate(depth, start=len(levels) - len(depth)):
                levels[level] += tuple(f"parts.{i}.{name}" for name in names)
        return levels

    def forward(self, waves: Tensor, num_samples: Tensor | None = None, note: Note = ignore) -> Tensor:
        """(B, T, 1) -> (B, D), the parts' embeddings, each of length 1."""
        found = []
        for number, part in enumerate(self._encoders()):
            noted = partial(_noted, note, f"part{number + 1}.")
            found.append(F.normalize(part.run(waves.squeeze(2), num_samples, noted), dim=-1))
        return torch.cat(found, dim=-1)


def _noted(note: Note, prefix: str, name: str, frames: Tensor, mask: Tensor | None) -> None:
    note(prefix + name, frames, mask)


def join_encoders(encoders: Sequence[SpeechEncoder]) -> SpeechEncoder:
    """One encoder out of several: their embeddings side by side, each of unit length. Copies their weights.

    Whiten each by the same unlabelled speech first (`fit_whitening`), or the cosines of one are noise to the other's.

    Args:
        encoders: two or more of one sample rate.

    Raises:
        InputError: fewer than two, or other sample rates.

    Example:
        >>> from dino_speech import build_encoder
        >>> join_encoders([build_encoder("ecapa_tdnn", channels=16), build_encoder("fbank_stats")]).embedding_dim
        352

    Source: ours; equal to a sum of scores, the usual fusion of systems in speaker verification.
    """
    rates = sorted({encoder.config.sample_rate for encoder in encoders})
    if len(rates) > 1:
        raise InputError(f"encoders of {' and '.join(map(str, rates))} Hz cannot be joined; expected one sample rate")
    dim = sum(encoder.embedding_dim for encoder in encoders)
    parts = [encoder.config.to_dict() for encoder in encoders]
    config = EncoderConfig(JOINED, dim, {"normalize": False}, {"parts": parts}, sample_rate=rates[0])
    joined = encoder_from_config(config, seed=0)
    for part, encoder in zip(joined.backbone.get_submodule("parts").children(), encoders, strict=True):
        part.load_state_dict(encoder.state_dict())
    return joined.eval()


def average_encoders(encoders: Sequence[SpeechEncoder]) -> SpeechEncoder:
    """One encoder with the mean of the weights of several: snapshots of one run, such as the last ten.

    The running statistics of BatchNorm are averaged like weights, and not estimated anew.

    Args:
        encoders: two or more, alike in all but their weights, none of which whitens (fit that on the average).

    Raises:
        InputError: fewer than two, or not so.

    Source: checkpoint averaging as in wespeaker's recipes (`average_model.py`), which keep the last ten.
    """
    if len(encoders) < 2 or any(encoder.config != encoders[0].config for encoder in encoders):
        names = " and ".join(sorted({encoder.config.name for encoder in encoders}))
        raise InputError(f"{len(encoders)} encoders ({names}): expected two or more, alike in all but their weights")
    if encoders[0].config.whitening:
        raise InputError("encoders that whiten cannot be averaged; take snapshots of the run, and whiten their average")
    averaged = copy.deepcopy(encoders[-1])
    states = [encoder.state_dict() for encoder in encoders]
    for name, value in averaged.state_dict().items():
        if value.is_floating_point():  # not the number of batches, which is the last one's
            value.copy_(torch.stack([state[name].double() for state in states]).mean(0))
    return averaged.eval()


def _resolve(features: dict[str, Any], backbone: dict[str, Any]) -> Resolved:
    dim = sum(EncoderConfig.from_dict(part).embedding_dim for part in backbone["parts"])
    return Resolved(features, backbone, dim)


ENCODERS.known[JOINED] = Preset(
    Joined, features={"normalize": False}, frontend=NormalizedWave, own={}, resolve=_resolve
)
