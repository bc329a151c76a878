"""Whole training runs from memory, from files and from shards: time per step, and the share of waiting for data.

    python tests/benchmarks/bench_training.py [--json] [--rounds 5] [--num-workers 1] [--manifest CSV]

Real runs of `DINOPretrainer.fit` with reading processes, augmentation, logging and saving. Each run first takes as many
steps as an epoch has (workers start, the memory fills), and then as many again, which are what counts. The cases take
turns; each round gives one time per case, and the ratio is that of shards over memory within the round. The encoder is
`hparams/cpu.yaml`'s unless told otherwise. Files and shards lie in the system's cache.
"""

import argparse
import contextlib
import io
import json
import logging
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from interleaved import add_common_options, finish
from memory import peak_memories, print_memory

from dino_speech import Augment, DINOPretrainer, MultiCrop, build_encoder, read_manifest
from dino_speech.data.manifest import Manifest
from dino_speech.data.shards.reading import read_shards
from dino_speech.data.shards.writing import write_shards

CASES = ("memory", "files", "shards")


def synthetic(folder: Path, num: int) -> Path:
    """Wav files of 4 to 12 s of coloured noise, with a manifest."""
    rng, rows = np.random.default_rng(0), ["ID,duration,wav"]
    for number in range(num):
        duration_s = float(rng.uniform(4, 12))
        wave = np.convolve(rng.standard_normal(round(duration_s * 16_000)), np.hanning(9) / 4.5, "same")
        soundfile.write(folder / f"{number}.wav", 0.1 * wave, 16_000)
        rows.append(f"u{number},{duration_s:.4f},{number}.wav")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder / "manifest.csv"


def make_trainer(case: str, num_steps: int, options: argparse.Namespace) -> DINOPretrainer:
    """As hparams/cpu.yaml has it; what lies in memory is the only difference."""
    encoder = build_encoder(
        "ecapa_tdnn",
        embedding_dim=192,
        channels=options.channels,
        attention_channels=64,
        se_channels=64,
        hop_ms=20.0,
        mean_norm="none",
        statistics_shortcut=True,
        seed=0,
    )
    return DINOPretrainer(
        encoder,
        MultiCrop(num_long=2, long_s=options.long_s, num_short=4, short_s=options.long_s / 2),
        augment=Augment(p_noise=0.3, p_reverb=0.1),
        head={"num_prototypes": options.num_prototypes},
        schedule={"length": num_steps, "batch_size": options.batch},
        run={
            "log_every": num_steps // 2,
            "num_workers": options.num_workers,
            "cache_gib": 4.0 if case == "memory" else 0.0,
            "precision": options.precision,
        },
    )


def build_runs(folder: Path, options: argparse.Namespace) -> dict[str, Callable[[], dict[str, float]]]:
    """The cases by name; each call is a whole run, and gives ms per step and the share of waiting."""
    manifest = read_manifest(options.manifest or synthetic(folder, options.num_files))
    write_shards(manifest, folder / "shards", codec="flac")
    sources: dict[str, Manifest] = {"memory": manifest, "files": manifest, "shards": read_shards(folder / "shards")}
    num_steps = 2 * max(options.min_steps, len(manifest) // options.batch)

    def run(case: str) -> dict[str, float]:
        trainer = make_trainer(case, num_steps, options)
        with contextlib.redirect_stderr(io.StringIO()):  # progress
            trainer.fit(sources[case], output_folder=folder / "runs" / case, resume=False, device=options.device)
        row = trainer.history_[-1]
        return {"ms": 1e3 * options.batch / row["utterances_per_s"], "data_wait_fraction": row["data_wait_fraction"]}

    return {case: (lambda case=case: run(case)) for case in CASES}


def compare(options: argparse.Namespace, arguments: list[str]) -> dict[str, Any]:
    """All figures, as plain data."""
    rounds: list[dict[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as place:
        runs = build_runs(Path(place), options)
        for number in range(options.rounds):
            order = CASES if number % 2 == 0 else CASES[::-1]  # the first of a round is not always the same
            rounds.append({case: runs[case]() for case in order})
    ratios = [found["shards"]["ms"] / found["memory"]["ms"] for found in rounds]
    return {
        "setting": {name: value for name, value in vars(options).items() if name != "memory_of"},
        "time_ms": {case: _spread([found[case]["ms"] for found in rounds]) for case in CASES},
        "data_wait_fraction": {
            case: statistics.median(found[case]["data_wait_fraction"] for found in rounds) for case in CASES
        },
        "shards_over_memory": {"median": statistics.median(ratios), "all": ratios},
        "memory_mib": {} if options.no_memory else peak_memories(__file__, CASES, arguments),
    }


def _spread(values: list[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"median_ms": median, "low_ms": low, "high_ms": high, "best_ms": min(values)}


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", help="real speech; default: synthetic wav files")
    parser.add_argument("--num-files", type=int, default=480, help="of the synthetic ones (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--num-prototypes", type=int, default=2048)
    parser.add_argument("--long-s", type=float, default=2.0)
    parser.add_argument("--num-workers", type=int, default=1)
    parser.add_argument("--min-steps", type=int, default=10, help="that are timed, however few the files are")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--device", default="cpu")
    add_common_options(parser, rounds=5)
    options = parser.parse_args(words)
    torch.set_num_threads(options.threads)
    if options.memory_of:
        with tempfile.TemporaryDirectory() as place:
            print_memory(build_runs(Path(place), options)[options.memory_of], options.device, rounds=1)
        return
    found = compare(options, words)
    finish(found, as_json=False)
    waits = ", ".join(f"{case} {100 * share:.1f} %" for case, share in found["data_wait_fraction"].items())
    print(
        f"waiting for data: {waits}; a step from shards takes {found['shards_over_memory']['median']:.3f} of memory's"
    )
    if options.json:
        print(json.dumps(found, default=str))


if __name__ == "__main__":
    logging.getLogger("dino_speech").setLevel(logging.ERROR)
    main()
