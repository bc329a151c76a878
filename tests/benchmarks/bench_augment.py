"""What a batch of crops costs to augment: audiomentations, wave by wave, against ours, all rows at once.

Both add noise with the same probability and SNR range and convolve with the same room responses from the same files.
Both are warm before anything is timed (audiomentations reads its files anew for every wave; they are in the system's
cache). The rounds of the two are interleaved, so that what else the machine does falls on both.

    python tests/benchmarks/bench_augment.py [--json] [--rounds 15] [--batch 96] [--seconds 1 2] [--threads 1]
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch

from dino_speech.audio.augment import Augment
from dino_speech.audio.banks import LEAD_SAMPLES, NoiseBank, RoomBank

P_NOISE, P_REVERB, SNR_DB = 0.7, 0.45, (0.0, 18.0)


def write_sounds(folder: Path) -> None:
    """Noises of 5 s and rooms of up to 0.8 s, as 16-bit files that both can read."""
    noise, rooms = NoiseBank.synthetic(num_clips=24, clip_s=5.0), RoomBank.synthetic(num_rooms=24)
    for kind, waves in (("noise", noise.clips), ("rir", rooms.responses)):
        (folder / kind).mkdir()
        for number, wave in enumerate(waves):
            scaled = 0.9 * wave / wave.abs().max()
            soundfile.write(folder / kind / f"{number:02d}.wav", scaled.numpy(), 16_000)


def audiomentations_chain(folder: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    """Reverberation, then noise, per wave."""
    import audiomentations

    chain = audiomentations.Compose(
        [
            audiomentations.ApplyImpulseResponse(ir_path=str(folder / "rir"), p=P_REVERB),
            audiomentations.AddBackgroundNoise(
                sounds_path=str(folder / "noise"),
                min_snr_db=SNR_DB[0],
                max_snr_db=SNR_DB[1],
                p=P_NOISE,
            ),
        ]
    )
    return lambda waves: torch.from_numpy(np.stack([chain(wave, 16_000) for wave in waves.numpy()]))


def ours(folder: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    """The same, per batch."""
    augment = Augment(
        noise=folder / "noise",
        rir=folder / "rir",
        p_noise=P_NOISE,
        p_reverb=P_REVERB,
        snr_db=SNR_DB,
        kinds=["noise"],
        max_rt60_s=None,
    )
    generator = torch.Generator().manual_seed(0)
    return lambda waves: augment(waves, generator=generator)


def in_place(wet: torch.Tensor, dry: torch.Tensor) -> bool:
    """Whether both methods leave speech where it was, within what precedes a direct sound."""
    spectrum = torch.fft.rfft(wet, 2 * wet.shape[1]) * torch.fft.rfft(dry, 2 * dry.shape[1]).conj()
    lag = torch.fft.irfft(spectrum).sum(dim=0).abs().argmax()
    return bool(min(lag, 2 * wet.shape[1] - lag) <= LEAD_SAMPLES)


def measure(batch: int, seconds: list[float], rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of wall and processor time for one batch of each length."""
    g = torch.Generator().manual_seed(0)
    batches = [0.1 * torch.randn(batch, round(16_000 * s), generator=g) for s in seconds]
    with tempfile.TemporaryDirectory() as name:
        write_sounds(Path(name))
        methods = {"audiomentations": audiomentations_chain(Path(name)), "dino_speech": ours(Path(name))}
        wall: dict[str, list[float]] = {method: [] for method in methods}
        processor: dict[str, list[float]] = {method: [] for method in methods}
        random.seed(0)
        for _ in range(2):
            for run in methods.values():
                results = [run(waves) for waves in batches]
                assert all(in_place(wet, dry) for wet, dry in zip(results, batches, strict=True))
        for _ in range(rounds):
            for method, run in methods.items():
                begun, used = time.perf_counter(), time.process_time()
                for waves in batches:
                    run(waves)
                wall[method].append(1e3 * (time.perf_counter() - begun))
                processor[method].append(1e3 * (time.process_time() - used))
    return {method: {**spread(wall[method], ""), **spread(processor[method], "processor_")} for method in methods}


def spread(values: list[float], prefix: str) -> dict[str, float]:
    """Median and quartiles in ms."""
    low, middle, high = statistics.quantiles(values, n=4)
    return {f"{prefix}median_ms": middle, f"{prefix}quartile_low_ms": low, f"{prefix}quartile_high_ms": high}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=96, help="crops of each length")
    parser.add_argument("--seconds", type=float, nargs="+", default=[1.0, 2.0], help="lengths of the crops")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = measure(arguments.batch, arguments.seconds, arguments.rounds)
    names = list(results)
    ratios = {k: results[names[0]][k] / results[names[1]][k] for k in ("median_ms", "processor_median_ms")}
    lengths = " and ".join(f"{s:g} s" for s in arguments.seconds)
    print(f"{arguments.batch} crops each of {lengths}, {arguments.rounds} rounds, {arguments.threads} threads")
    for method, times in results.items():
        print(
            f"  {method:16s} wall {times['median_ms']:7.1f} ms ({times['quartile_low_ms']:.1f} to"
            f" {times['quartile_high_ms']:.1f}), processor {times['processor_median_ms']:7.1f} ms"
            f" ({times['processor_quartile_low_ms']:.1f} to {times['processor_quartile_high_ms']:.1f})"
        )
    print(f"  ratio {ratios['median_ms']:.1f} in wall time, {ratios['processor_median_ms']:.1f} in processor time")
    if arguments.json:
        print(json.dumps({"settings": vars(arguments), "results": results, "ratio": ratios}))


if __name__ == "__main__":
    main()
