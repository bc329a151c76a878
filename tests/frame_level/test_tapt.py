"""TAPT: contrastive pretraining goes on, its loss falls, it resumes to the same numbers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dino_speech import build_encoder, load_encoder, read_manifest
from dino_speech.data.manifest import Manifest
from dino_speech.errors import InputError
from dino_speech.frame_level.tapt import TAPT, Contrastive

SMALL_STEPS: dict[str, Any] = {
    "batch_size": 8,
    "chunk_s": 0.6,
    "num_workers": 0,
    "precision": "fp32",
    "warmup_steps": 2,
    "num_negatives": 10,
    "mask_length": 4,
    "log_every": 5,
}
CODES = {"num_codevectors_per_group": 8, "codevector_dim": 16, "proj_codevector_dim": 16, "initializer_range": 0.05}


@pytest.fixture
def manifest(voices_folder: Path) -> Manifest:
    return read_manifest(voices_folder / "manifest.csv")


@pytest.fixture
def small_tapt(small_config: Callable[..., dict[str, Any]]) -> Callable[..., TAPT]:
    def make(**changes: Any) -> TAPT:
        config = small_config(num_hidden_layers=2, hidden_dropout=0.0, layerdrop=0.0, **CODES)
        return TAPT(build_encoder("wav2vec2", config=config, seed=1), **{**SMALL_STEPS, **changes})

    return make


@pytest.mark.slow
def test_the_loss_falls(small_tapt: Callable[..., TAPT], melodies_folder: Path, tmp_path: Path) -> None:
    tapt = small_tapt(steps=60, lr=3e-3, chunk_s=1.0, mask_time_prob=0.4)
    tapt.fit(melodies_folder / "manifest.csv", output_folder=tmp_path / "out")
    first, last = tapt.history_[0], tapt.history_[-1]
    assert last["contrastive"] < first["contrastive"] - 0.3
    assert last["codewords"] > 8  # of 16, so not because all frames have become the same word
    assert last["loss"] == pytest.approx(last["contrastive"] + 0.1 * last["diversity"], abs=1e-3)
    before, after = tapt.encoder.state_dict(), load_encoder(tmp_path / "out").state_dict()
    assert before.keys() == after.keys()
    untouched = [name for name, value in before.items() if torch.equal(value, after[name])]
    assert untouched == []  # all of it is trained, the convolutions too
    model = load_encoder(tmp_path / "out").backbone.model
    assert model.config.mask_feature_prob == tapt.encoder.backbone.model.config.mask_feature_prob


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_numbers(
    small_tapt: Callable[..., TAPT], manifest: Manifest, tmp_path: Path
) -> None:
    whole = small_tapt(steps=6).fit(manifest, output_folder=tmp_path / "whole")
    stopped = small_tapt(steps=6, max_minutes=1e-9).fit(manifest, output_folder=tmp_path / "parts")
    assert stopped.stop_reason_ == "max_minutes"
    resumed = small_tapt(steps=6).fit(manifest, output_folder=tmp_path / "parts")
    for name, value in whole.encoder_.state_dict().items():
        assert torch.equal(value, resumed.encoder_.state_dict()[name]), name
    figures = ("step", "loss", "contrastive", "codewords", "grad_norm")
    assert [{name: row[name] for name in figures} for row in resumed.history_] == [
        {name: row[name] for name in figures} for row in whole.history_
    ]
    with pytest.raises(InputError, match=r"of another run: lr: 0.0001 -> 0.0002"):
        small_tapt(steps=6, lr=2e-4).fit(manifest, output_folder=tmp_path / "parts")
    assert small_tapt(steps=6).fit(manifest, output_folder=tmp_path / "parts").history_ == resumed.history_


def test_the_checkpoints_quantizer_is_gone_on_with(
    small_config: Callable[..., dict[str, Any]], tmp_path: Path, manifest: Manifest
) -> None:
    import transformers

    config = transformers.Wav2Vec2Config(**small_config(num_hidden_layers=2, **CODES))
    model = transformers.Wav2Vec2ForPreTraining(config)
    model.save_pretrained(tmp_path / "pretraining")
    encoder = build_encoder("wav2vec2", source=tmp_path / "pretraining")
    tapt = TAPT(encoder, **SMALL_STEPS)
    objective = Contrastive(encoder, tapt, seed=0, tensors=tapt._quantizer_weights())
    for name, value in model.state_dict().items():
        assert torch.equal(value, objective.model.state_dict()[name]), name
    model.wav2vec2.save_pretrained(tmp_path / "bare")
    assert TAPT(encoder, quantizer=tmp_path / "bare")._quantizer_weights() == {}
    assert TAPT(encoder, quantizer="new")._quantizer_weights() == {}
    with pytest.raises(InputError, match="For a new quantizer: quantizer='new'"):
        TAPT(encoder, quantizer=tmp_path)._quantizer_weights()


def test_what_is_refused(
    small_tapt: Callable[..., TAPT], small_config: Callable[..., dict[str, Any]], manifest: Manifest, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="the encoder is 'hubert'; expected 'wav2vec2'"):
        TAPT(build_encoder("hubert", config=small_config())).fit(manifest, output_folder=tmp_path)
    with pytest.raises(InputError, match="has layer=0"):
        TAPT(build_encoder("wav2vec2", config=small_config(), layer=0)).fit(manifest, output_folder=tmp_path)
    with pytest.raises(InputError, match="raise chunk_s, or lower mask_length"):
        small_tapt(mask_length=40, steps=1).fit(manifest, output_folder=tmp_path / "long")
    with pytest.raises(InputError, match="mask_length = 1"):
        small_tapt(mask_length=1)
    with pytest.raises(InputError, match="epochs and steps are both given"):
        small_tapt(steps=1, epochs=1)


def test_one_layer_and_a_model_without_a_filler(
    small_config: Callable[..., dict[str, Any]], manifest: Manifest, tmp_path: Path
) -> None:
    config = small_config(mask_time_prob=0.0, mask_feature_prob=0.0, apply_spec_augment=False, **CODES)
    encoder = build_encoder("wav2vec2", config=config, layer=1, seed=0)
    TAPT(encoder, **{**SMALL_STEPS, "steps": 1}).fit(manifest, output_folder=tmp_path / "out")
    adapted = load_encoder(tmp_path / "out")
    assert len(adapted.backbone.model.encoder.layers) == 1
    record = json.loads((tmp_path / "out" / "hyperparameters.json").read_text())
    assert (record["mask_time_prob"], record["seed"], record["train"]["num_utterances"]) == (0.65, 1986, 16)
