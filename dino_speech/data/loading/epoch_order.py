"""In which order an epoch goes through the utterances: all mixed, or some shards at a time.

Where shards lie on storage that is slow to read at random, or do not all fit onto a node's disk, only the utterances of
a few shards are mixed at a time, and each process reads shards of its own.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from dino_speech.audio.sources import file_of
from dino_speech.data.seeds import seeded_generator
from dino_speech.data.utterances import Manifest
from dino_speech.errors import InputError


def shard_numbers(manifest: Manifest) -> NDArray[np.int64]:
    """Which archive each utterance lies in, (N,), counted in the order of their first utterances.

    Raises:
        InputError: some utterance lies in no archive.
    """
    numbers: dict[str, int] = {}
    found = np.empty(len(manifest), np.int64)
    for row, utterance in enumerate(manifest):
        archive = file_of(utterance.wav)
        if archive == utterance.wav:
            raise InputError(
                f"shards_at_once is set, but {utterance.id} lies in no shard ({utterance.wav}); train from the"
                " manifest.csv that `dino-speech shard` writes, or leave shards_at_once out"
            )
        found[row] = numbers.setdefault(archive, len(numbers))
    return found


def mixed_order(num_items: int, *, seed: int, epoch: int) -> list[int]:
    """All utterances, in an order drawn from (seed, epoch)."""
    order: list[int] = torch.randperm(num_items, generator=seeded_generator(seed, "epoch", epoch)).tolist()
    return order


def shard_order(
    shards: NDArray[np.int64], *, seed: int, epoch: int, shards_at_once: int, world_size: int = 1
) -> list[int]:
    """All utterances, each once, so that process r (which takes each `world_size`-th from r on) reads its own shards.

    The shards are drawn in an order of (seed, epoch), dealt to the processes so that each gets about as many
    utterances, and then read `shards_at_once` at a time, whose utterances are mixed. What one process has more than
    another at the end goes to the others.

    Args:
        shards: (N,) the shard of each utterance.
        seed: of the whole run.
        epoch: number of the epoch.
        shards_at_once: shards that each process mixes, at least 1.
        world_size: number of processes.

    Example:
        >>> order = shard_order(np.array([0, 0, 1, 1, 2, 2]), seed=0, epoch=0, shards_at_once=1)
        >>> sorted(order), abs(order[0] - order[1])
        ([0, 1, 2, 3, 4, 5], 1)
    """
    generator = seeded_generator(seed, "shards", epoch)
    by_shard = np.argsort(shards, kind="stable")
    members = np.split(by_shard, np.flatnonzero(np.diff(shards[by_shard])) + 1)
    lanes: list[list[NDArray[np.int64]]] = [[] for _ in range(world_size)]
    lengths = [0] * world_size
    for shard in torch.randperm(len(members), generator=generator).tolist():
        shortest = lengths.index(min(lengths))
        lanes[shortest].append(members[shard])
        lengths[shortest] += len(members[shard])
    mixed = [_mix(lane, shards_at_once, generator) for lane in lanes]
    return _interleave(mixed, len(shards))


def _mix(lane: Sequence[NDArray[np.int64]], shards_at_once: int, generator: torch.Generator) -> NDArray[np.int64]:
    """Some shards at a time, their utterances mixed."""
    windows = [np.concatenate(lane[i : i + shards_at_once]) for i in range(0, len(lane), shards_at_once)]
    drawn = [window[torch.randperm(len(window), generator=generator).numpy()] for window in windows]
    return np.concatenate(drawn) if drawn else np.empty(0, np.int64)


def _interleave(lanes: Sequence[NDArray[np.int64]], num_items: int) -> list[int]:
    """Take from the lanes in turn, after their lengths were made equal."""
    wanted = [len(range(number, num_items, len(lanes))) for number in range(len(lanes))]
    spare = np.concatenate([lane[size:] for lane, size in zip(lanes, wanted, strict=True)])
    order = np.empty(num_items, np.int64)
    for number, (lane, size) in enumerate(zip(lanes, wanted, strict=True)):
        missing = max(0, size - len(lane))
        order[number :: len(lanes)] = np.concatenate([lane[:size], spare[:missing]])
        spare = spare[missing:]
    found: list[int] = order.tolist()
    return found
