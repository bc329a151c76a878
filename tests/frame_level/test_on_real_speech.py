"""TAPT, P-TAPT and distillation take steps on recorded speech, in half precision too."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dino_speech import build_encoder, load_encoder, read_manifest
from dino_speech.data.manifest import Manifest
from dino_speech.frame_level.distillation import Distiller
from dino_speech.frame_level.ptapt import PTAPT
from dino_speech.frame_level.tapt import TAPT

LOOP: dict[str, Any] = {"batch_size": 8, "chunk_s": 2.0, "num_workers": 0, "steps": 2}


@pytest.fixture
def speech(data_root: Path) -> Manifest:
    if not (data_root / "emotion_ravdess" / "manifest.csv").exists():
        pytest.skip(f"no emotion_ravdess at {data_root}")
    whole = read_manifest(data_root / "emotion_ravdess" / "manifest.csv")
    return whole.subset(np.linspace(0, len(whole) - 1, 24).astype(int).tolist())


@pytest.mark.slow
@pytest.mark.corpus
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_few_steps(
    precision: str, speech: Manifest, small_config: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    encoder = build_encoder("wav2vec2", config=small_config("layer", num_hidden_layers=2), seed=0)
    options = {**LOOP, "precision": precision}
    trainers = {
        "tapt": TAPT(encoder, **options),
        "ptapt": PTAPT(encoder, label="emotion", state_steps=2, num_clusters=[8, 32], **options),
        "distilled": Distiller(encoder, num_layers=1, **options),
    }
    for name, trainer in trainers.items():
        trainer.fit(speech, output_folder=tmp_path / name)
        assert np.isfinite(trainer.history_[-1]["loss"]), name
        assert not trainer.skipped_
        embedding = load_encoder(tmp_path / name).embed_file(speech[0].wav)
        assert embedding.shape == (32,)
        assert embedding.isfinite().all()
