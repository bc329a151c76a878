"""Work that is killed: each kind on tiny synthetic speech, what of it is finished on disk, and what it gives."""

import json
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # `kill.py` runs without pytest, which would add it

from nested import leaves

from dino_speech import (
    Augment,
    DINOPretrainer,
    FineTuner,
    FineTuneStage,
    MultiCrop,
    SpeechEncoder,
    build_encoder,
    load_encoder,
    load_finetuned,
    read_embeddings,
    read_manifest,
)
from dino_speech.data.resumable_store import read_arrays
from dino_speech.data.shards.writing import write_shards
from dino_speech.embedding.parts_on_disk import read_part
from dino_speech.embedding.to_disk import embed_to_file, embed_to_folder
from dino_speech.evaluation.monitor import Monitor
from dino_speech.training.history import read_history
from dino_speech.training.state import load_state
from dino_speech.transfer.clusters import Clustering
from dino_speech.transfer.pseudo_labels import PseudoLabelTrainer

TIMING = {"utterances_per_s", "data_wait_fraction", "seconds"}
ALWAYS_ALIKE = ("part-*.npz", "shard-*.tar", "embeddings.npz")  # what is finished once and never written again


@dataclass(frozen=True)
class Work:
    """One kind of long work.

    Args:
        name: of the kind.
        do: does it in a folder, from a folder of speech; called again, goes on.
    """

    name: str
    do: Callable[[Path, Path], object]


def make_speech(folder: Path, *, num_files: int = 48) -> Path:
    """Voices of 12 speakers, 0.6 to 1.1 s each, with a manifest."""
    folder.mkdir(parents=True)
    rng, rows = np.random.default_rng(0), ["ID,duration,wav,speaker"]
    for number in range(num_files):
        speaker = number % 12
        time = np.arange(9_600 + 170 * number) / 16_000
        wave = 0.2 * np.sign(np.sin(2 * np.pi * (80 + 13 * speaker) * time)) + 0.02 * rng.standard_normal(time.size)
        soundfile.write(folder / f"{number:02d}.wav", wave.astype(np.float32), 16_000)
        rows.append(f"u{number:02d},{time.size / 16_000},{number:02d}.wav,s{speaker:02d}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


def tiny_encoder() -> SpeechEncoder:
    options = {"channels": 8, "attention_channels": 8, "se_channels": 8}
    return build_encoder("ecapa_tdnn", embedding_dim=8, **options, seed=0)


def pretrain(speech: Path, output: Path, *, num_steps: int = 16, **run: Any) -> DINOPretrainer:
    """Augmentation, a reading process, a monitor whose best is kept, and whitening at the end."""
    manifest = read_manifest(speech / "manifest.csv")
    trainer = DINOPretrainer(
        tiny_encoder(),
        MultiCrop(num_long=2, long_s=0.4, num_short=2, short_s=0.3),
        head={"num_prototypes": 32, "hidden_dim": 16, "bottleneck_dim": 8},
        schedule={"length": num_steps, "batch_size": 4},
        optimizer={"lr": 0.01},
        augment=Augment(p_noise=0.9, p_reverb=0.5),
        whitening={"shrinkage": 0.1, "utterances": 40},
        run={"num_workers": 1, "log_every": 2, "save_every_steps": 2, "monitor_every": 6, **run},
    )
    watch = Monitor(manifest, label="speaker", max_utterances=8)
    return trainer.fit(manifest, output_folder=output, monitor=watch, device="cpu")


def finetune(speech: Path, output: Path, *, num_workers: int = 1) -> FineTuner:
    """Two stages with validation, the best of which is kept."""
    manifest = read_manifest(speech / "manifest.csv")
    stages = [
        FineTuneStage("affine", epochs=2, chunk_s=0.4, lr=1e-2, augment=Augment(p_noise=0.9, p_reverb=0.5)),
        FineTuneStage("all", epochs=2, chunk_s=0.5, lr=1e-3, layer_decay=0.8),
    ]
    run = {"num_workers": num_workers, "log_every": 2, "save_every_steps": 2}
    tuner = FineTuner(tiny_encoder(), label="speaker", stages=stages, batch_size=6, dropout=0.2, run=run)
    train, valid = manifest.subset(range(36)), manifest.subset(range(36, 48))
    return tuner.fit(train, valid=valid, output_folder=output, device="cpu")


def label(speech: Path, output: Path) -> PseudoLabelTrainer:
    """Two rounds of pseudo-labels."""
    stages = [FineTuneStage("affine", steps=4, chunk_s=0.4), FineTuneStage("all", steps=8, chunk_s=0.4)]
    trainer = PseudoLabelTrainer(
        tiny_encoder(),
        clustering=Clustering(num_clusters=6, utterances_per_centroid=1, min_margin=-2, min_utterances=1),
        stages=stages,
        tuner={"batch_size": 8, "run": {"num_workers": 0, "log_every": 2, "save_every_steps": 2}},
    )
    return trainer.fit(read_manifest(speech / "manifest.csv"), output_folder=output, device="cpu")


def embed(speech: Path, output: Path) -> None:
    """Into parts, then into one file."""
    encoder = tiny_encoder().eval()
    embed_to_folder([speech / "manifest.csv"], encoder, output / "parts", part_size=2, num_workers=1)
    if not (output / "embeddings.npz").exists():
        embed_to_file([speech / "manifest.csv"], encoder, output / "embeddings.npz", num_workers=1)


def shard(speech: Path, output: Path) -> None:
    """Into some twenty tars."""
    write_shards(speech / "manifest.csv", output, shard_mb=0.05, num_threads=2)


WORKS = [
    Work("pretrain", pretrain),
    Work("finetune", finetune),
    Work("pseudo-labels", label),
    Work("embed", embed),
    Work("shard", shard),
]


def finished(output: Path) -> dict[str, Any]:
    """All that is finished in a folder, by its path, each read to its end: a half-written one raises.

    States give their step, which may only grow; what is written once gives a hash; the rest may be replaced.
    """
    found: dict[str, Any] = {}
    for path in sorted(output.rglob("*")):
        name = path.relative_to(output).as_posix()
        if not path.is_file() or any(part.startswith(".") for part in name.split("/")):
            continue
        if path.suffix == ".pt":
            step = load_state(path).step
            if path.name != "best.pt":  # killed between two moves, the last state is the previous one
                found[f"{path.parent}: a state"] = max(step, found.get(f"{path.parent}: a state", 0))
            continue
        if path.parent.name == "tensorboard":
            continue
        _read_whole(path)
        written_once = any(path.match(pattern) for pattern in ALWAYS_ALIKE)
        found[name] = sha256(path.read_bytes()).hexdigest() if written_once else None
    return found


def _read_whole(path: Path) -> None:
    if path.name == "encoder.json":
        load_encoder(path.parent)
    elif path.name == "system.json":
        load_finetuned(path.parent)
    elif path.match("part-*.npz"):
        read_part(path)
    elif path.suffix == ".npz":
        read_embeddings(path)
    elif path.suffix == ".tar":
        with tarfile.open(path) as tar:
            assert all(tar.extractfile(member).read() for member in tar)  # type: ignore[union-attr]
    elif path.suffix == ".json":
        json.loads(path.read_text())
    elif path.name == "history.jsonl":
        read_history(path)
    elif path.suffix == ".csv":
        assert path.read_bytes().endswith(b"\n"), path


def missing_or_changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What was finished and is not any more."""
    lost = [name for name in before if name not in after and not name.startswith("skipped")]
    for name, value in before.items():
        if isinstance(value, int) and after.get(name, value) < value:
            lost.append(f"{name}: step {value} -> {after[name]}")
        elif isinstance(value, str) and after.get(name, value) != value:
            lost.append(f"{name}: other content")
    return lost


def results(output: Path) -> dict[str, Any]:
    """All numbers that a finished work gave, and the bytes of its shards, by file and name."""
    found: dict[str, Any] = {}
    for path in sorted(output.rglob("*")):
        name = path.relative_to(output).as_posix()
        if any(part.startswith(".") for part in name.split("/")) or not path.is_file():
            continue
        if path.name in ("last.pt", "best.pt"):
            state = load_state(path)
            found |= leaves([state.step, state.modules, state.rng, state.extra], name)
        elif path.name == "history.jsonl":
            rows = [{k: v for k, v in row.items() if k not in TIMING} for row in read_history(path)]
            found |= leaves(rows, name)
        elif path.name == "encoder.json":
            found |= leaves(load_encoder(path.parent).state_dict(), name)
        elif path.name == "system.json":
            found |= leaves(load_finetuned(path.parent).head.state_dict(), name)
        elif path.suffix == ".npz":
            found |= leaves(read_arrays(path), name)
        elif path.name in ("round.json", "index.json"):
            found |= leaves(json.loads(path.read_text()), name)
        elif path.suffix == ".tar":
            found[name] = path.read_bytes()
        elif path.suffix == ".csv":
            found[name] = path.read_text().replace(str(output), "")
    return found


def largest_difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Between two results; infinity where anything but numbers differs."""
    if one.keys() != other.keys():
        return float("inf")
    largest = 0.0
    for name, value in one.items():
        a, b = value, other[name]
        if isinstance(a, torch.Tensor) or (isinstance(a, np.ndarray) and a.dtype.kind in "fiu"):
            a, b = np.asarray(a), np.asarray(b)
            if a.shape != b.shape or a.dtype != b.dtype:
                return float("inf")
            largest = max(largest, float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0.0)))
        elif not np.array_equal(a, b) if isinstance(a, np.ndarray) else a != b:
            return float("inf")
    return largest
