"""Architectures of transformers as plain data, and the modules made from it. transformers is the extra `ssl`.

Nothing here reads weights or the network; see `pretrained.py`.
"""

import inspect
import json
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from torch import nn

from dino_speech.errors import InputError

# Our name, which is also the `model_type` of a checkpoint's config.json -> names of the classes in transformers.
CLASSES = {
    "wav2vec2": ("Wav2Vec2Config", "Wav2Vec2Model"),
    "hubert": ("HubertConfig", "HubertModel"),
    "wavlm": ("WavLMConfig", "WavLMModel"),
}
# What stands behind the transformer is not used here, and would only be weights that nothing reads.
FORCED = {"add_adapter": False}


def require_transformers() -> Any:
    """The module transformers.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module("transformers")
    except ImportError as error:
        raise InputError(
            f"wav2vec 2.0, HuBERT and WavLM need transformers ({error}): pip install 'dino-speech[ssl]'"
        ) from error


def complete_config(model_type: str, given: Any = None) -> dict[str, Any]:
    """Every option of an architecture as plain data.

    Args:
        model_type: one of `CLASSES`.
        given: options that differ from the defaults (which are those of the base model), or a config object of
            transformers.

    Raises:
        InputError: transformers is not installed, an option is unknown, or a value is not one that it takes.
    """
    data = {} if given is None else given.to_dict() if hasattr(given, "to_dict") else given
    if not isinstance(data, Mapping):
        raise InputError(f"config={given!r}: expected a mapping of options, or a config object of transformers")
    if data.get("model_type", model_type) != model_type:
        raise InputError(f"config is of a {data['model_type']!r} model; build_encoder({data['model_type']!r}, ...)?")
    known = _own_options(model_type)
    if not hasattr(given, "to_dict"):
        for option in set(data) - known - _base_options():
            near = get_close_matches(option, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(f"config of {model_type!r} has no option {option!r}{hint}")
    options = {key: value for key, value in data.items() if key in known}
    built = _class(model_type, 0)
    try:
        whole = built(**{**options, **FORCED}).to_dict()
    except (TypeError, ValueError) as error:
        raise InputError(f"config of {model_type!r}: {error}") from error
    except Exception as error:  # validation errors of huggingface_hub, which are of a class of their own
        if type(error).__module__.startswith("huggingface_hub"):
            raise InputError(f"config of {model_type!r}: {error}") from error
        raise
    plain: dict[str, Any] = json.loads(json.dumps({key: whole[key] for key in sorted(known) if key in whole}))
    return plain


def build_model(model_type: str, config: Mapping[str, Any]) -> Any:
    """The bare model of transformers with random weights.

    Raises:
        InputError: transformers is not installed, or does not take this configuration.
    """
    try:
        return _class(model_type, 1)(config_object(model_type, config))
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"config of {model_type!r}: {error}") from error


def config_object(model_type: str, config: Mapping[str, Any]) -> Any:
    """The config as transformers wants it."""
    return _class(model_type, 0)(**config)


def model_class(model_type: str) -> Any:
    """The class of the bare model."""
    return _class(model_type, 1)


def conv_layers(model: nn.Module) -> Any:
    """The convolutions of a model's front."""
    return model.feature_extractor.conv_layers  # type: ignore[union-attr]


def _class(model_type: str, which: int) -> Any:
    return getattr(require_transformers(), CLASSES[model_type][which])


def _own_options(model_type: str) -> set[str]:
    """Options of the architecture itself, without those that every model of transformers has."""
    return set(inspect.signature(_class(model_type, 0).__init__).parameters) - _base_options() - {"self", "kwargs"}


def _base_options() -> set[str]:
    transformers = require_transformers()
    base: dict[str, Any] = transformers.PretrainedConfig().to_dict()
    return set(base)
