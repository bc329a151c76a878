"""Embedding a folder of files of many lengths, beside SpeechBrain's ECAPA with the same weights, file by file.

    python tests/benchmarks/bench_embed.py [--json] [--threads 1] [--rounds 3] [--num-files 24]

The peer does what SpeechBrain's `EncoderClassifier` does with each file: read it, `Fbank`, mean normalisation,
`ECAPA_TDNN` while evaluating, a batch of one. Ours is `embed_files`, in batches of like length, in float32 and in
bfloat16. The two have features of their own; how near the embeddings are is therefore asked of SpeechBrain's network
on our features. All cases take turns.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from interleaved import Timing, time_interleaved
from memory import peak_memories, print_memory
from torch import Tensor

from dino_speech import SpeechEncoder, build_encoder
from dino_speech.audio.io import load_audio


def write_files(folder: Path, num_files: int, shortest_s: float, longest_s: float) -> list[Path]:
    """Wav files of coloured noise, in no order of length."""
    rng, paths = np.random.default_rng(0), []
    for number in range(num_files):
        wave = rng.standard_normal(round(16_000 * float(rng.uniform(shortest_s, longest_s))))
        paths.append(folder / f"{number}.wav")
        soundfile.write(paths[-1], 0.1 * np.convolve(wave, np.hanning(9) / 4.5, "same"), 16_000)
    return paths


def make_encoder(channels: int) -> SpeechEncoder:
    """ECAPA with statistics that have moved off their initial values."""
    encoder = build_encoder("ecapa_tdnn", embedding_dim=192, channels=channels, seed=0)
    with torch.no_grad():
        encoder(0.1 * torch.randn(8, 32_000))
    return encoder.eval()


def speechbrain_features() -> Callable[[Tensor], Tensor]:
    """As `spkrec-ecapa-voxceleb` makes them."""
    from speechbrain.lobes.features import Fbank
    from speechbrain.processing.features import InputNormalization

    fbank, normalise = Fbank(n_mels=80), InputNormalization(norm_type="sentence", std_norm=False)
    return lambda waves: normalise(fbank(waves), torch.ones(len(waves)))


def build_cases(paths: list[Path], channels: int) -> dict[str, Callable[[], Any]]:
    """The ways to embed all files."""
    encoder, features = make_encoder(channels), speechbrain_features()

    @torch.inference_mode()
    def one_by_one(of_ours: bool = False) -> np.ndarray:
        rows = []
        for path in paths:
            wave = load_audio(path)[None]
            frames = encoder.extract_features(wave)[0] if of_ours else features(wave)
            rows.append(encoder.backbone.model(frames).squeeze().numpy())  # type: ignore[union-attr,operator]
        return np.stack(rows)

    return {
        "speechbrain": one_by_one,
        "ours fp32": lambda: encoder.embed_files(paths).embeddings,
        "ours bf16": lambda: encoder.embed_files(paths, precision="bf16").embeddings,
        "speechbrain, our features": lambda: one_by_one(of_ours=True),
    }


def compare(options: argparse.Namespace, arguments: list[str]) -> dict[str, Any]:
    """All figures, as plain data."""
    with tempfile.TemporaryDirectory() as name:
        paths = write_files(Path(name), options.num_files, options.shortest_s, options.longest_s)
        cases = build_cases(paths, options.channels)
        seconds = sum(soundfile.info(path).duration for path in paths)
        wanted = cases.pop("speechbrain, our features")()
        found = {case: cases[case]() for case in ("ours fp32", "ours bf16")}
        timings = time_interleaved(cases, rounds=options.rounds, warmup=0)
    cosines = {case: _cosines(rows, wanted) for case, rows in found.items()}
    return {
        "setting": vars(options) | {"seconds": seconds, "torch": torch.__version__},
        "time_ms": {case: asdict(timing) for case, timing in timings.items()},
        "largest_difference": float(np.abs(found["ours fp32"] - wanted).max()),
        "largest_value": float(np.abs(wanted).max()),
        "lowest_cosine": {case: float(values.min()) for case, values in cosines.items()},
        "memory_mib": {} if options.no_memory else peak_memories(__file__, cases, arguments),
    }


def _cosines(rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return (rows * wanted).sum(1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(wanted, axis=1)


def _show_memory(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        paths = write_files(Path(name), options.num_files, options.shortest_s, options.longest_s)
        case = build_cases(paths, options.channels)[options.memory_of]
        print_memory(case, rounds=1)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-files", type=int, default=24)
    parser.add_argument("--shortest-s", type=float, default=2.0)
    parser.add_argument("--longest-s", type=float, default=12.0)
    parser.add_argument("--channels", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--no-memory", action="store_true", help="do not measure memory")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.memory_of:
        _show_memory(options)
        return
    found = compare(options, arguments)
    print(f"{options.num_files} files, {found['setting']['seconds']:.0f} s of audio, {options.threads} threads")
    theirs = found["time_ms"]["speechbrain"]
    for case, timing in found["time_ms"].items():
        memory = found["memory_mib"].get(case)
        gain = ", ".join(f"{theirs[key] / timing[key]:.2f}" for key in ("median_ms", "best_ms", "processor_ms"))
        print(f"{case:12s} {Timing(**timing)}" + (f"  peak {memory['peak_mib']:.0f} MiB" if memory else ""))
        print(f"{'':12s} times as fast as SpeechBrain, by medians, best rounds, processor time: {gain}")
    print(f"largest difference in float32 {found['largest_difference']:.1e}, values to {found['largest_value']:.2f}")
    print(f"lowest cosine {found['lowest_cosine']}")
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
