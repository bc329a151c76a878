"""What makes two runs the same run: plain data that is saved with the state and compared when it is resumed."""

import dataclasses
import hashlib
import inspect
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from typing import Any

from torch import Tensor

from dino_speech.data.manifest import Manifest


def describe(value: Any) -> Any:
    """Plain data (for JSON) that says how a value was made.

    Numbers, strings and collections stand for themselves, tensors for a hash; an object with a `config` for that; any
    other object for its class, its `settings` and those of its constructor's arguments that it keeps as attributes.

    Example:
        >>> from dino_speech.audio.crops import MultiCrop
        >>> describe(MultiCrop(num_long=2, long_s=3.0))["long_s"]
        3.0
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, (Sequence, set, frozenset)):
        return [describe(item) for item in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Tensor):
        return hashlib.sha256(value.detach().cpu().contiguous().numpy().tobytes()).hexdigest()[:16]
    if hasattr(value, "config"):
        return describe(value.config)
    settings = describe(getattr(value, "settings", {}))
    return {"class": type(value).__qualname__} | settings | _arguments(value)


def _arguments(value: Any) -> dict[str, Any]:
    parameters = inspect.signature(type(value)).parameters
    return {name: describe(getattr(value, name)) for name in parameters if hasattr(value, name)}


def describe_manifest(manifest: Manifest) -> dict[str, Any]:
    """Number of utterances, and a hash of their IDs and spans in order; moving the files changes neither."""
    digest = hashlib.sha256()
    for utterance in manifest:
        digest.update(f"{utterance.id}\x1f{utterance.start}\x1f{utterance.stop}\n".encode())
    return {"num_utterances": len(manifest), "sha256": digest.hexdigest()}
