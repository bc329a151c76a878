"""Small frame-level models with random weights, of transformers' own classes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
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
