"""Freezing holds, gradients reach exactly what trains, and each depth has the learning rate that it should."""

import copy

import pytest
import torch

from dino_speech.errors import InputError
from dino_speech.models.registry import build_encoder
from dino_speech.transfer.heads import LinearHead
from dino_speech.transfer.parameter_groups import parameter_groups
from dino_speech.transfer.stages import FineTuneStage, freeze_for, trained_modules, unfreeze

SMALL = {
    "ecapa_tdnn": {"channels": 8, "attention_channels": 8, "se_channels": 8, "dropout": 0.2},
    "xvector": {"channels": (8, 8, 8, 8, 8)},
    "light_resnet34": {"channels": 2},
}
AFFINE = {
    "ecapa_tdnn": "backbone.model.fc.",
    "xvector": "backbone.model.blocks.16.",
    "light_resnet34": "backbone.affine.",
}


def small(name: str, **options: object):
    return build_encoder(name, embedding_dim=6, seed=0, **SMALL[name], **options)


def with_gradient(encoder) -> set[str]:
    """Names of the parameters that a loss on the embedding reaches."""
    encoder.zero_grad(set_to_none=True)
    embedding = encoder(torch.randn(4, 8_000, generator=torch.Generator().manual_seed(0)))
    if embedding.requires_grad:
        embedding.square().sum().backward()
    return {name for name, parameter in encoder.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("shortcut", [False, True])
def test_affine_is_the_last_affine_layers_alone(name: str, shortcut: bool) -> None:
    encoder = small(name, statistics_shortcut=shortcut)
    freeze_for(encoder, FineTuneStage("affine"))
    expected = {n for n, _ in encoder.named_parameters() if n.startswith((AFFINE[name], "shortcut.affine."))}
    assert len(expected) == (4 if shortcut else 2)
    assert with_gradient(encoder) == expected
    assert {n for n, p in encoder.named_parameters() if p.requires_grad} == expected
    assert not any(m.training for m in encoder.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm))


@pytest.mark.parametrize("name", SMALL)
def test_depths_hold_each_parameter_once(name: str) -> None:
    encoder = small(name, statistics_shortcut=True)
    parts = dict(encoder.named_modules())
    held = [id(p) for level in encoder.depth_modules for part in level for p in parts[part].parameters()]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in encoder.parameters()}


def test_head_freezes_the_whole_encoder_and_all_frees_it(encoder) -> None:
    freeze_for(encoder, FineTuneStage("head"))
    assert with_gradient(encoder) == set()
    assert not any(module.training for module in encoder.modules())
    freeze_for(encoder, FineTuneStage("all"))
    assert with_gradient(encoder) == {name for name, _ in encoder.named_parameters()}
    assert all(module.training for module in encoder.modules())


def test_patterns_train_what_they_match_and_all_below(encoder) -> None:
    freeze_for(encoder, FineTuneStage(["backbone.model.blocks.3", "*.mfa"]))
    reached = with_gradient(encoder)
    assert reached == {
        name
        for name, _ in encoder.named_parameters()
        if name.startswith(("backbone.model.blocks.3.", "backbone.model.mfa."))
    }
    assert encoder.backbone.model.blocks[3].training
    assert not encoder.backbone.model.blocks[2].training


def test_frozen_parts_stay_so_whatever_mode_is_asked_for(encoder) -> None:
    freeze_for(encoder, FineTuneStage("affine"))
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder.train()
    encoder.backbone.train()
    for module in encoder.modules():
        module.train()
    waves = torch.randn(4, 8_000)
    assert torch.equal(encoder(waves), encoder(waves)), "no dropout is drawn"
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items()), "no statistics move"


def test_a_copy_of_a_frozen_encoder_is_frozen_by_itself(encoder) -> None:
    freeze_for(encoder, FineTuneStage("affine"))
    twin = copy.deepcopy(encoder)
    unfreeze(encoder)
    encoder.train()
    twin.train()
    assert encoder.backbone.model.blocks[0].norm.training
    assert not twin.backbone.model.blocks[0].norm.training
    unfreeze(twin)
    assert all(module.training for module in twin.train().modules())
    assert all(parameter.requires_grad for parameter in twin.parameters())


def test_batchnorm_can_be_frozen_alone(encoder) -> None:
    freeze_for(encoder, FineTuneStage("all", freeze_batchnorm=True))
    encoder.train()
    for module in encoder.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            assert not module.training
            assert not any(p.requires_grad for p in module.parameters())
    assert encoder.backbone.model.fc.conv.weight.requires_grad


def test_learning_rates_fall_with_depth(encoder) -> None:
    stage = FineTuneStage("all", lr=1e-2, encoder_lr=1e-3, layer_decay=0.5, weight_decay=0.1)
    freeze_for(encoder, stage)
    head = LinearHead(8, 3)
    groups = parameter_groups(head, encoder, stage)
    names = {id(p): name for name, p in [*encoder.named_parameters(), *head.named_parameters("head")]}
    rates = {names[id(p)]: group["lr"] for group in groups for p in group["params"]}
    assert set(rates) == set(names.values())
    assert rates["head.affine.weight"] == 1e-2
    expected = {"model.fc": 1e-3, "model.asp": 5e-4, "model.mfa": 2.5e-4, "model.blocks.3": 1.25e-4}
    expected["model.blocks.0"] = 1e-3 * 0.5**6
    for part, rate in expected.items():
        found = {value for name, value in rates.items() if name.startswith(f"backbone.{part}.")}
        assert found == {rate}
    assert rates["shortcut.affine.weight"] == 1e-3
    for group in groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] == 0.1}
    assert [group["lr"] for group in parameter_groups(head, encoder, FineTuneStage("all", lr=0.3))] == [0.3] * len(
        groups
    )


def test_only_what_trains_is_given_to_the_optimizer(encoder) -> None:
    stage = FineTuneStage("affine")
    freeze_for(encoder, stage)
    groups = parameter_groups(LinearHead(8, 3), encoder, stage)
    assert sum(len(group["params"]) for group in groups) == 2 + 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": "encoder"}, "expected one of head, affine, all"),
        ({"train": []}, "at least one pattern"),
        ({"epochs": 2, "steps": 3}, "epochs and steps are both given"),
        ({"epochs": 0}, "epochs = 0: expected a whole number"),
        ({"lr": -1.0}, "lr = -1.0: expected a positive number"),
        ({"encoder_lr": 0.0}, "encoder_lr = 0.0: expected a positive"),
        ({"layer_decay": 1.5}, "layer_decay = 1.5: expected a number from 0 to 1"),
        ({"warmup_fraction": 1.0}, "warmup_fraction = 1"),
        ({"chunk_s": "3"}, "chunk_s = '3'"),
    ],
)
def test_impossible_stages_are_refused(options, message) -> None:
    with pytest.raises(InputError, match=message):
        FineTuneStage(**options)


@pytest.mark.parametrize("pattern", ["backbone.blocks.*", "features"])
def test_a_pattern_that_matches_nothing_names_what_there_is(encoder, pattern) -> None:
    with pytest.raises(InputError, match=r"matches no part .* backbone.model.blocks.0, .*backbone.model.fc"):
        trained_modules(encoder, FineTuneStage(["backbone.model.mfa", pattern]))


def test_an_encoder_without_affine_layers_has_no_affine_stage() -> None:
    with pytest.raises(InputError, match="no affine layers"):
        trained_modules(build_encoder("fbank_stats"), FineTuneStage("affine"))
