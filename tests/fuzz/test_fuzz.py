"""Damaged and hostile files for half a minute: each is read, or refused by an error that says why."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mutate import mutated
from run import verdict
from targets import Target, make_targets

# By the file's name, or by the folder's and the file's.
NAMES = ("manifest.csv", "trials.txt", "recipe.yaml", "encoder/encoder.json", "encoder/model.safetensors")
NAMES += ("tuned/system.json", "tuned/head.safetensors", "text/system.json", "text/readout.safetensors")
NAMES += ("shards", "a.tar", "audio", "last.pt", "embeddings.npz", "embeddings/index.json")
NAMES += ("embeddings/part-000000.npz", "plda.npz", "sounds.csv", "d.csv", "table.csv")
NUM_INPUTS = 120  # of each target; the long run is `run.py`
# What the long runs found, each as the change of a valid file that led to a traceback.
FOUND = [
    ("encoder/encoder.json", b"{", b"[" * 100_000),
    ("tuned/system.json", b'"segment_s"', b'"segment"'),
    ("tuned/system.json", b'"segment_s": 1.0', b'"segment_s": 1e-9'),
    ("tuned/system.json", b'"names"', b'"dropout"'),
    ("tuned/system.json", b'"happy"', b'"sad"'),
    ("text/system.json", b'"means"', b'"deviation"'),
    ("text/system.json", b'"arousal"', b'["arousal"]'),
    ("text/system.json", b'"num_dimensions": 1', b'"num_dimensions": 999999999'),
    ("shards", b"shard-000000.tar", b"[" * 3_000),
    ("embeddings/index.json", b"{", b""),
    ("embeddings/index.json", b'"parts"', b'"pieces"'),
    ("embeddings/index.json", b'"embedding_dim": 3', b'"embedding_dim": 4'),
    ("embeddings/part-000000.npz", b"PK\x03\x04", b"PK\x03\x05"),
    ("embeddings/part-000000.npz", b"<f4", b"|O4"),
    ("plda.npz", b"PK\x03\x04", b"PK\x03\x05"),
    ("plda.npz", b"ratio_.npy", b"ration.npy"),
    ("sounds.csv", b"jazz", b"\xff"),
    ("d.csv", b"1.5", b"\xff"),
    ("d.csv", b"1.5", b"inf"),
    ("d.csv", b"1.5", b"1.5,2"),
    ("plda.npz", b"PK\x01\x02\x2d\x03\x2d\x00\x00", b"PK\x01\x02\x2d\x03\x2d\x00\x01"),
    ("table.csv", b"1.5", b'"' + b"1" * 200_000),
]


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return {target.name: target for target in make_targets(tmp_path_factory.mktemp("fuzz"))}


def test_all_targets_are_tried(targets: dict[str, Target]) -> None:
    assert tuple(targets) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_what_is_damaged_is_valid_at_first(name: str, targets: dict[str, Target], tmp_path: Path) -> None:
    for seed in targets[name].seeds:
        assert verdict(targets[name], seed, tmp_path) == "read"


@pytest.mark.parametrize(("name", "valid", "damaged"), FOUND)
def test_what_was_found_is_refused(
    name: str, valid: bytes, damaged: bytes, targets: dict[str, Target], tmp_path: Path
) -> None:
    assert valid in targets[name].seeds[0]
    assert verdict(targets[name], targets[name].seeds[0].replace(valid, damaged), tmp_path) == "InputError"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_only_documented_errors(name: str, targets: dict[str, Target], tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    found = [
        verdict(targets[name], mutated(targets[name].seeds, targets[name].words, rng), tmp_path)
        for _ in range(NUM_INPUTS)
    ]
    assert len(set(found) - {"read"}) >= 1  # some were refused, or nothing was tried
