"""Small frame-level models with random weights, of transformers' own classes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("transformers", reason="needs the extra dino-speech[ssl]")

# The true strides of the front (320 samples a frame, 400 of reach), few channels.
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    # Large random weights: with 0.02 every layer would be nearly the identity, and a test would see little.
    "initializer_range": 0.3,
}
STABLE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}  # as the large models
VARIANTS = {"group": {}, "layer": STABLE}


@pytest.fixture
def small_config() -> Callable[..., dict[str, Any]]:
    """`small_config("group")` or `small_config("layer", num_hidden_layers=2)`: options of a small architecture."""

    def make(variant: str = "group", **changes: Any) -> dict[str, Any]:
        return {**SMALL, **VARIANTS[variant], **changes}

    return make


@pytest.fixture
def checkpoint(tmp_path: Path, small_config: Callable[..., dict[str, Any]]) -> Callable[..., Path]:
    """`checkpoint("hubert", "layer")`: a folder as transformers saves it, with its preprocessor."""
    import transformers

    def make(model_type: str = "wav2vec2", variant: str = "group", *, normalize: bool = True, **changes: Any) -> Path:
        prefix = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "wavlm": "WavLM"}[model_type]
        folder = tmp_path / f"{model_type}-{variant}"
        torch.manual_seed(3)
        config = getattr(transformers, f"{prefix}Config")(**small_config(variant, **changes))
        getattr(transformers, f"{prefix}Model")(config).save_pretrained(folder)
        transformers.Wav2Vec2FeatureExtractor(do_normalize=normalize).save_pretrained(folder)
        return folder

    return make


@pytest.fixture
def melodies_folder(tmp_path: Path) -> Path:
    """`manifest.csv`: 4 speakers x 4 files of 1.8 s, in which five tones come round: a tone that is hidden can be told
    from its surroundings. The emotion is heard as the order of the tones."""
    folder, rng = tmp_path / "melodies", np.random.default_rng(0)
    folder.mkdir()
    rows, time = ["ID,duration,wav,speaker,emotion"], np.arange(2400) / 16_000
    for number in range(16):
        order = rng.permutation(5) if number % 2 else [0, 1, 2, 3, 4]
        tones = [0.2 * np.sin(2 * np.pi * (200, 450, 1000, 2200, 4500)[order[k % 5]] * time) for k in range(12)]
        wave = np.concatenate(tones) + 0.005 * rng.standard_normal(12 * 2400)
        soundfile.write(folder / f"{number}.wav", wave.astype(np.float32), 16_000)
        emotion = "happy" if number % 2 else "neutral"
        rows.append(f"u{number},1.8,{number}.wav,s{number // 4},{emotion}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder
