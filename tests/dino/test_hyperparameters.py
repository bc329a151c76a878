"""Settings of pretraining: lengths that fit any corpus, and runs that were saved when settings stood side by side."""

import pytest
import torch

from dino_speech.audio.crops import MultiCrop
from dino_speech.dino.hyperparameters import Hyperparameters, completed_identity
from dino_speech.errors import InputError
from dino_speech.models.registry import build_encoder
from dino_speech.training.state import TrainingState, differences, save_state, state_to_resume

# As a run of 16 utterances saved it in November 2026, encoder and crops aside.
OLD = {
    **{"transforms": None, "augment": None, "teacher_augment": None, "spec_augment": None, "num_prototypes": 32},
    **{"head_hidden_dim": 16, "head_bottleneck_dim": 8, "head_num_layers": 3, "head_batch_norm": True},
    **{"student_temperature": 0.1, "teacher_temperature": 0.04, "teacher_temperature_start": 0.02},
    **{"teacher_temperature_warmup_steps": 4, "centering": "sinkhorn", "center_momentum": 0.9, "koleo_weight": 0.1},
    **{"teacher_momentum": 0.996, "teacher_momentum_end": 1.0, "teacher_batchnorm": "train", "optimizer": "adamw"},
    **{"lr": 0.01, "lr_end": 1e-06, "warmup_steps": None, "weight_decay": 0.0001, "weight_decay_end": 0.01},
    **{"betas": [0.9, 0.95], "momentum": 0.9, "clip_norm": 3.0, "freeze_last_layer_steps": None, "batch_size": 4},
    **{"accumulation_steps": 2, "precision": "fp32", "seed": 1986, "num_steps": 40},
    "manifest": {"num_utterances": 16, "sha256": "75cd"},
}


def hyper_of(**changes) -> Hyperparameters:
    encoder = build_encoder("ecapa_tdnn", embedding_dim=8, channels=8, attention_channels=8, se_channels=8, seed=0)
    settings = {
        "head": {"num_prototypes": 32, "hidden_dim": 16, "bottleneck_dim": 8},
        "objective": {"teacher_temperature_start": 0.02, "teacher_temperature_warmup": "1 epoch"},
        "optimizer": {"lr": 0.01},
        "schedule": {"length": "10 epochs", "batch_size": 4, "accumulation_steps": 2, "weight_decay_end": 0.01},
    }
    for name, value in changes.items():
        settings[name] = {**settings.get(name, {}), **value}
    return Hyperparameters(encoder, MultiCrop(num_long=2, long_s=0.4, num_short=2, short_s=0.3), **settings)


def identity_of(hyper: Hyperparameters) -> dict:
    own = hyper.identity(hyper.steps(16))
    return own | {"seed": 1986, "precision": "fp32", "manifest": {"num_utterances": 16, "sha256": "75cd"}}


def old_identity(**changes) -> dict:
    new = identity_of(hyper_of())
    return {"encoder": new["encoder"], "crops": new["crops"], **OLD, **changes}


def test_a_state_with_flat_settings_goes_on_as_the_same_run(tmp_path):
    save_state(TrainingState(3, old_identity(), {"w": torch.zeros(1)}, [{}]), tmp_path)
    assert state_to_resume(tmp_path, identity_of(hyper_of()), completed_identity).step == 3
    # the same lengths in other words, and what may change
    same = hyper_of(
        schedule={"length": 40, "warmup": "10 %", "freeze_last_layer": 2},
        objective={"teacher_temperature_warmup": "16 utterances"},
        run={"num_workers": 0, "monitor_every": "1 epoch", "precision": "fp32"},
        whitening={"shrinkage": 0.1},
    )
    assert state_to_resume(tmp_path, identity_of(same), completed_identity).step == 3
    for group, change, named in [
        ("schedule", {"warmup": 5}, r"schedule\.warmup: 4 -> 5"),
        ("schedule", {"length": "11 epochs"}, r"schedule\.length: 40 -> 44"),
        ("optimizer", {"lr": 0.02}, r"optimizer\.lr: 0\.01 -> 0\.02"),
        ("objective", {"teacher_temperature_warmup": 5}, r"objective\.teacher_temperature_warmup: 4 -> 5"),
        ("head", {"num_layers": 2}, r"head\.num_layers: 3 -> 2"),
        ("teacher", {"batchnorm": "ema"}, r"teacher\.batchnorm: train -> ema"),
    ]:
        with pytest.raises(InputError, match=f"is of another run: {named}"):
            state_to_resume(tmp_path, identity_of(hyper_of(**{group: change})), completed_identity)


def test_what_this_version_saves_is_complete_and_a_later_setting_has_its_default():
    saved = identity_of(hyper_of())
    assert differences(completed_identity(saved), saved) == []
    del saved["objective"]["koleo_weight"]  # as if it had come later
    assert differences(completed_identity(saved), identity_of(hyper_of())) == []
    assert completed_identity({"label": "emotion", "lr": 0.1}) == {"label": "emotion", "lr": 0.1}


def test_flat_names_give_the_same_run(caplog):
    hyper = hyper_of()
    flat = {name: value for name, value in OLD.items() if name not in ("seed", "manifest")}
    old = Hyperparameters(hyper.encoder, hyper.crops, **flat | {"num_steps": None, "num_epochs": 10})
    assert differences(identity_of(old), identity_of(hyper)) == []
    assert len(caplog.records) == 1
    assert "num_epochs -> schedule.length" in caplog.text
    with pytest.raises(InputError, match=r"lr and optimizer\.lr are both given"):
        Hyperparameters(hyper.encoder, hyper.crops, lr=0.1, optimizer={"lr": 0.1})
