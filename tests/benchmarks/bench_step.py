"""What a pretraining step costs, part by part, beside the same step of other projects in the same run.

    python tests/benchmarks/bench_step.py [--json] [--threads 2] [--rounds 5] [--cases fp32 bf16]
        [--peer wespeaker=PATH] [--peer sslsv=PATH] [--peer lightly=PATH]

Ours is a whole step of `training.loop.Loop`, from waves in memory: features, student, teacher, targets, loss, backward,
clipping, optimizer, teacher's average, center. Reading the crops from files is timed beside it (in training, other
processes do it meanwhile). A peer is given by the path of its checkout; wespeaker and lightly are handed their features
for nothing, sslsv makes its own. All cases take turns. Peak memory is that of a fresh process per case.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from interleaved import Timing, time_interleaved
from memory import peak_memories, print_memory
from peer_steps import PEERS, Sizes, build_peer

from dino_speech import MultiCrop, build_encoder
from dino_speech.audio.augment import Augment
from dino_speech.dino.head import DINOHead, Network
from dino_speech.dino.hyperparameters import Hyperparameters
from dino_speech.dino.self_distillation import SelfDistillation
from dino_speech.training.loop import Loop
from dino_speech.training.operating_system import StopSignals, freed_memory_kept
from dino_speech.training.processes import Processes
from dino_speech.training.settings import RunSettings

PARTS = ("augmentation", "features", "student", "head", "teacher", "targets", "loss", "backward", "optimizer")
PARTS += ("teacher's average", "center", "rest")
# "recompute": with activation checkpointing.
CASES = ("fp32", "bf16", "fp32-compile", "bf16-compile", "fp32-recompute", "bf16-recompute")


class PartClock:
    """Adds up the milliseconds that are spent in parts of a step; one row per step.

    On a CPU processor time, which other programs on the machine disturb least; on a GPU the time until it is done.
    """

    def __init__(self, device: str) -> None:
        self.rows: list[dict[str, float]] = []
        self._now: dict[str, float] = defaultdict(float)
        on_gpu = device.startswith("cuda")
        self._time = time.perf_counter if on_gpu else time.process_time
        self._wait = torch.cuda.synchronize if on_gpu else lambda: None

    def watch(self, owner: Any, name: str, part: str) -> None:
        """Time all calls of `owner.name`; calls of watched parts must not lie within each other."""
        original = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            self._wait()
            start = self._time()
            try:
                return original(*arguments, **options)
            finally:
                self._wait()
                self._now[part] += 1e3 * (self._time() - start)

        setattr(owner, name, timed)

    def step(self, run: Callable[[], object]) -> None:
        """Run one step and close its row."""
        self._now.clear()
        start = self._time()
        run()
        self._wait()
        total = 1e3 * (self._time() - start)
        self.rows.append({**self._now, "rest": total - sum(self._now.values())})

    def medians(self, rounds: int) -> dict[str, float]:
        """Of the last `rounds` steps."""
        rows = self.rows[-rounds:]
        return {part: statistics.median(row.get(part, 0.0) for row in rows) for part in PARTS}


def build_loop(case: str, sizes: Sizes, options: argparse.Namespace) -> Loop:
    """The loop as `DINOPretrainer.fit` leads it."""
    precision, _, manner = case.partition("-")
    torch.manual_seed(0)
    encoder = build_encoder(
        "ecapa_tdnn",
        embedding_dim=sizes.embedding_dim,
        channels=sizes.channels,
        num_mels=sizes.num_mels,
    )
    hyper = Hyperparameters(
        encoder,
        MultiCrop(num_long=sizes.num_long, long_s=sizes.long_s, num_short=sizes.num_short, short_s=sizes.short_s),
        augment=Augment() if options.augment else None,
        head={"num_prototypes": sizes.num_prototypes},
        objective={"centering": "mean", "koleo_weight": 0.0},
        optimizer={"name": options.optimizer},
        schedule={"batch_size": sizes.batch, "length": "1 epoch"},
        run={"compile": manner == "compile", "activation_checkpointing": manner == "recompute"},
    )
    head = DINOHead(sizes.embedding_dim, num_prototypes=sizes.num_prototypes, batch_norm=True)
    steps = hyper.steps(10_000 * sizes.batch)
    sampler, dataset = SimpleNamespace(seed=0), SimpleNamespace(manifest=[])
    device = torch.device(options.device)
    training = SelfDistillation(hyper, Network(encoder, head), steps, sampler, dataset, device=device)
    training.network.train()
    if hyper.run.compile:
        training.network.compile()
        training.teacher.compile()
    run, folder = RunSettings(precision=precision), Path(tempfile.mkdtemp())
    return Loop(training, run, Processes(), StopSignals(), folder, {}, None)


def watch_parts(brain: SelfDistillation, clock: PartClock) -> None:
    """Name the parts of a step."""
    if brain.hyper.augment is not None:
        clock.watch(brain.hyper, "augment", "augmentation")
    clock.watch(brain.network.encoder, "extract_features", "features")
    clock.watch(brain.network.encoder, "embed_frames", "student")
    clock.watch(brain.network.head, "forward", "head")
    clock.watch(brain.teacher, "forward", "teacher")
    clock.watch(brain, "targets", "targets")
    clock.watch(brain.criterion, "forward", "loss")
    clock.watch(brain.optimizer, "step", "optimizer")
    clock.watch(brain.teacher, "step", "teacher's average")
    clock.watch(brain.center, "accumulate", "center")
    clock.watch(brain.center, "step", "center")


def build_ours(case: str, sizes: Sizes, options: argparse.Namespace) -> tuple[Callable[[], object], PartClock]:
    """A step on the same random waves again and again, and what times its parts."""
    loop, clock = build_loop(case, sizes, options), PartClock(options.device)
    shapes = {"long": (sizes.num_long, sizes.long_s), "short": (sizes.num_short, sizes.short_s)}
    batch = {name: 0.1 * torch.randn(sizes.batch, num, round(16_000 * s)) for name, (num, s) in shapes.items()}
    batch["index"] = torch.arange(sizes.batch)
    if not loop.training.hyper.run.compile:
        watch_parts(loop.training, clock)
        clock.watch(_Backward(loop), "backward", "backward")

    def step() -> None:
        clock.step(lambda: loop._take_step(loop.training.optimizer, iter([batch])))

    return step, clock


class _Backward:
    """The backward pass of one loop: its scaler hands out losses whose `backward` can be watched."""

    def __init__(self, loop: Loop) -> None:
        scale = loop.scaler.scale
        loop.scaler.scale = lambda loss: _Loss(scale(loss), self)  # type: ignore[method-assign,assignment]

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()


class _Loss:
    def __init__(self, loss: torch.Tensor, watched: _Backward) -> None:
        self.loss, self.watched = loss, watched

    def backward(self) -> None:
        self.watched.backward(self.loss)


def build_reading(sizes: Sizes, folder: Path) -> Callable[[], object]:
    """The crops of one batch from wav files of 8 s, in this process."""
    import soundfile

    from dino_speech import read_manifest
    from dino_speech.data.loading.datasets import CropDataset
    from dino_speech.data.loading.loaders import collate_crops

    rows = ["ID,duration,wav"]
    for number in range(32):
        soundfile.write(folder / f"{number}.wav", 0.1 * torch.randn(8 * 16_000).numpy(), 16_000)
        rows.append(f"u{number},8.0,{number}.wav")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    crops = MultiCrop(num_long=sizes.num_long, long_s=sizes.long_s, num_short=sizes.num_short, short_s=sizes.short_s)
    dataset = CropDataset(read_manifest(folder / "manifest.csv"), crops, seed=0)
    return lambda: collate_crops([dataset[(number, number % 32)] for number in range(sizes.batch)])


def compare(options: argparse.Namespace, arguments: list[str]) -> dict[str, Any]:
    """All figures, as plain data."""
    sizes, clocks = _sizes(options), {}
    cases: dict[str, Callable[[], object]] = {}
    for case in options.cases:
        cases[f"ours {case}"], clocks[f"ours {case}"] = build_ours(case, sizes, options)
    for name, path in options.peer:
        cases[name] = build_peer(name, path, sizes)
    with tempfile.TemporaryDirectory() as folder:
        cases["reading"] = build_reading(sizes, Path(folder))
        with freed_memory_kept(on=options.keep_memory):
            timings = time_interleaved(cases, rounds=options.rounds, warmup=options.warmup)
    measured = [] if options.no_memory else [name for name in cases if name != "reading"]
    return {
        "setting": {
            **asdict(sizes),
            **{"threads": torch.get_num_threads(), "rounds": options.rounds, "device": options.device},
            **{"optimizer": options.optimizer, "augment": options.augment, "torch": torch.__version__},
        },
        "time_ms": {name: asdict(timing) for name, timing in timings.items()},
        "parts_ms": {name: clock.medians(options.rounds) for name, clock in clocks.items() if "compile" not in name},
        "memory_mib": peak_memories(__file__, measured, arguments),
    }


def show(found: dict[str, Any]) -> None:
    """As tables."""
    print(json.dumps(found["setting"]))
    for name, timing in found["time_ms"].items():
        memory = found["memory_mib"].get(name)
        print(f"{name:18s} {Timing(**timing)}" + (f"  peak {memory['peak_mib']:.0f} MiB" if memory else ""))
    peers = [name for name in found["time_ms"] if name in PEERS]
    for ours in (name for name in found["time_ms"] if name.startswith("ours")):
        for peer in peers:
            mine, theirs = found["time_ms"][ours], found["time_ms"][peer]
            medians, best, processor = (mine[key] / theirs[key] for key in ("median_ms", "best_ms", "processor_ms"))
            print(f"{ours} / {peer}: {medians:.2f} (medians), {best:.2f} (best), {processor:.2f} (processor time)")
    if found["parts_ms"]:
        print(f"{'part, ms':18s}" + "".join(f"{name:>16s}" for name in found["parts_ms"]))
        for part in PARTS:
            print(f"{part:18s}" + "".join(f"{parts[part]:16.1f}" for parts in found["parts_ms"].values()))


def _sizes(options: argparse.Namespace) -> Sizes:
    return Sizes(**{name: getattr(options, name) for name in Sizes.__dataclass_fields__})


def _peer(text: str) -> tuple[str, str]:
    name, _, path = text.partition("=")
    if name not in PEERS or not path:
        raise argparse.ArgumentTypeError(f"{text!r}: expected one of {', '.join(PEERS)}, as NAME=PATH of a checkout")
    return name, path


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in asdict(Sizes()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=["fp32", "bf16"])
    parser.add_argument("--peer", type=_peer, action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--optimizer", default="sgd", help="ours; the peers take SGD (default: %(default)s)")
    parser.add_argument("--augment", action="store_true", help="ours: with noise and rooms")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--keep-memory", action="store_true", help="all cases keep freed memory, as training does")
    parser.add_argument("--no-memory", action="store_true", help="do not measure memory")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.memory_of:
        kind, _, case = options.memory_of.partition(" ")
        step = build_ours(case, _sizes(options), options)[0] if case else None
        step = step or build_peer(kind, dict(options.peer)[kind], _sizes(options))
        print_memory(step, options.device)
        return
    found = compare(options, arguments)
    show(found)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
