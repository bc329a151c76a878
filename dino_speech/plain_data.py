"""Results as plain data: what JSON can hold, made of every dataclass by one rule."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np


class PlainData:
    """For dataclasses of results: all fields as plain data, but arrays (single scores, single predictions)."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}  # type: ignore[arg-type]
        return {name: plain(value) for name, value in values.items() if not isinstance(value, np.ndarray)}


def plain(value: Any) -> Any:
    """As JSON can hold it: arrays become lists, numbers that are not finite None, objects their `to_dict`."""
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
