import multiprocessing
import os
import signal
import time
from functools import partial

import pytest
import torch

import dino_speech.data.loading.loaders as loaders
from dino_speech.audio.crops import MultiCrop
from dino_speech.data.loading.datasets import CropDataset
from dino_speech.data.loading.loaders import StepSampler, lost_workers_named, make_loader
from dino_speech.data.manifest import read_manifest
from dino_speech.errors import InputError

CROPS = MultiCrop(num_long=2, long_s=0.6, num_short=2, short_s=0.4)


@pytest.fixture
def dataset(voices_folder):
    return CropDataset(read_manifest(voices_folder / "manifest.csv"), CROPS, seed=5, cache_gib=0.05)


def test_an_epoch_holds_each_utterance_once_and_the_next_is_in_another_order():
    sampler = StepSampler(13, 4, seed=0, num_steps=6)
    assert sampler.steps_per_epoch == 3
    keys = [key for batch in sampler for key in batch]
    assert [position for position, _ in keys] == list(range(24))
    epochs = [index for _, index in keys[:12]], [index for _, index in keys[12:]]
    assert all(len(set(epoch)) == 12 for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert [key for batch in StepSampler(13, 4, seed=1, num_steps=6) for key in batch] != keys


def test_start_step_gives_the_rest_of_the_same_run():
    whole = list(StepSampler(13, 4, seed=0, num_steps=9))
    for start in (1, 3, 8):
        rest = StepSampler(13, 4, seed=0, num_steps=9, start_step=start)
        assert list(rest) == whole[start:]
        assert len(rest) == 9 - start


@pytest.mark.parametrize(("world_size", "accumulation_steps"), [(1, 2), (2, 1), (2, 3)])
def test_ranks_and_micro_batches_share_out_the_batch_of_one_process(world_size, accumulation_steps):
    whole = list(StepSampler(30, 12, seed=0, num_steps=4))
    parts = [
        list(
            StepSampler(
                30, 12, seed=0, num_steps=4, rank=r, world_size=world_size, accumulation_steps=accumulation_steps
            )
        )
        for r in range(world_size)
    ]
    for step, batch in enumerate(whole):
        first = step * accumulation_steps
        micro = [keys for part in parts for keys in part[first : first + accumulation_steps]]
        assert len({len(keys) for keys in micro}) == 1
        assert sorted(key for keys in micro for key in keys) == batch


def test_too_few_utterances_and_uneven_batches_are_refused_with_the_cure():
    with pytest.raises(InputError, match=r"7 utterances, fewer than batch_size = 8: lower batch_size to 7"):
        StepSampler(7, 8, seed=0, num_steps=1)
    with pytest.raises(
        InputError, match=r"batch_size = 10 .* 2 process\(es\) x accumulation_steps = 2.* multiple of 4"
    ):
        StepSampler(70, 10, seed=0, num_steps=1, world_size=2, accumulation_steps=2)


def test_batches_are_the_same_with_any_number_of_workers(dataset):
    def batches(num_workers, start_step=0):
        sampler = StepSampler(len(dataset), 4, seed=5, num_steps=6, start_step=start_step)
        return list(make_loader(dataset, sampler, num_workers=num_workers))

    wanted = batches(0)
    assert wanted[0]["long"].shape == (4, 2, 9_600)
    assert wanted[0]["short"].shape == (4, 2, 6_400)
    for got in (batches(2), [None] * 4 + batches(1, start_step=4)):
        for a, b in zip(wanted, got, strict=True):
            assert b is None or (torch.equal(a["long"], b["long"]) and torch.equal(a["short"], b["short"]))


def test_the_loader_leaves_the_global_random_generator_alone(dataset):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(make_loader(dataset, StepSampler(len(dataset), 4, seed=5, num_steps=2), num_workers=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_share_what_they_decode(dataset):
    sampler = StepSampler(len(dataset), 8, seed=5, num_steps=4)
    list(make_loader(dataset, sampler, num_workers=2))
    # the workers filled the memory of this process
    seconds = sum(dataset.cache.num_samples(index) for index in range(len(dataset))) / 16_000
    assert seconds == pytest.approx(sum(u.duration for u in dataset.manifest), abs=0.01)


@pytest.mark.slow
def test_waiting_time_is_measured(dataset):
    def slowly(wave, *, generator):
        time.sleep(0.02)
        return wave

    dataset.transforms = slowly
    loader = make_loader(dataset, StepSampler(len(dataset), 2, seed=5, num_steps=3), num_workers=0)
    for _ in loader:
        time.sleep(0.05)  # the caller's own time does not count
    assert 0.45 < loader.wait_s < 1.5  # 3 batches x 2 utterances x 4 crops x 0.02 s


def test_workers_outlive_a_signal_to_the_process_group(dataset):
    loader = make_loader(dataset, StepSampler(len(dataset), 4, seed=5, num_steps=12), num_workers=1)
    batches = iter(loader)
    next(batches)
    for worker in torch.multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGINT)
        os.kill(worker.pid, signal.SIGTERM)
    assert len(list(batches)) == 11


def test_a_batch_that_went_with_its_worker_is_named(dataset, request, monkeypatch):
    loader = make_loader(dataset, StepSampler(len(dataset), 4, seed=5, num_steps=12), num_workers=1)
    batches = iter(loader)
    next(batches)
    time.sleep(1.0)  # what is read ahead lies in the worker's memory, and its handles in the queue
    # As where the batch is asked for in the instant before the end of its worker can be seen.
    monkeypatch.setattr(multiprocessing.process.BaseProcess, "is_alive", lambda worker: True)
    request.addfinalizer(partial(signal.signal, signal.SIGCHLD, signal.signal(signal.SIGCHLD, signal.SIG_DFL)))
    for worker in torch.multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGKILL)
    with (
        pytest.raises(
            InputError, match=r"^a reading process ended: DataLoader worker was lost before .* the same call"
        ),
        lost_workers_named(),
    ):
        list(batches)


def test_a_corpus_of_bad_files_stops_with_their_reasons(tmp_path):
    rows = []
    for number in range(40):
        (tmp_path / f"{number}.wav").write_bytes(b"not audio")
        rows.append(f"{number},1.0,{number}.wav\n")
    (tmp_path / "m.csv").write_text("ID,duration,wav\n" + "".join(rows))
    manifest = read_manifest(tmp_path / "m.csv")
    dataset = CropDataset(manifest, CROPS, seed=0)
    for num_workers in (0, 1):
        loader = make_loader(dataset, StepSampler(40, 4, seed=0, num_steps=20), num_workers=num_workers)
        with pytest.raises(InputError, match=r"cannot be used.*cannot be decoded.*dino-speech check"):
            list(loader)


def test_too_little_shared_memory_means_fewer_workers(dataset, monkeypatch, caplog):
    usage = type("Usage", (), {"free": 2_000_000})
    monkeypatch.setattr(loaders.shutil, "disk_usage", lambda path: usage)
    sampler = StepSampler(len(dataset), 8, seed=5, num_steps=4)
    monkeypatch.setattr(loaders, "SHARED_MEMORY", dataset_folder := loaders.Path("/"))
    assert dataset_folder.is_dir()
    loader = make_loader(dataset, sampler, num_workers=4)
    # a batch takes 8 x 2 x (9,600 + 6,400) samples of 4 bytes: 1 MB, a worker holds up to four
    assert loader.num_workers == 0
    assert "shm-size" in caplog.text


@pytest.mark.parametrize(("num_processes", "num_workers"), [(1, 3), (2, 1), (8, 0)])
def test_processes_of_one_machine_share_its_memory(dataset, monkeypatch, num_processes, num_workers):
    usage = type("Usage", (), {"free": 14_000_000})
    monkeypatch.setattr(loaders.shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(loaders, "SHARED_MEMORY", loaders.Path("/"))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(num_processes))  # as torchrun says it
    sampler = StepSampler(len(dataset), 8, seed=5, num_steps=4)  # 1 MB a batch, as above
    assert make_loader(dataset, sampler, num_workers=4).num_workers == num_workers
