import csv
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from dino_speech.audio.crops import MultiCrop
from dino_speech.audio.io import load_audio
from dino_speech.data.loading.datasets import MAX_ATTEMPTS, CropDataset, WaveCache
from dino_speech.data.loading.skipped import SkippedFiles
from dino_speech.data.manifest import read_manifest
from dino_speech.data.seeds import seeded_generator
from dino_speech.errors import InputError

CROPS = MultiCrop(num_long=2, long_s=1.0, num_short=3, short_s=0.5)


def write_manifest_of(folder: Path, names: list[str]) -> Path:
    path = folder / "manifest.csv"
    path.write_text("ID,duration,wav\n" + "".join(f"{name},1.0,{name}\n" for name in names))
    return path


def test_an_item_depends_on_seed_and_position_only(voices_folder):
    manifest = read_manifest(voices_folder / "manifest.csv")
    first, second = (CropDataset(manifest, CROPS, seed=3) for _ in range(2))
    wanted = first[(41, 5)]
    for key in [(0, 1), (1, 5), (7, 2)]:  # whatever ran before
        second[key]
    assert torch.equal(second[(41, 5)]["long"], wanted["long"])
    assert torch.equal(second[(41, 5)]["short"], wanted["short"])
    assert not torch.equal(second[(42, 5)]["long"], wanted["long"])
    assert not torch.equal(CropDataset(manifest, CROPS, seed=4)[(41, 5)]["long"], wanted["long"])


def test_crops_are_pieces_of_the_file(voices_folder):
    manifest = read_manifest(voices_folder / "manifest.csv")
    dataset = CropDataset(manifest, CROPS, seed=0)
    item = dataset[(0, 3)]
    assert item["long"].shape == (2, 16_000)
    assert item["short"].shape == (3, 8_000)
    wave = load_audio(manifest[3].wav)
    for crop in item["short"]:
        starts = (wave[: len(wave) - 8_000] == crop[0]).nonzero()[:, 0]
        assert any(torch.equal(wave[start : start + 8_000], crop) for start in starts)


def test_a_segment_of_the_manifest_is_never_left(write_wav):
    wave = np.concatenate([np.full(16_000, 0.1), np.full(24_000, 0.5), np.full(16_000, 0.9)])
    wave = (wave + 0.05 * np.sin(np.arange(len(wave)))).astype(np.float32)
    path = write_wav("a.wav", wave)
    (path.parent / "m.csv").write_text("ID,duration,wav,start,stop\na,1.5,a.wav,16000,40000\n")
    manifest = read_manifest(path.parent / "m.csv")
    for cache_gib in (0.0, 0.1):
        dataset = CropDataset(manifest, CROPS, seed=0, cache_gib=cache_gib)
        for position in range(20):
            long = dataset[(position, 0)]["long"]
            assert float(long.min()) > 0.4
            assert float(long.max()) < 0.6


def test_cache_gives_the_same_crops_in_16_bits_without_reading_again(voices_folder):
    manifest = read_manifest(voices_folder / "manifest.csv")
    plain, cached = CropDataset(manifest, CROPS, seed=0), CropDataset(manifest, CROPS, seed=0, cache_gib=0.1)
    first = [cached[(i, i % len(manifest))] for i in range(32)]
    for i, item in enumerate(first):
        # wav files of 16 bits: the cache holds every one of their samples to half a bit
        torch.testing.assert_close(plain[(i, i % len(manifest))]["long"], item["long"], atol=0.6 / 32_767, rtol=0)
    for utterance in manifest:
        Path(utterance.wav).unlink()
    for i, item in enumerate(first):
        assert torch.equal(cached[(i, i % len(manifest))]["long"], item["long"])


def test_cache_first_read_equals_later_reads(voices_folder):
    manifest = read_manifest(voices_folder / "manifest.csv")
    cached = CropDataset(manifest, CROPS, seed=0, cache_gib=0.1)
    assert torch.equal(cached[(0, 3)]["long"], cached[(0, 3)]["long"])


def test_cache_keeps_to_its_budget_and_refuses_what_does_not_fit():
    cache = WaveCache([1.0, 1.0, 1.0, 500.0], gib=2.3 * 16_000 * 2 / 2**30)
    assert [cache.has_place(i) for i in range(4)] == [True, True, False, False]
    wave = torch.linspace(-1, 1, 16_000)
    assert cache.put(0, wave)
    assert not cache.put(1, torch.zeros(40_000))
    assert not cache.put(1, 1.5 * wave), "beyond full scale would be clipped"
    assert not cache.put(2, wave)
    assert cache.num_samples(0) == 16_000
    assert cache.num_samples(1) == 0
    torch.testing.assert_close(cache.span(0, 100, 200), wave[100:200], atol=0.51 / 32_767, rtol=0)
    again = pickle.loads(pickle.dumps(cache))
    assert again.num_samples(0) == 0
    assert again.put(0, wave)


@pytest.fixture
def bad_folder(tmp_path, tone):
    """Six good files and one of each bad kind."""
    for number in range(6):
        soundfile.write(tmp_path / f"good{number}.wav", tone(1.4, hz=150 + 20 * number), 16_000)
    (tmp_path / "corrupt.flac").write_bytes(b"fLaC" + bytes(range(200)))
    (tmp_path / "empty.wav").write_bytes(b"")
    soundfile.write(tmp_path / "silent.wav", np.zeros(20_000, dtype=np.float32), 16_000)
    soundfile.write(tmp_path / "short.wav", tone(0.2), 16_000)
    nan = tone(1.2)
    nan[5_000] = np.nan
    soundfile.write(tmp_path / "nan.wav", nan, 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "stereo8k.wav", np.stack([tone(1.2, sample_rate=8_000)] * 2, axis=1), 8_000)
    return tmp_path


BAD = {
    "corrupt.flac": "cannot be decoded",
    "empty.wav": "empty file",
    "silent.wav": "silent",
    "short.wav": "0.200 s",
    "nan.wav": "NaN",
    "missing.wav": "no such file",
}


@pytest.mark.parametrize("cache_gib", [0.0, 0.1])
def test_bad_files_are_replaced_and_named_with_their_reason(bad_folder, cache_gib):
    names = [*BAD, *(f"good{n}.wav" for n in range(6)), "stereo8k.wav"]
    manifest = read_manifest(write_manifest_of(bad_folder, names))
    crops = MultiCrop(num_long=1, long_s=1.0, num_short=2, short_s=0.5, min_s=0.4, excerpt_s=None)
    dataset = CropDataset(manifest, crops, seed=0, cache_gib=cache_gib)
    skipped = SkippedFiles([u.wav for u in manifest], bad_folder / "out" / "skipped.csv")
    for position in range(3 * len(names)):
        item = dataset[(position, position % len(names))]
        skipped.add([item["index"]], item["failures"])
        assert names[item["index"]] not in BAD
        assert item["long"].shape == (1, 16_000)
        assert bool(item["long"].isfinite().all())
    with (bad_folder / "out" / "skipped.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = {Path(row["file"]).name: row["reason"] for row in rows}
    assert len(rows) == len(BAD), "each file is listed once"
    assert set(found) == set(BAD)
    for name, reason in BAD.items():
        assert reason in found[name], f"{name}: {found[name]}"
    continued = SkippedFiles([u.wav for u in manifest], bad_folder / "out" / "skipped.csv")
    assert continued.reasons == skipped.reasons


def test_a_silent_stretch_is_passed_over(tmp_path, tone):
    wave = np.concatenate([np.full(25_000, 0.1, dtype=np.float32), tone(4.0)])  # an offset is no sound
    soundfile.write(tmp_path / "a.wav", wave, 16_000)
    dataset = CropDataset(read_manifest(write_manifest_of(tmp_path, ["a.wav"])), CROPS, seed=0)
    items = [dataset[(position, 0)] for position in range(60)]
    crops = torch.cat([item["short"] for item in items])
    plans = [CROPS.plan(len(wave), seeded_generator(0, "crops", position, 0)) for position in range(60)]
    starts = [plan.start + first for plan in plans for first, length in plan.views if length == CROPS.short_samples]
    first_draws_in_silence = sum(start + CROPS.short_samples < 25_000 for start in starts) / len(starts)
    assert 0.1 < first_draws_in_silence < 0.4
    assert float((crops.std(dim=1) < 1e-3).float().mean()) < 0.2 * first_draws_in_silence


def test_where_quiet_is_no_mistake_the_border_can_be_lower(tmp_path, tone):
    soundfile.write(tmp_path / "a.wav", 1e-4 * tone(2.0), 16_000, subtype="FLOAT")
    manifest = read_manifest(write_manifest_of(tmp_path, ["a.wav"]))
    assert "below -70 dBFS" in CropDataset(manifest, CROPS, seed=0)[(0, 0)]["failures"][0][1]
    quiet = CropDataset(manifest, CROPS, seed=0, silent_dbfs=-120.0)[(0, 0)]
    assert quiet["failures"] == []
    assert float(quiet["long"].abs().max()) > 0


def test_replacements_do_not_depend_on_what_is_known_to_be_bad(bad_folder):
    # bad in one place only: whether it is heard depends on the position
    nan = np.random.default_rng(0).standard_normal(60_000).astype(np.float32) * 0.1
    nan[30_000] = np.nan
    soundfile.write(bad_folder / "partly.wav", nan, 16_000, subtype="FLOAT")
    names = [*BAD, *(f"good{n}.wav" for n in range(6)), "partly.wav"]
    manifest = read_manifest(write_manifest_of(bad_folder, names))
    used = CropDataset(manifest, CROPS, seed=0)
    items = [used[(position, position % len(names))] for position in range(40)]
    for position in range(40):
        fresh = CropDataset(manifest, CROPS, seed=0)
        again = fresh[(position, position % len(names))]
        assert again["index"] == items[position]["index"]
        assert torch.equal(again["long"], items[position]["long"])


def test_nothing_but_bad_files_ends_without_a_loop(bad_folder):
    dataset = CropDataset(read_manifest(write_manifest_of(bad_folder, list(BAD))), CROPS, seed=0)
    item = dataset[(0, 0)]
    assert item["long"] is None
    assert len(item["failures"]) == MAX_ATTEMPTS


def test_more_than_half_bad_stops_the_run():
    skipped = SkippedFiles([f"{i}.wav" for i in range(100)])
    skipped.add(range(24, 48), [(i, f"{i}.wav: broken") for i in range(24)])
    with pytest.raises(InputError, match=r"26 of the 51 utterances tried.*0\.wav: broken"):
        skipped.add([48], [(98, "98.wav: broken"), (99, "99.wav: broken")])


def test_waveform_transforms_are_drawn_from_the_position(voices_folder):
    def gain(wave, *, generator):
        return wave * torch.rand((), generator=generator)

    manifest = read_manifest(voices_folder / "manifest.csv")
    plain = CropDataset(manifest, CROPS, seed=0)[(3, 3)]["long"]
    changed = [CropDataset(manifest, CROPS, seed=0, transforms=gain)[(3, 3)]["long"] for _ in range(2)]
    assert torch.equal(*changed)
    factors = (changed[0] / plain).nanmedian(dim=1).values
    assert float(factors[0]) != pytest.approx(float(factors[1]), abs=1e-3), "each crop has its own"
