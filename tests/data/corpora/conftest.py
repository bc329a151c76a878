"""Small trees in the layouts of corpora: tiny audio, and the tables as their owners write them."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dino_speech.data.manifest import read_manifest

Plant = Callable[[str, Iterable[str]], Path]


@pytest.fixture
def plant(tmp_path: Path, tone: Callable[..., np.ndarray]) -> Plant:
    """`plant("RAVDESS", names)` makes these files of 0.5 s below tmp_path/RAVDESS, and returns that folder."""

    def make(corpus: str, names: Iterable[str]) -> Path:
        for seed, name in enumerate(names):
            path = tmp_path / corpus / name
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone(0.5, hz=120.0 + 10 * seed, seed=seed), 16_000)
        return tmp_path / corpus

    return make


@pytest.fixture
def labels_of(tmp_path: Path) -> Callable[..., dict[str, dict[str, str]]]:
    """ID -> labels of a manifest below tmp_path/out, all of whose audio exists."""

    def read(name: str = "manifest.csv") -> dict[str, dict[str, str]]:
        return {u.id: u.labels for u in read_manifest(tmp_path / "out" / name, must_exist=True)}

    return read
