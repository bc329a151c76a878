"""What tells one set of weights from another."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def fingerprint(module: nn.Module, facts: Any = None) -> str:
    """SHA-256 of all weights and buffers by name, and of plain facts beside them, such as a configuration."""
    return digest_of(module.state_dict().items(), b"" if facts is None else json.dumps(facts, sort_keys=True).encode())


def digest_of(tensors: Iterable[tuple[str, Tensor]], start: bytes = b"") -> str:
    """SHA-256 of named tensors in their order, behind some bytes."""
    digest = hashlib.sha256(start)
    for name, tensor in tensors:
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
