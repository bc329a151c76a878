"""What the tests of fine-tuning share: an encoder of a few weights, and voices that differ in speaker and emotion."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dino_speech.data.manifest import Manifest, read_manifest
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.registry import build_encoder


def make_encoder(**changes: object) -> SpeechEncoder:
    """An ECAPA-TDNN with dropout and BatchNorm, which are what freezing must hold still."""
    options = {"embedding_dim": 8, "channels": 8, "attention_channels": 8, "se_channels": 8, "dropout": 0.1}
    return build_encoder("ecapa_tdnn", seed=0, statistics_shortcut=True, **{**options, **changes})


@pytest.fixture
def encoder() -> SpeechEncoder:
    return make_encoder()


@pytest.fixture
def small_encoder() -> Callable[..., SpeechEncoder]:
    return make_encoder


@pytest.fixture(scope="session")
def emotions_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`manifest.csv`: 5 speakers x 6 files of 0.5 to 0.9 s; the emotion is heard as noise and a tremor."""
    folder, rng = tmp_path_factory.mktemp("emotions"), np.random.default_rng(0)
    rows = ["ID,duration,wav,speaker,emotion,arousal,valence"]
    for speaker in range(5):
        for number in range(6):
            happy, size = number % 2, 8_000 + 3_200 * (number % 3)
            time = np.arange(size) / 16_000
            wave = np.sign(np.sin(2 * np.pi * (100 + 30 * speaker) * time)) * (1 + happy * np.sin(50 * time))
            wave = 0.1 * wave + (0.002 + 0.05 * happy) * rng.standard_normal(size)
            name = f"s{speaker}_{number}"
            soundfile.write(folder / f"{name}.wav", wave.astype(np.float32), 16_000)
            emotion, arousal = ("happy", 4 + 0.1 * speaker) if happy else ("neutral", 2 - 0.1 * speaker)
            rows.append(f"{name},{size / 16_000},{name}.wav,s{speaker},{emotion},{arousal:.2f},{1 + number}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def manifest(emotions_folder: Path) -> Manifest:
    return read_manifest(emotions_folder / "manifest.csv")


@pytest.fixture
def train(manifest: Manifest) -> Manifest:
    return manifest.select(speaker=["s0", "s1", "s2"])


@pytest.fixture
def valid(manifest: Manifest) -> Manifest:
    return manifest.select(speaker=["s3", "s4"])
