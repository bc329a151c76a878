"""Shards: what webdataset expects, the same batches as from the files, and no utterance lost by a kill."""

import io
import json
import os
import re
import signal
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import processes
import pytest
import soundfile
import torch

from dino_speech.audio.crops import MultiCrop
from dino_speech.audio.io import load_audio
from dino_speech.data.loading.datasets import CropDataset
from dino_speech.data.loading.loaders import StepSampler, make_loader
from dino_speech.data.manifest import read_manifest
from dino_speech.data.shards.reading import is_shards, read_index, read_shards
from dino_speech.data.shards.writing import write_shards
from dino_speech.errors import InputError
from dino_speech.provenance import sha256

pytestmark = pytest.mark.usefixtures("memory_urls")


CROPS = MultiCrop(num_long=2, long_s=1.0, num_short=3, short_s=0.5)
WEBDATASET_NAME = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)")  # how webdataset parts a key from its extension


@pytest.fixture
def shards(voices_folder, tmp_path) -> Path:
    write_shards(voices_folder / "manifest.csv", tmp_path / "shards", shard_mb=0.15)
    return tmp_path / "shards"


def batches(manifest, *, num_workers=0, cache_gib=0.0, **options):
    dataset = CropDataset(manifest, CROPS, seed=3, cache_gib=cache_gib)
    sampler = StepSampler(len(manifest), 4, seed=3, num_steps=9, **options)
    return list(make_loader(dataset, sampler, num_workers=num_workers))


def equal(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in ("long", "short", "index"))


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["flac", "as-found"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_are_those_of_the_files(voices_folder, tmp_path, codec, num_workers):
    write_shards(voices_folder / "manifest.csv", tmp_path / "shards", shard_mb=0.15, codec=codec)
    manifest, found = read_manifest(voices_folder / "manifest.csv"), read_shards(tmp_path / "shards")
    assert [(u.id, u.labels, u.duration) for u in found] == [(u.id, u.labels, u.duration) for u in manifest]
    equal(batches(found, num_workers=num_workers), batches(manifest))
    equal(batches(found, num_workers=num_workers, cache_gib=0.1), batches(manifest, cache_gib=0.1))
    equal(batches(found, start_step=5, num_workers=num_workers), batches(manifest)[5:])


def test_what_only_ffmpeg_reads_is_not_copied(encode, tmp_path):
    file = encode("a.m4a")
    (tmp_path / "m.csv").write_text(f"ID,duration,wav\na,1,{file}\n")
    write_shards(tmp_path / "m.csv", tmp_path / "shards", codec="as-found")
    found = load_audio(read_shards(tmp_path / "shards")[0].wav)
    assert torch.allclose(found, load_audio(file), atol=2**-15)


def test_batches_from_a_url_are_the_same(shards, voices_folder):
    system = fsspec.filesystem("memory")
    for path in shards.iterdir():
        system.pipe(f"/remote/{path.name}", path.read_bytes())
    found = read_shards("memory://remote/index.json")
    assert found[0].wav.startswith("memory://remote/shard-")
    equal(batches(found), batches(read_manifest(voices_folder / "manifest.csv")))
    equal(batches(read_manifest("memory://remote/manifest.csv")), batches(found))


def test_archives_are_what_webdataset_reads(shards, voices_folder):
    manifest = read_manifest(voices_folder / "manifest.csv")
    index, seen = read_index(shards), []
    assert len(index["shards"]) > 2
    for shard in index["shards"]:
        assert sha256(shards / shard["file"]) == shard["sha256"]
        assert (shards / shard["file"]).stat().st_size == shard["num_bytes"] < 150_000 + 12_000
        samples: dict[str, dict[str, bytes]] = {}
        with tarfile.open(shards / shard["file"]) as archive:
            for member in archive:
                key, suffix = WEBDATASET_NAME.fullmatch(member.name).groups()
                samples.setdefault(key, {})[suffix] = archive.extractfile(member).read()
        assert len(samples) == shard["num_utterances"]
        for sample in samples.values():
            facts = json.loads(sample["json"])
            wave, rate = soundfile.read(io.BytesIO(sample["flac"]), dtype="float32")
            seen.append(facts["ID"])
            original = manifest[manifest.by_id()[facts["ID"]]]
            assert facts == {"ID": original.id, "duration": original.duration, **original.labels}
            assert rate == 16_000
            assert np.array_equal(wave, load_audio(original.wav).numpy())
    assert sorted(seen) == sorted(u.id for u in manifest)
    assert seen != [u.id for u in manifest]  # mixed
    assert index["num_utterances"] == 16


def test_webdataset_itself_reads_them(shards):
    webdataset = pytest.importorskip("webdataset")
    urls = [str(path) for path in sorted(shards.glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert len(samples) == 16
    assert all({"flac", "json"} <= set(sample) for sample in samples)


def test_spans_are_cut_and_other_rates_converted(write_wav, tmp_path):
    rng = np.random.default_rng(0)
    path = write_wav("in/long.wav", rng.uniform(-0.5, 0.5, 48_000).astype(np.float32))
    write_wav("in/stereo.wav", rng.uniform(-0.5, 0.5, (8_000, 2)).astype(np.float32), sample_rate=8_000)
    text = "ID,duration,wav,start,stop\na,1,long.wav,8000,24000\nb,1,long.wav,30000,\nc,1,stereo.wav,,\n"
    (path.parent / "m.csv").write_text(text)
    for codec in ("flac", "as-found"):
        write_shards(path.parent / "m.csv", tmp_path / codec, codec=codec)
        a, b, c = read_shards(tmp_path / codec)
        assert torch.equal(load_audio(a.wav), load_audio(path, start=8_000, stop=24_000))
        assert torch.equal(load_audio(b.wav), load_audio(path, start=30_000))
        assert (a.start, a.stop, a.duration, b.duration, c.duration) == (None, None, 1.0, 1.125, 1.0)
        torch.testing.assert_close(load_audio(c.wav), load_audio(path.with_name("stereo.wav")), atol=2e-5, rtol=0)


def test_bad_files_are_listed(write_wav, tone, tmp_path):
    path = write_wav("in/good.wav", tone(1.0))
    (path.parent / "bad.wav").write_bytes(b"nothing")
    (path.parent / "m.csv").write_text("ID,duration,wav\ng,1,good.wav\nb,1,bad.wav\nn,1,none.wav\n")
    report = write_shards(path.parent / "m.csv", tmp_path / "shards")
    assert (report.num_utterances, [item.name for item in report.failures]) == (1, ["b", "n"])
    assert "no such file" in (tmp_path / "shards" / "failures.csv").read_text()
    assert write_shards(path.parent / "m.csv", tmp_path / "shards").to_dict() == report.to_dict()  # nothing to do
    path.unlink()
    with pytest.raises(InputError, match="none of 3 utterances can be read"):
        write_shards(path.parent / "m.csv", tmp_path / "none")


def test_other_settings_and_damaged_shards_are_refused(shards, voices_folder):
    with pytest.raises(InputError, match="another shard_mb"):
        write_shards(voices_folder / "manifest.csv", shards, shard_mb=1)
    with pytest.raises(InputError, match="expected a positive number"):
        write_shards(voices_folder / "manifest.csv", shards, shard_mb=0)
    first = shards / "shard-000000.tar"
    first.write_bytes(first.read_bytes()[:5_000])
    with pytest.raises(InputError, match=r"shard-000000.tar: has 5000 bytes; expected"):
        read_shards(shards)
    first.unlink()
    with pytest.raises(InputError, match=r"shard-000000.tar: is missing"):
        read_shards(shards / "index.json")
    with pytest.raises(InputError, match="no index of shards"):
        read_shards(voices_folder)
    assert is_shards(shards)
    assert not is_shards(voices_folder)


def test_a_writer_stopped_at_the_very_end_goes_on(voices_folder, tmp_path, shards, monkeypatch):
    """All shards are there, but not the index."""
    target = tmp_path / "stopped"

    def stop(self, records):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dino_speech.data.shards.writing._Writing._conclude", stop)
        with pytest.raises(KeyboardInterrupt):
            write_shards(voices_folder / "manifest.csv", target, shard_mb=0.15)
    assert not (target / "index.json").exists()
    write_shards(voices_folder / "manifest.csv", target, shard_mb=0.15)
    assert {path.name: sha256(path) for path in target.glob("shard-*")} == {
        path.name: sha256(path) for path in shards.glob("shard-*")
    }


def write_one_more(manifest: Path, target: Path) -> None:
    """Killed once there is one more shard."""
    before = len(list(target.glob("shard-*.tar")))

    def watched(items, total):
        for item in items:
            if len(list(target.glob("shard-*.tar"))) > before:
                os.kill(os.getpid(), signal.SIGKILL)
            yield item

    write_shards(manifest, target, shard_mb=0.15, progress=watched)


@pytest.mark.slow
def test_a_killed_writer_goes_on_to_the_same_shards(shards, voices_folder, tmp_path):
    """Killed twice, each time after one more shard."""
    target, manifest = tmp_path / "killed", voices_folder / "manifest.csv"
    for number in range(2):
        process = processes.begin(tmp_path / "log", write_one_more, manifest, target)
        assert processes.ends(process) == [-signal.SIGKILL], (tmp_path / "log").read_text()
        assert len(list(target.glob("shard-*.tar"))) > number
    write_shards(manifest, target, shard_mb=0.15)
    assert {path.name for path in target.iterdir()} == {path.name for path in shards.iterdir()}
    for path in shards.iterdir():
        assert path.read_bytes() == (target / path.name).read_bytes(), path.name
