"""Seeds derived from names and numbers, so that a draw depends on what it is for and on nothing that ran before."""

import hashlib

import torch


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2**63) that depends on all parts and their order; the same on every machine and Python."""
    digest = hashlib.blake2b("\x1f".join(str(part) for part in parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seeded_generator(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh random generator on `device`, seeded with `derive_seed(*parts)`."""
    return torch.Generator(device=device).manual_seed(derive_seed(*parts))
