"""Crops per second from files, from shards and from memory, in one process.

All rounds are interleaved. Files and shards are in the system's cache, so what is compared is opening and decoding; a
disk or a network comes on top, and asks more for each file than for each span of a shard.

    python tests/benchmarks/bench_reading.py [--json] [--manifest CSV] [--rounds 15]
"""

import argparse
import atexit
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from interleaved import run_benchmark

from dino_speech.audio.crops import MultiCrop
from dino_speech.data.loading.datasets import CropDataset
from dino_speech.data.manifest import Manifest, read_manifest
from dino_speech.data.shards.reading import read_shards
from dino_speech.data.shards.writing import write_shards

ITEMS = 64


def synthetic(folder: Path) -> Path:
    """256 wav files of 4 to 12 s of coloured noise."""
    rng, rows = np.random.default_rng(0), ["ID,duration,wav"]
    for number in range(256):
        duration_s = float(rng.uniform(4, 12))
        wave = np.convolve(rng.standard_normal(round(duration_s * 16_000)), np.hanning(9) / 4.5, "same")
        soundfile.write(folder / f"{number}.wav", 0.1 * wave, 16_000)
        rows.append(f"u{number},{duration_s:.4f},{number}.wav")
    path = folder / "manifest.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def reader(manifest: Manifest, cache_gib: float = 0.0) -> Callable[[], None]:
    """Cuts the crops of the next `ITEMS` utterances at each call; the same ones for all readers."""
    crops = MultiCrop(num_long=2, long_s=3.0, num_short=4, short_s=1.5)
    dataset, position = CropDataset(manifest, crops, seed=0, cache_gib=cache_gib), 0
    if cache_gib:
        for index in range(len(manifest)):
            dataset[(0, index)]

    def read() -> None:
        nonlocal position
        for _ in range(ITEMS):
            dataset[(position, position % len(manifest))]
            position += 1

    return read


def build_cases(options: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """Readers of the same utterances; the files stay until the process ends."""
    place = tempfile.TemporaryDirectory()
    atexit.register(place.cleanup)
    folder = Path(place.name)
    manifest = read_manifest(options.manifest or synthetic(folder))
    for codec in ("flac", "as-found"):
        write_shards(manifest, folder / codec, codec=codec)
    return {
        "files": reader(manifest),
        "shards, as found": reader(read_shards(folder / "as-found")),
        "shards, flac": reader(read_shards(folder / "flac")),
        "memory": reader(manifest, cache_gib=4.0),
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--manifest", help="real speech; default: 256 synthetic wav files")


def main(arguments: list[str] | None = None) -> None:
    """Measure and print, per utterance."""
    run_benchmark(__file__, __doc__, add_options, build_cases, arguments=arguments, per=lambda options: ITEMS)


if __name__ == "__main__":
    main()
