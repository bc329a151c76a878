"""What is read from files that may come from anywhere, as functions of bytes: only documented errors may leave them.

`test_fuzz.py` tries a few thousand inputs in half a minute; `python tests/fuzz/run.py` goes on as long as it is let,
with `--guided` by what code an input reaches.
"""

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch

from dino_speech import (
    PLDA,
    build_encoder,
    load_encoder,
    read_embeddings,
    read_manifest,
    read_shards,
    read_trials,
)
from dino_speech.audio.banks import list_sounds
from dino_speech.audio.io import audio_info, load_audio
from dino_speech.data.corpora.corpus import read_table
from dino_speech.errors import InputError
from dino_speech.evaluation.layers.descriptors import read_descriptors
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.recipe import load_recipe
from dino_speech.training.state import TrainingState, load_state, save_state
from dino_speech.transfer.audio_text.readout import ReadOut, TextBranch
from dino_speech.transfer.audio_text.system import AudioTextSystem, load_system
from dino_speech.transfer.heads import LinearHead
from dino_speech.transfer.system import FineTunedSystem
from dino_speech.transfer.targets import Classes, Dimensions

DOCUMENTED = (InputError,)
MANIFEST = b"ID,duration,wav,start,stop,speaker\na,1.5,a.wav,0,16000,anna\nb,2.0,sub/b.wav,,,ben\n"
TRIALS = [b"1 a b\n0 a c\n1 b c\n", b"1\tlong name\tx\n0\tx\ty\n"]
RECIPES = [
    b"base: other.yaml\nseed: 1\n",
    b"seed: 7\noutput_folder: !ref results/<seed>\ncrops: !new:dino_speech.MultiCrop\n  num_long: 2\n  long_s: 2.0\n",
    b"seed: 1\nmonitor: [1, 2.5e-3, null, yes, 0o17, .inf, 1:20, \"text\", 'more', !ref <seed>*2-1]\n",
    b"monitor: (0.9, 0.95)\nwhere: &a {b: 1}\ncrops: [*a, *a]\nencoder:\n- !ref <where[b]>\n- !copy <where>\n",
    b"encoder: !apply:dino_speech.build_encoder\n {name: xvector, channels: [8], kernel_sizes: [3], dilations: [1]}",
    b"encoder: !new:torch.nn.Linear\n  in_features: 4\n  out_features: 4\nmonitor: !name:torch.nn.ReLU\n",
]


@dataclass(frozen=True)
class Target:
    """A reader under test.

    Args:
        name: of the target.
        seeds: valid files, and nearly valid ones.
        words: bytes that mean something to the reader.
        read: reads the bytes in a folder of its own.
    """

    name: str
    seeds: list[bytes]
    words: list[bytes]
    read: Callable[[Path, bytes], object]


def _audio(suffix: str, **options: str) -> bytes:
    file = io.BytesIO()
    wave = 0.3 * np.sin(np.arange(3_200) / 9)
    soundfile.write(file, wave, 16_000, format=suffix, **options)
    return file.getvalue()


def _read_audio(folder: Path, data: bytes) -> None:
    path = folder / "sound.wav"
    path.write_bytes(data)
    audio_info(path)
    load_audio(path)
    load_audio(path, start=100, stop=900)


def _with_file(name: str, read: Callable[[Path], object]) -> Callable[[Path, bytes], object]:
    def act(folder: Path, data: bytes) -> object:
        (folder / name).write_bytes(data)
        return read(folder / name)

    return act


def _in_folder(valid: Path, name: str, read: Callable[[Path], object]) -> Callable[[Path, bytes], object]:
    """Reads a copy of a valid folder of which one file is the bytes."""

    def act(folder: Path, data: bytes) -> object:
        copy = folder / valid.name
        if not copy.exists():
            shutil.copytree(valid, copy)
        (copy / name).write_bytes(data)
        return read(copy)

    return act


def _systems(home: Path, encoder: SpeechEncoder) -> tuple[Path, Path]:
    """Folders of the two kinds of systems."""
    classes, dimensions = Classes("emotion", ("happy", "sad")), Dimensions(("arousal",), (1.0,), (0.5,))
    head = LinearHead(encoder.embedding_dim, 2)
    tuned = FineTunedSystem(encoder, head, classes, "cross_entropy", 1.0, {"seed": 0}).save(home / "tuned")
    readout = ReadOut(1, encoder.embedding_dim, 1, text=TextBranch(2, num_buckets=8), joined=[True])
    return tuned, AudioTextSystem(encoder, readout, dimensions, "transcript", {"seed": 0}).save(home / "text")


def _embedding_folder(home: Path) -> Path:
    folder = home / "embeddings"
    folder.mkdir()
    arrays = {"ids": np.array(["a"]), "embeddings": np.zeros((1, 3), np.float32)}
    np.savez(folder / "part-000000.npz", **arrays, failed_ids=np.array(["b"]), failed_reasons=np.array(["short"]))
    part = {"file": "part-000000.npz", "num_embedded": 1, "num_skipped": 1}
    index = {"version": 1, "num_embedded": 1, "num_skipped": 1, "embedding_dim": 3, "parts": [part]}
    (folder / "index.json").write_text(json.dumps(index))
    return folder


def _plda(home: Path) -> bytes:
    rows = np.random.default_rng(0).standard_normal((12, 3))
    return PLDA().fit(rows, [f"s{row // 2}" for row in range(12)]).save(home / "plda.npz").read_bytes()


def _score(path: Path) -> None:
    PLDA.load(path).score(np.ones((2, 3)), np.zeros((2, 3)))


def _shard() -> tuple[bytes, int, bytes]:
    """A tar of one sound, the sound's bytes, and the index that names it."""
    sound, file = _audio("flac"), io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        entry = tarfile.TarInfo("a.flac")
        entry.size = len(sound)
        tar.addfile(entry, io.BytesIO(sound))
    data = file.getvalue()
    shard = {"file": "shard-000000.tar", "num_utterances": 1, "duration_s": 0.2, "num_bytes": len(data), "sha256": "0"}
    index = {"version": 1, "num_utterances": 1, "hours": 0.0, "num_bytes": len(data), "shards": [shard]}
    return data, len(sound), json.dumps(index).encode()


def _read_index(tar: bytes) -> Callable[[Path, bytes], object]:
    def read(folder: Path, data: bytes) -> object:
        (folder / "shard-000000.tar").write_bytes(tar)
        (folder / "manifest.csv").write_bytes(b'ID,duration,wav\na,0.2,"shard-000000.tar#512,1000"\n')
        (folder / "index.json").write_bytes(data)
        return read_shards(folder)

    return read


def _read_recipe(path: Path) -> object:
    (path.parent / "other.yaml").write_text("seed: 3\nmonitor: [1, !ref <seed>]\n")
    return load_recipe(path)


def _state(home: Path) -> bytes:
    modules = {"student": {"weight": torch.ones(3)}}
    return save_state(TrainingState(3, {"lr": 0.1}, modules, [{"torch": torch.zeros(2)}]), home / "state").read_bytes()


def _embeddings() -> bytes:
    file = io.BytesIO()
    np.savez(file, ids=np.array(["a", "b"]), embeddings=np.zeros((2, 3), np.float32))
    return file.getvalue()


NUMBERS = [b"0", b"-1", b"1e999", b"nan", b"99999999999999999999", b"null", b"true", b'""', b"[]", b"{}", b"[" * 60]
DEEP = [*NUMBERS, b"[" * 3_000]
TAGS = [b"!new:", b"!apply:", b"!name:", b"!ref ", b"!copy ", b"<seed>", b"*a", b"&a ", b"!!bool ", b"!!python/"]
TAGS += [b"torch.nn.Linear", b"dino_speech.", b"(1, 2)", b"? ", b": ", b"- ", b"{", b"}", b"<<: ", b"%TAG", b"---\n"]
CELLS = [b",", b";", b"\t", b'"', b"\n", b"\r", b"\x00", b"\xff", b"://", b"#1,2", b"a", b"\xef\xbb\xbf"]
CELLS += [b"a.tar#0,9", b"\xc2\x85", b"../", b"'=1"]
WEIGHTS, ARRAYS = [b"F32", b"I64", b"shape"], [b"PK", b"NUMPY", b"|O", b"<U9", b"<f4", b"(2,)"]


def make_targets(home: Path) -> list[Target]:
    """All readers; `home` keeps what they need beside the bytes."""
    encoder = build_encoder("ecapa_tdnn", embedding_dim=4, channels=8, attention_channels=4, se_channels=4, seed=0)
    valid, kept = encoder.save(home / "encoder", {}), _embedding_folder(home)
    tuned, text = _systems(
        home, build_encoder("xvector", embedding_dim=4, channels=[8, 8], kernel_sizes=[3, 1], dilations=[1, 1], seed=0)
    )
    tar, size, index = _shard()
    (home / "m.csv").write_bytes(MANIFEST)
    manifest = read_manifest(home / "m.csv")
    sounds = b"wav,kind,category,rt60_s\na.wav,music,jazz,\nr.wav,rir,,0.4\n"

    def inside(folder: Path, name: str, words: list[bytes], read: Callable[[Path], object]) -> Target:
        data = (folder / name).read_bytes()
        return Target(f"{folder.name}/{name}", [data], words, _in_folder(folder, name, read))

    def alone(name: str, seeds: list[bytes], words: list[bytes], read: Callable[[Path], object]) -> Target:
        return Target(name, seeds, words, _with_file(name, read))

    return [
        alone("manifest.csv", [MANIFEST], NUMBERS + CELLS, read_manifest),
        alone("trials.txt", TRIALS, NUMBERS + CELLS, read_trials),
        alone("recipe.yaml", RECIPES, NUMBERS + TAGS, _read_recipe),
        inside(valid, "encoder.json", DEEP, load_encoder),
        inside(valid, "model.safetensors", WEIGHTS, load_encoder),
        inside(tuned, "system.json", DEEP, load_system),
        inside(tuned, "head.safetensors", WEIGHTS, load_system),
        inside(text, "system.json", DEEP, load_system),
        inside(text, "readout.safetensors", WEIGHTS, load_system),
        Target("shards", [index], DEEP, _read_index(tar)),
        alone("a.tar", [tar], [bytes(512)], lambda path: load_audio(f"{path}#512,{size}")),
        Target("audio", [_audio("wav"), _audio("flac"), _audio("ogg"), _audio("mp3")], [b"RIFF", b"fLaC"], _read_audio),
        alone("last.pt", [_state(home)], [b"PK", b"torch", b"c"], load_state),
        alone("embeddings.npz", [_embeddings()], ARRAYS, read_embeddings),
        inside(kept, "index.json", DEEP, read_embeddings),
        inside(kept, "part-000000.npz", ARRAYS, read_embeddings),
        alone("plda.npz", [_plda(home)], ARRAYS, _score),
        alone("sounds.csv", [sounds], NUMBERS + CELLS, list_sounds),
        alone("d.csv", [b"ID,pitch\na,1.5\nb,\n"], NUMBERS + CELLS, lambda path: read_descriptors(path, manifest)),
        alone("table.csv", [b"ID,pitch\na,1.5\n"], NUMBERS + CELLS, lambda path: read_table(path, ["pitch"])),
    ]
