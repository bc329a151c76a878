"""In which order an epoch goes through the utterances: mixed, by shards, or so that a batch holds one kind of them.

An order depends on the seed and the epoch alone, and holds each utterance once.
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
    """Which archive each utterance lies in, (N,), counted in the order of their first ones; each has to lie in one."""
    numbers: dict[str, int] = {}
    found = np.empty(len(manifest), np.int64)
    for row, utterance in enumerate(manifest):
        archive = file_of(utterance.wav)
        if archive == utterance.wav:
            problem = f"shards_at_once is set, but {utterance.id} lies in no shard ({utterance.wav}); train from"
            raise InputError(f"{problem} the manifest.csv that `dino-speech shard` writes, or leave shards_at_once out")
        found[row] = numbers.setdefault(archive, len(numbers))
    return found


def mixed_order(num_items: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """All utterances, in an order drawn from (seed, epoch)."""
    order: NDArray[np.int64] = torch.randperm(num_items, generator=seeded_generator(seed, "epoch", epoch)).numpy()
    return order


def shard_order(
    shards: NDArray[np.int64], *, seed: int, epoch: int, shards_at_once: int, world_size: int = 1
) -> list[int]:
    """All utterances, each once, so that process r (which takes each `world_size`-th from r on) reads its own shards.

    The shards are drawn in an order of (seed, epoch), dealt to the processes so that each gets about as many
    utterances, and then read `shards_at_once` at a time, whose utterances are mixed. What one process has more than
    another at the end goes to the others. `shards`: (N,) the shard of each utterance.
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


def grouped_order(groups: NDArray[np.int64], *, seed: int, epoch: int, chunk: int) -> NDArray[np.int64]:
    """All utterances, each once, so that `chunk` in a row are of one group: batches that no channel solves.

    Drawn over many corpora, a batch of negatives is told apart by its corpora; within one, more has to be heard. What
    is left over of each group is mixed, at the end. `groups`: (N,) the group of each utterance.

    Source: ours.
    """
    generator = seeded_generator(seed, "groups", epoch)
    mixed = torch.randperm(len(groups), generator=generator).numpy()
    by_group = mixed[np.argsort(groups[mixed], kind="stable")]
    members = np.split(by_group, np.flatnonzero(np.diff(groups[by_group])) + 1)
    chunks = [part[i : i + chunk] for part in members for i in range(0, len(part) - chunk + 1, chunk)]
    rest = np.concatenate([part[len(part) // chunk * chunk :] for part in members])
    drawn = [chunks[number] for number in torch.randperm(len(chunks), generator=generator).tolist()]
    return np.concatenate([*drawn, rest[torch.randperm(len(rest), generator=generator).numpy()]])
