"""What an encoder is built of, as plain data, and what it expects of its features."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol

from torch import Tensor

from dino_speech.errors import InputError

LOWEST_HZ, HIGHEST_HZ = 1_000, 192_000  # ours: of what is learnt from; every recording is brought to such a rate


@dataclass(frozen=True)
class EncoderConfig:
    """All that is needed to build an encoder again, as plain data; what `encoder.json` holds.

    Options of features and backbone are complete, so that a later default changes no old encoder. Switches: BatchNorm
    without affine part behind the network, the features' mean and deviation beside it, a fitted whitening.
    """

    name: str
    embedding_dim: int
    features: dict[str, Any] = field(default_factory=dict)
    backbone: dict[str, Any] = field(default_factory=dict)
    embedding_batchnorm: bool = False
    statistics_shortcut: bool = False
    whitening: bool = False
    sample_rate: int = 16_000

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "EncoderConfig":
        """The inverse of `to_dict`; InputError: a key is unknown, or one without a default is missing."""
        known = {f.name for f in fields(cls)}
        unknown, missing = sorted(set(data) - known), sorted({"name", "embedding_dim"} - set(data))
        if unknown or missing:
            raise InputError(f"encoder configuration: unknown keys {unknown}, missing keys {missing}")
        kinds = {"name": str, "embedding_dim": int, "features": dict, "backbone": dict, "sample_rate": int}
        for key, kind in kinds.items():
            if key in data and type(data[key]) is not kind:
                raise InputError(f"encoder configuration: {key} is {data[key]!r:.100}; expected {kind.__name__}")
        config = cls(**data)
        if config.sample_rate not in range(LOWEST_HZ, HIGHEST_HZ + 1):
            expected = f"from {LOWEST_HZ} to {HIGHEST_HZ} Hz"
            raise InputError(f"encoder configuration: sample_rate is {config.sample_rate}; expected {expected}")
        return config


class Features(Protocol):
    """Between waves and network: `LogMel` (`num_bands` is `F`), or `NormalizedWave`, whose frames are samples."""

    num_bands: int

    def num_samples(self, num_frames: int) -> int:
        """Samples of the shortest utterance with so many frames."""
        ...

    def __call__(self, waves: Tensor, num_samples: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, time) and true lengths -> frames (B, T, F) float32 and num_frames (B,), None where `num_samples` is."""
        ...
