"""Peak memory of embedding against the number of utterances: it should stay where it is.

Synthetic manifests of N rows point at a few real small files; each size is embedded into a folder, in a process of its
own, whose peak resident memory is what counts. Beside it stands the one npz file, which holds all in memory.

    python tests/benchmarks/bench_embed_memory.py [--json] [--sizes 1000 10000 100000] [--part-size 2000]
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from memory import in_fresh_process

FILES, SECONDS = 8, (0.15, 0.3)


def write_manifest(folder: Path, num: int) -> Path:
    """A manifest of `num` utterances with labels, as a corpus has them."""
    rng = np.random.default_rng(0)
    durations = np.linspace(*SECONDS, FILES)
    for number, duration_s in enumerate(durations):
        soundfile.write(folder / f"{number}.wav", 0.1 * rng.standard_normal(round(duration_s * 16_000)), 16_000)
    path = folder / f"{num}.csv"
    with path.open("w") as file:
        file.write("ID,duration,wav,speaker,session,language\n")
        for i in range(num):
            name = f"speaker{i % 5_000:05d}/session{i % 7}/utterance{i:09d}"
            file.write(f"{name},{durations[i % FILES]:.4f},{i % FILES}.wav,speaker{i % 5_000:05d},session{i % 7},en\n")
    return path


def measure(manifest: str, output: str, part_size: int) -> dict[str, float]:
    """Embed in this process."""
    import torch

    from dino_speech import load_encoder
    from dino_speech.embedding.to_disk import embed_to_file, embed_to_folder

    torch.set_num_threads(1)
    encoder, start = load_encoder("fbank_stats"), time.perf_counter()
    if output.endswith(".npz"):
        report = embed_to_file([manifest], encoder, output, num_workers=1)
    else:
        report = embed_to_folder([manifest], encoder, output, part_size=part_size, num_workers=1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = time.perf_counter() - start
    return {"num_embedded": report.num_embedded, "peak_mib": round(peak, 1), "seconds": round(seconds, 1)}


def run(num: int, part_size: int, *, folder: bool) -> dict[str, float]:
    """Measure one size in a fresh process."""
    with tempfile.TemporaryDirectory() as place:
        manifest = write_manifest(Path(place), num)
        output = Path(place, "parts" if folder else "all.npz")
        words = ["--measure", str(manifest), str(output), "--part-size", str(part_size)]
        found: dict[str, float] = in_fresh_process(__file__, words)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--part-size", type=int, default=2_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", nargs=2, metavar=("MANIFEST", "OUTPUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure, arguments.part_size)))
        return
    rows = [
        {"utterances": num, "output": "folder" if folder else "npz"} | run(num, arguments.part_size, folder=folder)
        for num in arguments.sizes
        for folder in (True, False)
    ]
    if arguments.json:
        peaks = {f"{row['output']}, {row['utterances']}": {"peak_mib": row["peak_mib"]} for row in rows}
        print(json.dumps({"setting": {"part_size": arguments.part_size}, "rows": rows, "memory_mib": peaks}))
        return
    print(f"{'utterances':>10}  {'output':6}  {'peak MiB':>8}  {'seconds':>7}")
    for row in rows:
        print(f"{row['utterances']:>10}  {row['output']:6}  {row['peak_mib']:>8}  {row['seconds']:>7}")


if __name__ == "__main__":
    main()
