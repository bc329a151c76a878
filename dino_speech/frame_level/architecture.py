"""Architectures of transformers as plain data, and the modules made from it. transformers is the extra `ssl`.

Nothing here reads weights or the network; see `pretrained.py`.
"""

import inspect
import json
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from dino_speech.errors import InputError

# Our name, which is also the `model_type` of a checkpoint's config.json -> how names of classes in transformers begin.
CLASSES = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "wavlm": "WavLM"}
# What stands behind the transformer is not used here, and would only be weights that nothing reads.
FORCED = {"add_adapter": False}


def require_transformers() -> Any:
    """The module transformers; where it is not installed, an `InputError` says how."""
    try:
        return import_module("transformers")
    except ImportError as error:
        need = f"wav2vec 2.0, HuBERT and WavLM need transformers ({error})"
        raise InputError(f"{need}: pip install 'dino-speech[ssl]'") from error


def complete_config(model_type: str, given: Any = None) -> dict[str, Any]:
    """Every option of an architecture, one of `CLASSES`, as plain data; what it does not know or take is refused.

    `given` are the options that differ from the defaults (those of the base model), or a config object of transformers.
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
    built = own_class(model_type, "Config")
    try:
        whole = built(**{**options, **FORCED}).to_dict()
    except Exception as error:  # validation errors of huggingface_hub are of a class of their own
        if isinstance(error, (TypeError, ValueError)) or type(error).__module__.startswith("huggingface_hub"):
            raise InputError(f"config of {model_type!r}: {error}") from error
        raise
    plain: dict[str, Any] = json.loads(json.dumps({key: whole[key] for key in sorted(known) if key in whole}))
    return plain


def build_model(model_type: str, config: Mapping[str, Any]) -> Any:
    """The bare model of transformers with random weights; a configuration that it does not take: an `InputError`."""
    try:
        return own_class(model_type, "Model")(config_object(model_type, config))
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"config of {model_type!r}: {error}") from error


def config_object(model_type: str, config: Mapping[str, Any]) -> Any:
    """The config as transformers wants it."""
    return own_class(model_type, "Config")(**config)


def own_class(model_type: str, which: str) -> Any:
    """The class of an architecture's "Config" or bare "Model"."""
    return getattr(require_transformers(), CLASSES[model_type] + which)


def _own_options(model_type: str) -> set[str]:
    """Options of the architecture itself, without those that every model of transformers has."""
    parameters = set(inspect.signature(own_class(model_type, "Config").__init__).parameters)
    return parameters - _base_options() - {"self", "kwargs"}


def _base_options() -> set[str]:
    return set(require_transformers().PretrainedConfig().to_dict())
