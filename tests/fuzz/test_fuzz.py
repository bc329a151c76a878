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
NAMES += ("shards", "member", "audio", "last.pt", "embeddings.npz", "embeddings/index.json")
NAMES += ("embeddings/part-000000.npz", "plda.npz", "sounds.csv", "d.csv", "table.csv")
NUM_INPUTS = 120  # of each target; the long run is `run.py`


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return {target.name: target for target in make_targets(tmp_path_factory.mktemp("fuzz"))}


def test_all_targets_are_tried(targets: dict[str, Target]) -> None:
    assert tuple(targets) == NAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_only_documented_errors(name: str, targets: dict[str, Target], tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    found = [
        verdict(targets[name], mutated(targets[name].seeds, targets[name].words, rng), tmp_path)
        for _ in range(NUM_INPUTS)
    ]
    assert len(set(found) - {"read"}) >= 1  # some were refused, or nothing was tried
