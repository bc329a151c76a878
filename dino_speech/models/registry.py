"""Encoders by name, and what each can be built with. Those of the rooms above are imported on first use."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn

from dino_speech.errors import InputError
from dino_speech.features import LogMel, NormalizedWave
from dino_speech.models.backbones.functionals import SETS, Functionals
from dino_speech.models.backbones.pooling import FrameStatistics
from dino_speech.models.backbones.resnet import ResNet34
from dino_speech.models.backbones.time_delay import ECAPA, XVector
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.encoder_config import EncoderConfig, Features
from dino_speech.registry import Registry

Network = TypeVar("Network", bound=Callable[..., nn.Module])

# Options of the encoder itself, with their defaults.
_ENCODER_OPTIONS = {"embedding_batchnorm": False, "statistics_shortcut": False}
EMBEDDING_DIM = 192  # arXiv 2005.07143


@dataclass(frozen=True)
class Resolved:
    """Options made complete; `load` puts pretrained weights into the built network, None: they stay random."""

    features: dict[str, Any]
    backbone: dict[str, Any]
    embedding_dim: int
    load: Callable[[nn.Module], None] | None = None


@dataclass(frozen=True)
class Preset:
    """A registered encoder: its parts, and where its defaults differ from the constructors'.

    The network is called with number of bands, embedding dimension and the options `backbone`, the frontend with
    `features`; `own` are options of the encoder itself; `resolve` completes the others, None: they are complete.
    """

    network: Callable[..., nn.Module]
    backbone: Mapping[str, Any] = field(default_factory=dict)
    features: Mapping[str, Any] = field(default_factory=dict)
    trainable: bool = True
    frontend: Callable[..., Features] = LogMel
    own: Mapping[str, Any] = field(default_factory=lambda: _ENCODER_OPTIONS)
    resolve: Callable[[dict[str, Any], dict[str, Any]], Resolved] | None = None


PRESETS = {
    "ecapa_tdnn": Preset(ECAPA),
    "xvector": Preset(XVector),
    "resnet34": Preset(ResNet34),
    "light_resnet34": Preset(ResNet34, {"channels": 16}),  # arXiv 2208.05445: the paper's encoder
    "fbank_stats": Preset(
        FrameStatistics,
        # A floor must not be weak on purpose. Of 28 settings of level, pre-emphasis and floor, these are within 0.3,
        # 1.9 and 0.9 points of the lowest EER on three trial lists (22.9, 9.2 and 33.7 %).
        features={"mean_norm": "none", "level_norm": True, "pre_emphasis": 0.0, "floor": 1e-8},
        trainable=False,
    ),
    **{
        name: Preset(
            Functionals,
            backbone={"feature_set": name},
            features={"normalize": False},
            trainable=False,
            frontend=NormalizedWave,
            own={},
            resolve=partial(Resolved, embedding_dim=dim),
        )
        for name, (_, dim) in SETS.items()
    },
}

FRAME_LEVEL = dict.fromkeys(("wav2vec2", "hubert", "wavlm"), "dino_speech.frame_level.pretrained")
JOINED = "joined"  # of others, so it is not built by its name alone
ENCODERS = Registry("encoder", PRESETS, FRAME_LEVEL | {JOINED: "dino_speech.models.joined"})


def register_encoder(name: str, **preset: Any) -> Callable[[Network], Network]:
    """Make a network of one's own known under a name, to `build_encoder`, `load_encoder` and recipes: a decorator.

    The page "Add your own" has an example. The network is called with the number of bands, the embedding dimension, and
    its options as keywords. Its `forward` takes frames (B, T, F), their true numbers (B,) or None, and `note`, which
    hears of each layer (see `layer_means.py`); it gives (B, D), for each utterance the same whatever it is batched
    with. It may have `min_frames`, `affine_modules` and `depth_modules`, as `ECAPA`.

    Args:
        name: how the encoder is asked for, and what its folders say; InputError where one of this package has it.
        preset: `features` or `backbone` (options whose defaults differ), `frontend`; see `Preset`.
    """

    def register(network: Network) -> Network:
        ENCODERS.register(name, Preset(network, **preset))
        return network

    return register


def list_encoders(*, trainable_only: bool = False) -> list[str]:
    """The names that `build_encoder` knows.

    Example:
        >>> list_encoders(trainable_only=True)
        ['ecapa_tdnn', 'xvector', 'resnet34', 'light_resnet34', 'wav2vec2', 'hubert', 'wavlm']
    """
    named = [name for name in ENCODERS if name != JOINED]
    return [name for name in named if name not in PRESETS or PRESETS[name].trainable or not trainable_only]


def encoder_options(name: str) -> dict[str, Any]:
    """Every option of `build_encoder(name, ...)` beyond `embedding_dim` and `seed`, with its default."""
    preset = ENCODERS[name]
    if not preset.trainable:
        return {}
    return {**preset.own, **_feature_options(preset), **_backbone_options(preset)}


def build_encoder(
    name: str, *, embedding_dim: int | None = None, seed: int | None = None, **options: Any
) -> SpeechEncoder:
    """A new encoder in training mode, with random weights (or with those of `source`, for a frame-level encoder).

    Args:
        name: one of `list_encoders()`.
        embedding_dim: `D`; None: 192, or what the network gives where it cannot be chosen (`fbank_stats`: 160).
        seed: the weights depend on it alone, and the global random state stays untouched; None draws from that state.
        options: of the features (`LogMel`: `num_mels`, `mean_norm`, ...), of the network (`ECAPA`, `XVector`,
            `ResNet34`: `channels`, ...; `wav2vec2`, `hubert`, `wavlm`: `source`, `layer`, `pooling`, ...),
            `embedding_batchnorm`, `statistics_shortcut`; see `encoder_options`.

    Raises:
        InputError: the name or an option is unknown, or an option out of its range.

    Example:
        >>> encoder = build_encoder("light_resnet34", embedding_dim=256, mean_norm="window", seed=0)
        >>> encoder.embedding_dim, encoder.config.backbone["channels"]
        (256, 16)
    """
    preset = ENCODERS[name]
    known = encoder_options(name)
    for option in options:
        if option not in known:
            near = get_close_matches(option, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            listed = f"its options: {', '.join(known)}" if known else "it has none"
            raise InputError(f"encoder {name!r} has no option {option!r}{hint}; {listed}")
    features, backbone = _feature_options(preset), _backbone_options(preset)
    features.update({key: value for key, value in options.items() if key in features})
    backbone.update({key: value for key, value in options.items() if key in backbone})
    complete = preset.resolve or partial(Resolved, embedding_dim=EMBEDDING_DIM)
    resolved = complete(features, backbone)
    if embedding_dim is None:
        statistics = 2 * features.get("num_mels", 0)  # of `fbank_stats`
        embedding_dim = resolved.embedding_dim if preset.trainable or preset.resolve else statistics
    if embedding_dim < 1:
        raise InputError(f"embedding_dim={embedding_dim}: expected a positive number, such as {EMBEDDING_DIM}")
    own = {key: bool(options.get(key, default)) for key, default in preset.own.items()}
    config = EncoderConfig(name, embedding_dim, _plain(resolved.features), _plain(resolved.backbone), **own)
    encoder = encoder_from_config(config, seed=seed)
    if resolved.load is not None:
        resolved.load(encoder.backbone)
    return encoder


def encoder_from_config(config: EncoderConfig, *, seed: int | None = None) -> SpeechEncoder:
    """An encoder of this configuration with random weights; InputError: an encoder or an option that does not exist."""
    preset = ENCODERS[config.name]
    for given, known in ((config.features, _feature_options(preset)), (config.backbone, _backbone_options(preset))):
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise InputError(f"encoder {config.name!r} has no option {unknown[0]!r}; expected {', '.join(known)}")
    features = preset.frontend(sample_rate=config.sample_rate, **config.features)
    with torch.random.fork_rng(devices=[], enabled=seed is not None):  # the global random state stays untouched
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        network = preset.network(features.num_bands, config.embedding_dim, **config.backbone)
        return SpeechEncoder(config, features, network)


def _feature_options(preset: Preset) -> dict[str, Any]:
    options = _defaults(preset.frontend)
    del options["sample_rate"]  # the encoder's own
    return {**options, **preset.features}


def _backbone_options(preset: Preset) -> dict[str, Any]:
    return {**_defaults(preset.network), **preset.backbone}


def _defaults(constructor: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(constructor).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON will give them back: lists, no tuples."""
    return {key: list(value) if isinstance(value, (tuple, list)) else value for key, value in options.items()}
