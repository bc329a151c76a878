"""Files that are nearly valid: a few edits of a seed, drawn by a generator, so that every input can be made again."""

from collections.abc import Sequence

import numpy as np


def mutated(seeds: Sequence[bytes], words: Sequence[bytes], rng: np.random.Generator, *, max_edits: int = 6) -> bytes:
    """One of the seeds with one to `max_edits` edits: bytes changed, cut, doubled, words of the format put in."""
    data = bytearray(seeds[rng.integers(len(seeds))])
    for _ in range(rng.integers(1, max_edits + 1)):
        # Most of what is parsed stands near the beginning: half of the edits go there.
        reach = len(data) if rng.random() < 0.5 else min(len(data), 400)
        at = int(rng.integers(reach + 1))
        length = int(rng.integers(1, 9)) if rng.random() < 0.9 else int(rng.integers(1, 2_000))
        kind = rng.integers(6)
        if kind == 0:
            data[at : at + length] = rng.bytes(length)
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at:at] = data[at : at + length]
        elif kind == 3:
            data[at:at] = words[rng.integers(len(words))]
        elif kind == 4:
            data[at : at + length] = words[rng.integers(len(words))]
        elif at < len(data):
            data[at] ^= 1 << int(rng.integers(8))
    return bytes(data)
