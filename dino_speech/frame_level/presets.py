"""The frame-level encoders as `build_encoder` knows them: their options, made complete and checked."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from dino_speech.features import NormalizedWave
from dino_speech.frame_level.architecture import complete_config
from dino_speech.frame_level.network import HuBERT, Wav2Vec2, WavLM, embedding_dim_of, pruned
from dino_speech.frame_level.pretrained import Pretrained, read_pretrained
from dino_speech.models.registry import ENCODERS, Preset, Resolved


def _resolve(model_type: str, features: dict[str, Any], backbone: dict[str, Any]) -> Resolved:
    """Spell the architecture out, from `source` or from `config`, so that an encoder's folder needs neither."""
    pretrained = None
    if backbone["source"] is not None:
        pretrained = read_pretrained(model_type, str(backbone["source"]), config=backbone["config"])
        config = pretrained.config
        backbone["source"] = str(backbone["source"])
    else:
        config = complete_config(model_type, backbone["config"])
    if features["normalize"] is None:
        features["normalize"] = True if pretrained is None else pretrained.normalize
    backbone["config"] = config
    embedding_dim = embedding_dim_of(pruned(config, backbone["num_layers"]), backbone["layer"], backbone["pooling"])
    return Resolved(features, backbone, embedding_dim, None if pretrained is None else _loader(pretrained))


def _loader(pretrained: Pretrained) -> Callable[[nn.Module], None]:
    def load(network: nn.Module) -> None:
        pretrained.load_into(network.model)  # type: ignore[arg-type]

    return load


def _preset(network: type[Wav2Vec2]) -> Preset:
    return Preset(
        network,
        features={"normalize": None},
        frontend=NormalizedWave,
        own={"embedding_batchnorm": False},
        resolve=partial(_resolve, network.model_type),
    )


ENCODERS.known |= {network.model_type: _preset(network) for network in (Wav2Vec2, HuBERT, WavLM)}
