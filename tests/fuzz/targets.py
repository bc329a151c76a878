"""What is read from files that may come from anywhere, as functions of bytes: only documented errors may leave them.

`test_fuzz.py` tries a few thousand inputs in half a minute; `python tests/fuzz/run.py` goes on as long as it is let,
guided by coverage where atheris is installed.
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

from dino_speech import build_encoder, load_encoder, read_embeddings, read_manifest, read_shards, read_trials
from dino_speech.audio.io import audio_info, load_audio
from dino_speech.errors import InputError
from dino_speech.recipe import load_recipe
from dino_speech.training.state import TrainingState, load_state, save_state

DOCUMENTED = (InputError,)
MANIFEST = b"ID,duration,wav,start,stop,speaker\na,1.5,a.wav,0,16000,anna\nb,2.0,sub/b.wav,,,ben\n"
TRIALS = b"1 a b\n0 a c\n1 long name\tx\ty\n"
RECIPES = [
    b"base: other.yaml\nseed: 1\n",
    b"seed: 7\noutput_folder: !ref results/<seed>\ncrops: !new:dino_speech.MultiCrop\n  num_long: 2\n  long_s: 2.0\n",
    b"seed: 1\nmonitor: [1, 2.5e-3, (0.9, 0.95), null, yes, 0o17, .inf, 1:20, \"text\", 'more', !ref <seed>*2-1]\n",
    b"where: &a {b: 1}\nmonitor: [*a, *a, !ref <where[b]>, !copy <where>]\n",
    b"encoder: !apply:dino_speech.build_encoder\n  name: ecapa_tdnn\n  embedding_dim: 8\n  channels: 8\n",
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


def _encoder_folder(home: Path) -> Path:
    encoder = build_encoder("ecapa_tdnn", embedding_dim=4, channels=8, attention_channels=4, se_channels=4, seed=0)
    return encoder.save(home / "encoder", {})


def _read_encoder(valid: Path, name: str) -> Callable[[Path, bytes], object]:
    def read(folder: Path, data: bytes) -> object:
        shutil.copytree(valid, folder / "e", dirs_exist_ok=True)
        (folder / "e" / name).write_bytes(data)
        return load_encoder(folder / "e")

    return read


def _shard(home: Path) -> tuple[bytes, bytes]:
    """A tar of one sound, and the index that names it."""
    sound, file = _audio("flac"), io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        entry = tarfile.TarInfo("a.flac")
        entry.size = len(sound)
        tar.addfile(entry, io.BytesIO(sound))
    data = file.getvalue()
    shard = {"file": "shard-000000.tar", "num_utterances": 1, "duration_s": 0.2, "num_bytes": len(data), "sha256": "0"}
    index = {"version": 1, "num_utterances": 1, "hours": 0.0, "num_bytes": len(data), "shards": [shard]}
    return data, json.dumps(index).encode()


def _read_index(tar: bytes) -> Callable[[Path, bytes], object]:
    def read(folder: Path, data: bytes) -> object:
        (folder / "shard-000000.tar").write_bytes(tar)
        (folder / "manifest.csv").write_bytes(b"ID,duration,wav\na,0.2,shard-000000.tar#512,1000\n")
        (folder / "index.json").write_bytes(data)
        return read_shards(folder)

    return read


def _read_member(folder: Path, data: bytes) -> None:
    (folder / "a.tar").write_bytes(data)
    load_audio(f"{folder}/a.tar#512,1000")


def _state(home: Path) -> bytes:
    modules = {"student": {"weight": torch.ones(3)}}
    return save_state(TrainingState(3, {"lr": 0.1}, modules, [{"torch": torch.zeros(2)}]), home / "state").read_bytes()


def _embeddings() -> bytes:
    file = io.BytesIO()
    np.savez(file, ids=np.array(["a", "b"]), embeddings=np.zeros((2, 3), np.float32))
    return file.getvalue()


def make_targets(home: Path) -> list[Target]:
    """All readers; `home` keeps what they need beside the bytes."""
    valid = _encoder_folder(home)
    config, weights = (valid / "encoder.json").read_bytes(), (valid / "model.safetensors").read_bytes()
    tar, index = _shard(home)
    numbers = [b"0", b"-1", b"1e999", b"nan", b"99999999999999999999", b"null", b"true", b'""', b"[]", b"{}", b"[[[["]
    tags = [b"!new:", b"!apply:", b"!name:", b"!ref ", b"!copy ", b"<seed>", b"*a", b"&a ", b"!!bool ", b"!!python/"]
    tags += [
        b"torch.nn.Linear",
        b"dino_speech.",
        b"(1, 2)",
        b"? ",
        b": ",
        b"- ",
        b"{",
        b"}",
        b"<<: ",
        b"%TAG",
        b"---\n",
    ]
    cells = [
        b",",
        b";",
        b"\t",
        b'"',
        b"\n",
        b"\r",
        b"\x00",
        b"\xff",
        b"://",
        b"#1,2",
        b"a",
        b"\xef\xbb\xbf",
        b"a.tar#0,9",
    ]
    return [
        Target("manifest", [MANIFEST], numbers + cells, _with_file("m.csv", read_manifest)),
        Target("trials", [TRIALS], numbers + cells, _with_file("t.txt", read_trials)),
        Target("recipe", RECIPES, numbers + tags, _with_file("r.yaml", load_recipe)),
        Target("encoder.json", [config], numbers, _read_encoder(valid, "encoder.json")),
        Target("weights", [weights], [b"F32", b"I64", b"shape"], _read_encoder(valid, "model.safetensors")),
        Target("shards", [index], numbers, _read_index(tar)),
        Target("member", [tar], [bytes(512)], _read_member),
        Target("audio", [_audio("wav"), _audio("flac"), _audio("ogg"), _audio("mp3")], [b"RIFF", b"fLaC"], _read_audio),
        Target("state", [_state(home)], [b"PK", b"torch", b"c"], _with_file("last.pt", load_state)),
        Target("embeddings", [_embeddings()], [b"PK", b"NUMPY", b"|O"], _with_file("e.npz", read_embeddings)),
    ]
