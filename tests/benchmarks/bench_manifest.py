"""What a manifest costs a training process with its reading processes: seconds to open it, and memory.

Synthetic manifests of N rows point at a few small files. Each is opened, and batches are read from it by several
reading processes, in a process of its own. Memory is of all processes together, with the pages that they share counted
once (PSS), less what the smallest manifest takes.

    python tests/benchmarks/bench_manifest.py [--json] [--sizes 1000 100000 1000000] [--num-workers 4] [--names plain]

`--names plain`: IDs are paths as of VoxCeleb; `random`: of 32 random characters, and other 32 in the file names, of
which nothing repeats.
"""

import argparse
import gc
import json
import os
import random
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from memory import in_fresh_process

FILES, SECONDS = 8, 1.0


def write_manifest(folder: Path, num: int, names: str) -> Path:
    """A manifest of `num` utterances with labels, as a corpus has them; only the first `FILES` of its files exist."""
    rng, draw = np.random.default_rng(0), random.Random(0)
    path = folder / "manifest.csv"
    with path.open("w") as file:
        file.write("ID,duration,wav,speaker,sex,language\n")
        for i in range(num):
            speaker = f"id{i // 180:05d}"
            name = f"{speaker}/{i // 8 * 2_654_435_761 % 2**40:010x}/{i % 8:05d}"
            wav = f"{name}.wav"
            if names == "random":
                name, wav = (f"{draw.getrandbits(128):032x}{suffix}" for suffix in ("", ".wav"))
            if i < FILES:
                (folder / wav).parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(folder / wav, 0.1 * rng.standard_normal(round(SECONDS * 16_000)), 16_000)
            file.write(f"{name},{3 + 10 * draw.random():.6f},{wav},{speaker},{'fm'[i % 2]},en\n")
    return path


def measure(path: str, num_workers: int, num_batches: int) -> dict[str, float]:
    """Open a manifest and read from it, in this process."""
    import torch

    from dino_speech import MultiCrop, read_manifest
    from dino_speech.data.loading.datasets import CropDataset
    from dino_speech.data.loading.loaders import StepSampler, make_loader

    torch.set_num_threads(1)
    start, processor = time.perf_counter(), time.process_time()
    manifest = read_manifest(path)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    crops = MultiCrop(num_long=2, long_s=0.5, num_short=0, short_s=0.5)
    dataset = CropDataset(manifest, crops, seed=0)
    sampler = StepSampler(len(manifest), FILES, seed=0, num_steps=num_batches)
    sampler.step_batch(0)  # draws the order of an epoch
    sampler.step_batch = lambda step: [(FILES * step + i, i) for i in range(FILES)]  # type: ignore[method-assign]
    batches = iter(make_loader(dataset, sampler, num_workers=num_workers))
    for _ in range(num_batches - 1):
        next(batches)
    gc.collect()
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    mib = sum(_own_mib(process) for process in ("self", *children))
    batches.close()
    return {
        "seconds": round(seconds, 1),
        "processor_s": round(processor, 1),
        "mib": mib,
        "processes": 1 + len(children),
    }


def _own_mib(process: str) -> float:
    """Without mapped files, such as libraries: what counts of these depends on other programs."""
    lines = [line.split() for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()]
    return sum(int(line[1]) for line in lines if line[0] in ("Pss_Anon:", "Pss_Shmem:")) / 1024


def run(num: int, options: argparse.Namespace) -> dict[str, float]:
    """Measure one size in a fresh process."""
    with tempfile.TemporaryDirectory() as place:
        words = ["--measure", str(write_manifest(Path(place), num, options.names))]
        words += ["--num-workers", str(options.num_workers), "--num-batches", str(options.num_batches)]
        found: dict[str, float] = in_fresh_process(__file__, words)
    return found


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--num-workers", type=int, default=4)
    parser.add_argument("--num-batches", type=int, default=100)
    parser.add_argument("--names", choices=("plain", "random"), default="plain")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", metavar="MANIFEST", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        print(json.dumps(measure(options.measure, options.num_workers, options.num_batches)))
        return
    rows = [{"utterances": num} | run(num, options) for num in options.sizes]
    print(f"{'utterances':>10}  {'seconds':>7}  {'of a processor':>14}  {'MiB more':>8}  {'processes':>9}")
    for row in rows:
        row["mib_more"] = row["mib"] - rows[0]["mib"]
        cells = f"{row['seconds']:>7}  {row['processor_s']:>14}  {row['mib_more']:>8.1f}  {row['processes']:>9}"
        print(f"{row['utterances']:>10}  {cells}")
    if options.json:
        memory = {f"{row['utterances']} rows": {"peak_mib": row["mib"]} for row in rows}
        print(json.dumps({"setting": vars(options), "rows": rows, "memory_mib": memory}))


if __name__ == "__main__":
    main()
