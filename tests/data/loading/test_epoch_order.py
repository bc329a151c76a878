"""Each epoch has each utterance once, on any number of processes, of which each reads its own shards."""

import numpy as np
import pytest

from dino_speech.data.loading.epoch_order import grouped_order, mixed_order, shard_numbers, shard_order
from dino_speech.data.loading.loaders import StepSampler
from dino_speech.data.manifest import read_manifest
from dino_speech.data.shards.reading import read_shards
from dino_speech.data.shards.writing import write_shards
from dino_speech.errors import InputError

SIZES = [40, 37, 41, 40, 39, 40, 5]
SHARDS = np.random.default_rng(0).permutation(np.repeat(np.arange(len(SIZES)), SIZES))


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("shards_at_once", [1, 2, 100])
def test_each_utterance_once(world_size, shards_at_once):
    options = {"shards_at_once": shards_at_once, "world_size": world_size}
    orders = [shard_order(SHARDS, seed=1, epoch=epoch, **options) for epoch in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    for order in orders:
        assert sorted(order) == list(range(len(SHARDS)))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_few_shards_at_a_time_and_others_on_each_process(world_size):
    order = shard_order(SHARDS, seed=1, epoch=0, shards_at_once=1, world_size=world_size)
    lanes = [SHARDS[order[rank::world_size]] for rank in range(world_size)]
    for lane in lanes:
        runs = 1 + np.count_nonzero(np.diff(lane))
        assert runs <= -(-len(SIZES) // world_size) + 4  # each shard in one go, and what another had too much of
    first = [set(lane[:30].tolist()) for lane in lanes]
    assert sum(map(len, first)) == len(set().union(*first)) == world_size


def test_many_shards_at_once_mix_as_well_as_all():
    order = SHARDS[shard_order(SHARDS, seed=1, epoch=0, shards_at_once=100)]
    assert np.count_nonzero(np.diff(order)) > 0.7 * len(order)
    assert sorted(mixed_order(9, seed=0, epoch=0)) == list(range(9))


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_the_sampler_deals_a_process_its_own_shards(accumulation_steps):
    def sampler(rank, start_step=0):
        return StepSampler(
            len(SHARDS),
            8,
            seed=5,
            num_steps=60,
            start_step=start_step,
            accumulation_steps=accumulation_steps,
            rank=rank,
            world_size=2,
            shards=SHARDS,
            shards_at_once=1,
        )

    seen = [[key for batch in sampler(rank) for key in batch] for rank in range(2)]
    assert not {SHARDS[i] for _, i in seen[0][:30]} & {SHARDS[i] for _, i in seen[1][:30]}
    epoch = 8 * sampler(0).steps_per_epoch
    indices = [i for keys in seen for position, i in keys if position < epoch]
    assert len(set(indices)) == len(indices) == epoch
    assert [key for batch in sampler(1, 17) for key in batch] == seen[1][17 * 4 :]  # resumed


def test_shards_of_a_manifest(voices_folder, tmp_path):
    write_shards(voices_folder / "manifest.csv", tmp_path / "shards", shard_mb=0.15)
    numbers = shard_numbers(read_shards(tmp_path / "shards"))
    assert numbers[0] == 0
    assert len(set(numbers.tolist())) == len(list((tmp_path / "shards").glob("*.tar")))
    with pytest.raises(InputError, match="spk0_0 lies in no shard"):
        shard_numbers(read_manifest(voices_folder / "manifest.csv"))


def test_batches_of_one_group_hold_each_utterance_once():
    groups = np.repeat([3, 1, 2, 0], [40, 23, 9, 3])
    order = grouped_order(groups, seed=1, epoch=0, chunk=8)
    assert sorted(order.tolist()) == list(range(75))
    chunks = groups[order][: 8 * 8].reshape(8, 8)
    assert (chunks == chunks[:, :1]).all()
    assert sorted(chunks[:, 0].tolist()) == [1, 1, 2, 3, 3, 3, 3, 3]
    assert len(set(groups[order][64:].tolist())) == 3, "what is left over is mixed"
    assert not np.array_equal(order, grouped_order(groups, seed=1, epoch=1, chunk=8))
    assert np.array_equal(order, grouped_order(groups, seed=1, epoch=0, chunk=8))


def test_the_sampler_gives_batches_of_so_many_groups():
    groups = np.arange(64) % 4
    sampler = StepSampler(64, 8, seed=0, num_steps=8, groups=groups, groups_per_batch=2)
    found = [groups[[index for _, index in batch]] for batch in sampler]
    assert all((batch[:4] == batch[0]).all() and (batch[4:] == batch[4]).all() for batch in found)
    with pytest.raises(InputError, match="does not fall into 3 equal groups"):
        StepSampler(64, 8, seed=0, num_steps=8, groups=groups, groups_per_batch=3)
    with pytest.raises(InputError, match="batch_by and shards_at_once"):
        StepSampler(64, 8, seed=0, num_steps=8, groups=groups, shards=groups)
