"""What makes two runs the same run: plain data that is saved with the state and compared when it is resumed."""

import dataclasses
import hashlib
import inspect
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from typing import Any

import torch
from torch import Tensor

from dino_speech.data.manifest import Manifest

# Arguments of augmentation that are kept under another name.
KEPT_AS = {"rir": "rooms", "transforms": "specs"}


def describe(value: Any) -> Any:
    """Plain data (for JSON) that says how a value was made.

    Numbers, strings and collections stand for themselves, tensors for their size and level; an object with a `config`
    for that; any other object for its class, its `settings` and those of its constructor's arguments that it keeps.

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
    if isinstance(value, Sequence) and value and all(isinstance(item, Tensor) for item in value):
        return _summary(value)
    if isinstance(value, (Sequence, set, frozenset)):
        return [describe(item) for item in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        public = [field.name for field in dataclasses.fields(value) if not field.name.startswith("_")]
        return {name: describe(getattr(value, name)) for name in public}
    if isinstance(value, Tensor):
        return _summary([value])
    if hasattr(value, "config"):
        return describe(value.config)
    settings = describe(getattr(value, "settings", {}))
    return {"class": type(value).__qualname__} | settings | _arguments(value)


def _arguments(value: Any) -> dict[str, Any]:
    names = inspect.signature(type(value)).parameters
    kept = {name: KEPT_AS.get(name, name) for name in names}
    return {name: describe(getattr(value, attribute)) for name, attribute in kept.items() if hasattr(value, attribute)}


def _summary(tensors: Sequence[Tensor]) -> dict[str, Any]:
    """Not a hash: another processor may decode or synthesise a sound with other last bits."""
    num_values = sum(tensor.numel() for tensor in tensors)
    energy = sum(float(torch.linalg.vector_norm(tensor.detach().float())) ** 2 for tensor in tensors)
    return {"num": len(tensors), "num_values": num_values, "rms": float(f"{(energy / max(1, num_values)) ** 0.5:.3g}")}


def describe_manifest(manifest: Manifest) -> dict[str, Any]:
    """Number of utterances, and a hash of their IDs and spans in order; moving the files changes neither."""
    digest = hashlib.sha256()
    for utterance in manifest:
        digest.update(f"{utterance.id}\x1f{utterance.start}\x1f{utterance.stop}\n".encode())
    return {"num_utterances": len(manifest), "sha256": digest.hexdigest()}
