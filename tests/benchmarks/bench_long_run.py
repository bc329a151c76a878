"""A long run of a tiny model: memory, open files and speed should stay where they are, step for step.

A real run of `DINOPretrainer.fit` on small synthetic files: a reading process, logging with TensorBoard, a monitor,
saved states. The monitor measures, so that the figures stand in the run's own `history.jsonl`, and a run that was
stopped goes on with them. Memory is of the training process and the reading one, with the pages that they share counted
once (PSS); its slope is that of a line fitted from the second tenth on.

    python tests/benchmarks/bench_long_run.py [--steps 200000] [--output FOLDER] [--json]
"""

import argparse
import contextlib
import io
import itertools
import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor, nn

from dino_speech import DINOPretrainer, MultiCrop, build_encoder, read_manifest, register_encoder
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.training.history import read_history

NUM_FILES, SECONDS = 64, 0.5
TENTHS = 10


class OneLayer(nn.Module):
    """The mean over time and one layer: a step costs little but what the loop does."""

    def __init__(self, num_bands: int, embedding_dim: int) -> None:
        super().__init__()
        self.layer = nn.Linear(num_bands, embedding_dim)

    def forward(self, frames: Tensor, lengths: Tensor | None = None, note: Any = None) -> Tensor:
        """(B, T, F) -> (B, D); all crops are of one length."""
        embedding: Tensor = self.layer(frames.mean(1))
        return embedding


class Watch:
    """A monitor that judges the process and not the encoder."""

    def __call__(self, encoder: SpeechEncoder) -> dict[str, float]:
        """Figures of this moment; `process` tells a run that went on from the one before."""
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        return {
            "mib": sum(_own_mib(process) for process in ("self", *children)),
            "training_mib": _own_mib("self"),
            "open_files": sum(1 for _ in Path("/proc/self/fd").iterdir()),
            "processes": 1 + len(children),
            "process": os.getpid(),
            "seconds": time.time(),
        }

    def better(self, new: dict[str, float], old: dict[str, float] | None) -> bool:
        """Never: the best would be exported."""
        return False


def _own_mib(process: str) -> float:
    """Without mapped files, such as libraries: what counts of these depends on other programs."""
    lines = [line.split() for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()]
    return sum(int(line[1]) for line in lines if line[0] in ("Pss_Anon:", "Pss_Shmem:")) / 1024


def write_files(folder: Path) -> Path:
    """Wav files of noise, with a manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, rows = np.random.default_rng(0), ["ID,duration,wav"]
    for number in range(NUM_FILES):
        soundfile.write(folder / f"{number}.wav", 0.1 * rng.standard_normal(round(SECONDS * 16_000)), 16_000)
        rows.append(f"u{number},{SECONDS},{number}.wav")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder / "manifest.csv"


def fit(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Train, or go on; the rows of the history."""
    register_encoder("one_layer", features={"num_mels": 20, "hop_ms": 20.0})(OneLayer)
    trainer = DINOPretrainer(
        build_encoder("one_layer", embedding_dim=8, seed=0),
        MultiCrop(num_long=2, long_s=0.2, num_short=0, short_s=0.2),
        head={"num_prototypes": 16, "hidden_dim": 8, "bottleneck_dim": 4},
        schedule={"length": options.steps, "batch_size": 2},
        whitening={"shrinkage": None},
        run={
            "log_every": options.log_every,
            "num_workers": 1,
            "cache_gib": 0.0,  # each crop is read from its file
            "precision": "fp32",
            "save_every_steps": options.save_every,
            "monitor_every": options.measure_every,
        },
    )
    manifest = read_manifest(write_files(folder / "files"))
    with contextlib.redirect_stderr(io.StringIO() if options.quiet else sys.stderr):
        trainer.fit(manifest, output_folder=folder / "run", monitor=Watch(), device="cpu")
    return read_history(folder / "run" / "history.jsonl")


def tenths(history: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Means of the measures over each tenth of the steps; its speed is that of the intervals within one process."""
    found = [{"step": row["step"], **row["monitor"]} for row in history if "monitor" in row]
    last, rows = found[-1]["step"], []
    pairs = [(a, b) for a, b in itertools.pairwise(found) if a["process"] == b["process"]]
    for tenth in range(TENTHS):
        low, high = last * tenth / TENTHS, last * (tenth + 1) / TENTHS
        inside = [row for row in found if low < row["step"] <= high]
        steps = sum(b["step"] - a["step"] for a, b in pairs if low < b["step"] <= high)
        seconds = sum(b["seconds"] - a["seconds"] for a, b in pairs if low < b["step"] <= high)
        means = {name: float(np.mean([row[name] for row in inside])) for name in ("mib", "training_mib", "open_files")}
        rows.append({"to_step": high, **means, "steps_per_s": steps / seconds if seconds else float("nan")})
    return rows


def summary(history: list[dict[str, Any]]) -> dict[str, float]:
    """Growth, from the second tenth on, and how fast the last tenth is beside the second."""
    found = [{"step": row["step"], **row["monitor"]} for row in history if "monitor" in row]
    later = [row for row in found if row["step"] > found[-1]["step"] / TENTHS]
    steps = [row["step"] / 1000 for row in later]
    slope = {name: float(np.polyfit(steps, [row[name] for row in later], 1)[0]) for name in ("mib", "open_files")}
    speeds = [row["steps_per_s"] for row in tenths(history)]
    return {
        "bytes_per_1000_steps": slope["mib"] * 2**20,
        "open_files_per_1000_steps": slope["open_files"],
        "speed_last_to_second_tenth": speeds[-1] / speeds[1],
        "speed_last_to_first_tenth": speeds[-1] / speeds[0],
    }


def main(arguments: list[str] | None = None) -> None:
    """Run, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--log-every", type=int, default=50)
    parser.add_argument("--save-every", type=int, default=5_000)
    parser.add_argument("--measure-every", type=int, default=1_000)
    parser.add_argument("--output", type=Path, help="keep the run here, and go on with it; default: a temporary folder")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        folder = options.output or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        history = fit(folder, options)
    found = {"setting": {"steps": options.steps}, "tenths": tenths(history), "summary": summary(history)}
    print(f"{'to step':>8}  {'MiB':>7}  {'of the training':>15}  {'open files':>10}  {'steps per s':>11}")
    for row in found["tenths"]:
        cells = f"{row['mib']:>7.1f}  {row['training_mib']:>15.1f}  {row['open_files']:>10.2f}"
        print(f"{row['to_step']:>8.0f}  {cells}  {row['steps_per_s']:>11.1f}")
    for name, value in found["summary"].items():
        print(f"{name} {value:.4g}")
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    logging.getLogger("dino_speech").setLevel(logging.ERROR)
    main()
