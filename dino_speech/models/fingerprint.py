"""What tells one set of weights from another."""

import hashlib
import json
from typing import Any

import torch
from torch import nn


def fingerprint(module: nn.Module, facts: Any = None) -> str:
    """SHA-256 of all weights and buffers by name, and of plain facts beside them, such as a configuration."""
    digest = hashlib.sha256(b"" if facts is None else json.dumps(facts, sort_keys=True).encode())
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
