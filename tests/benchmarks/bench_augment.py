"""Crops with noise and reverberation, per utterance: ours, sslsv's own classes, audiomentations.

    python tests/benchmarks/bench_augment.py [--json] [--peer sslsv=PATH] [--p half] [--batch 32] [--rounds 15]

From wav files of 8 s to 2 x 3 s + 4 x 1.5 s of augmented waves, in one process that uses `--threads` threads. All take
the same files, SNR ranges and probabilities: `--p both` puts each crop in a room and adds one noise, piece of music or
other speaker; `--p half` does each to half of the crops (sslsv's "all"). Ours reads only the span of the crops and
augments the crops of the whole batch at once, as in training; sslsv reads noises and rooms from their files for each
crop, which here are in the system's cache. audiomentations gets its crops for nothing.
"""

import argparse
import atexit
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from interleaved import run_benchmark
from torch import Tensor

from dino_speech import MultiCrop, read_manifest
from dino_speech.audio.augment import Augment
from dino_speech.audio.banks import NoiseBank, RoomBank
from dino_speech.data.loading.datasets import CropDataset
from dino_speech.data.loading.loaders import collate_crops

RATE, UTTERANCE_S, NUM_UTTERANCES, NUM_SOUNDS = 16_000, 8.0, 64, 8
SNR_DB = {"noise": (0, 15), "music": (5, 15), "speech": (13, 20)}  # sslsv's defaults
P = {"both": 1.0, "half": 0.5}


def write_sounds(folder: Path) -> None:
    """Utterances with a manifest, and noises and rooms in the layout that sslsv wants, which ours reads too."""
    rng, rows = np.random.default_rng(0), ["ID,duration,wav"]
    for number in range(NUM_UTTERANCES):
        wave = np.convolve(rng.standard_normal(round(RATE * UTTERANCE_S)), np.hanning(9) / 4.5, "same")
        soundfile.write(folder / f"{number}.wav", 0.1 * wave, RATE)
        rows.append(f"{number},{UTTERANCE_S},{number}.wav")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    noises = NoiseBank.synthetic(num_clips=3 * NUM_SOUNDS, clip_s=5.0).clips
    sounds = {
        f"musan_split/{kind}/all/{n}.wav": noises[NUM_SOUNDS * k + n]
        for k, kind in enumerate(SNR_DB)
        for n in range(NUM_SOUNDS)
    }
    rooms = RoomBank.synthetic(num_rooms=3 * NUM_SOUNDS).responses
    sounds |= {f"simulated_rirs/rir/all/{number}.wav": room for number, room in enumerate(rooms)}
    for name, wave in sounds.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, (0.9 * wave / wave.abs().max()).numpy(), RATE)


def ours(folder: Path, options: argparse.Namespace, cache_gib: float = 0.0) -> Callable[[], list[Tensor]]:
    """A batch as in training: crops in the reading process, augmentation of all crops of a length at once."""
    p = P[options.p]
    augment = Augment(
        noise=folder / "musan_split",
        rir=folder / "simulated_rirs",
        p_noise=p,
        p_reverb=p,
        snr_db=SNR_DB["noise"],
        music_snr_db=SNR_DB["music"],
        babble_snr_db=SNR_DB["speech"],
        babble_talkers=(1, 1),
        max_rt60_s=None,
    )
    crops = MultiCrop(num_long=2, long_s=options.long_s, num_short=4, short_s=options.short_s)
    dataset = CropDataset(read_manifest(folder / "manifest.csv"), crops, seed=0, cache_gib=cache_gib)
    generator, position = torch.Generator().manual_seed(0), 0
    for number in range(NUM_UTTERANCES if cache_gib else 0):
        dataset[(0, number)]  # decoded from now on

    def batch() -> list[Tensor]:
        nonlocal position
        keys = range(position, position + options.batch)
        position += options.batch
        cut = collate_crops([dataset[(key, key % NUM_UTTERANCES)] for key in keys])
        waves = [cut[name].transpose(0, 1).flatten(0, 1) for name in ("long", "short")]
        return [
            augment(wave, generator=generator, groups=cut["index"].repeat(len(wave) // options.batch)) for wave in waves
        ]

    return batch


def sslsv(folder: Path, options: argparse.Namespace, path: str) -> Callable[[], list[Tensor]]:
    """`sslsv/datasets/SSLDataset.py` with its `DataAugmentation.py`, item by item as its loader calls them."""
    sys.path.insert(0, path)
    from sslsv.datasets.DataAugmentation import DataAugmentationConfig, DataAugmentationStrategyEnum
    from sslsv.datasets.Dataset import DatasetConfig, FrameSamplingEnum
    from sslsv.datasets.SSLDataset import SSLDataset

    strategy = {"both": DataAugmentationStrategyEnum.BOTH, "half": DataAugmentationStrategyEnum.ALL}[options.p]
    config = DatasetConfig(
        ssl=True,
        frame_sampling=FrameSamplingEnum.DINO,
        ssl_dino_global_length=round(RATE * options.long_s),
        ssl_dino_local_length=round(RATE * options.short_s),
        frame_length=round(RATE * options.short_s),
        augmentation=DataAugmentationConfig(enable=True, aug_prob=1.0, strategy=strategy),
        base_path=folder,
    )
    names = [f"{number}.wav" for number in range(NUM_UTTERANCES)]
    dataset = SSLDataset(config, names, labels=list(range(NUM_UTTERANCES)))
    position = 0

    def batch() -> list[Tensor]:
        nonlocal position
        items = [dataset[number % NUM_UTTERANCES] for number in range(position, position + options.batch)]
        position += options.batch
        return [torch.stack([waves for _, waves, _ in items])]

    return batch


def audiomentations(folder: Path, options: argparse.Namespace) -> Callable[[], list[np.ndarray]]:
    """Reverberation, then noise, per crop; the crops are given, and noise is of one kind."""
    import audiomentations as library

    p, (low, high) = P[options.p], SNR_DB["noise"]
    chain = library.Compose(
        [
            library.ApplyImpulseResponse(ir_path=str(folder / "simulated_rirs"), p=p),
            library.AddBackgroundNoise(sounds_path=str(folder / "musan_split"), min_snr_db=low, max_snr_db=high, p=p),
        ]
    )
    rng, sizes = np.random.default_rng(0), [options.long_s] * 2 + [options.short_s] * 4
    waves = [0.1 * rng.standard_normal(round(RATE * s), dtype=np.float32) for s in sizes * options.batch]
    return lambda: [chain(wave, RATE) for wave in waves]


def build_cases(options: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """The ways to make a batch; the files stay until the process ends."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  (sslsv draws from it)
    place = tempfile.TemporaryDirectory()
    atexit.register(place.cleanup)
    folder = Path(place.name)
    write_sounds(folder)
    cases: dict[str, Callable[[], object]] = {
        "ours": ours(folder, options),
        "ours, speech in memory": ours(folder, options, cache_gib=1.0),
        "audiomentations": audiomentations(folder, options),
    }
    if options.peer:
        cases["sslsv"] = sslsv(folder, options, options.peer)
    return cases


def _sslsv_path(text: str) -> str:
    name, _, path = text.partition("=")
    if name != "sslsv" or not Path(path).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r}: expected sslsv=PATH of a checkout")
    return path


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peer", type=_sslsv_path, metavar="sslsv=PATH", help="a checkout of sslsv")
    parser.add_argument("--p", choices=P, default="both")
    parser.add_argument("--batch", type=int, default=32, help="utterances of a batch (default: %(default)s)")
    parser.add_argument("--long-s", type=float, default=3.0)
    parser.add_argument("--short-s", type=float, default=1.5)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print, per utterance."""
    run_benchmark(__file__, __doc__, add_options, build_cases, arguments=arguments, per=lambda options: options.batch)


if __name__ == "__main__":
    main()
