"""Settings in groups within recipes: options and differences meet the recipe's values, by new and by former names."""

import logging
from pathlib import Path

import pytest

from dino_speech.dino.pretrain import DINOPretrainer
from dino_speech.errors import RecipeError
from dino_speech.recipe import load_recipe

PARTS = """
encoder: !apply:dino_speech.build_encoder
  name: ecapa_tdnn
  embedding_dim: 8
  channels: 8
crops: !new:dino_speech.MultiCrop {num_long: 2, long_s: 0.6, short_s: 0.3}
"""
GROUPS = """
trainer: !new:dino_speech.DINOPretrainer
  encoder: !ref <encoder>
  crops: !ref <crops>
  optimizer:
    lr: 1.0e-3
    weight_decay: 0.1
  schedule: {length: 70 epochs, warmup: 5 %}
"""
FLAT = """
passes: 70
trainer: !new:dino_speech.DINOPretrainer
  encoder: !ref <encoder>
  crops: !ref <crops>
  lr: 1.0e-3
  weight_decay: 0.1
  optimizer: sgd
  num_epochs: !ref <passes>
  num_steps: null
  clip_norm: null
  batch_size: 12
"""


def trainer_of(folder: Path, text: str, *options: str, trust: bool = False, difference: str = "") -> DINOPretrainer:
    (folder / "recipe.yaml").write_text(PARTS + text)
    (folder / "light.yaml").write_text(f"base: recipe.yaml\n{difference}")
    return load_recipe(folder / "light.yaml", options, trust=trust)["trainer"]


@pytest.mark.parametrize("trust", [False, True])
def test_options_reach_into_groups(tmp_path, caplog, trust):
    options = ["--trainer.optimizer.lr=2e-3", "--trainer.run.num_workers=0", "--trainer.schedule={length: 1 epoch}"]
    trainer = trainer_of(tmp_path, GROUPS, *options, trust=trust)
    assert (trainer.optimizer.lr, trainer.optimizer.weight_decay) == (2e-3, 0.1)
    assert (trainer.schedule.length, trainer.schedule.warmup, trainer.run.num_workers) == ("1 epoch", "5 %", 0)
    assert not caplog.records


def test_a_difference_is_merged_into_groups(tmp_path):
    trainer = trainer_of(tmp_path, GROUPS, difference="trainer:\n  optimizer: {name: sgd}\n  head: {num_layers: 2}\n")
    assert (trainer.optimizer.name, trainer.optimizer.lr, trainer.head.num_layers) == ("sgd", 1e-3, 2)


@pytest.mark.parametrize("trust", [False, True])
def test_former_names_in_a_recipe_a_difference_and_an_option(tmp_path, caplog, trust):
    with caplog.at_level(logging.WARNING):
        trainer = trainer_of(tmp_path, FLAT, trust=trust)
    assert (trainer.optimizer.name, trainer.optimizer.lr, trainer.optimizer.clip_norm) == ("sgd", 1e-3, None)
    assert (trainer.schedule.length, trainer.schedule.batch_size) == ("70 epochs", 12)
    assert "lr -> optimizer.lr" in caplog.text
    for text in (FLAT, GROUPS):
        for option in ("--trainer.lr=5e-3", "--trainer.optimizer.lr=5e-3"):
            assert trainer_of(tmp_path, text, option, trust=trust).optimizer.lr == 5e-3
        changed = trainer_of(tmp_path, text, trust=trust, difference="trainer: {batch_size: 7, optimizer: adam}\n")
        assert (changed.schedule.batch_size, changed.optimizer.name, changed.optimizer.lr) == (7, "adam", 1e-3)
    assert trainer_of(tmp_path, GROUPS, "--trainer.num_steps=3", "--trainer.num_epochs=null").schedule.length == 3


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--trainer.optimizer.lrr=1", "on the command line: DINOPretrainer.optimizer has no 'lrr'; did you mean 'lr'"),
        ("--trainer.optimiser.lr=1", "trainer.optimiser is not in the recipe"),
        ("--trainer.warmup=1", "DINOPretrainer has no 'warmup'; did you mean 'schedule.warmup'"),
        ("--trainer.warmup_step=1", "did you mean 'schedule.warmup'"),
        ("--trainer.optimizer.lr=-1", "optimizer: lr = -1: expected a positive number"),
        ("--trainer.schedule.warmup=5 weeks", "schedule: warmup = '5 weeks': expected steps"),
        ("--trainer.run=5", "run = 5: expected a mapping of precision"),
    ],
)
def test_mistakes_are_named(tmp_path, option, message):
    with pytest.raises(RecipeError) as refused:
        trainer_of(tmp_path, GROUPS, option)
    assert message in str(refused.value)


def test_a_setting_by_both_names_is_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"recipe\.yaml line 14: lr and optimizer\.lr are both given"):
        trainer_of(tmp_path, GROUPS.replace("  schedule", "  lr: 0.1\n  schedule"))
