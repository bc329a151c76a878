"""Which number format the networks compute in: `models/precision.py`, under the name that training knows it by."""

from dino_speech.models.precision import PRECISIONS, choose_precision, cpu_has_bf16

__all__ = ["PRECISIONS", "choose_precision", "cpu_has_bf16"]
