"""Settings in groups, and the flat names that they had before."""

import copy
import inspect
import logging
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from dino_speech.errors import InputError
from dino_speech.training.settings import OLD_RUN_NAMES, RunSettings, Settings, in_groups


@dataclass
class Optimizer(Settings):
    name: str = "adamw"
    lr: float = 0.1


@dataclass
class Schedule(Settings):
    length: int | str = 10


@in_groups(
    {
        **OLD_RUN_NAMES,
        "optimizer": "optimizer.name",
        "lr": "optimizer.lr",
        "num_steps": "schedule.length={}",
        "num_epochs": "schedule.length={} epochs",
    }
)
@dataclass
class Learner:
    encoder: str
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    run: RunSettings = field(default_factory=RunSettings)


def test_groups_are_given_as_mappings_or_objects_or_not_at_all(caplog):
    learner = Learner("e", optimizer={"lr": 0.2}, run=RunSettings(num_workers=0), schedule=None)
    assert (learner.optimizer, learner.run.num_workers, learner.schedule) == (Optimizer(lr=0.2), 0, Schedule())
    assert not caplog.records
    assert list(inspect.signature(Learner).parameters) == ["encoder", "optimizer", "schedule", "run"]
    assert copy.deepcopy(learner) == learner


def test_flat_names_lead_to_their_group_with_one_warning(caplog):
    old: dict[str, Any] = {"lr": 0.3, "optimizer": "sgd", "num_steps": None, "num_epochs": 7, "max_minutes": 2}
    with caplog.at_level(logging.WARNING):
        learner = Learner("e", **old)
    assert learner.optimizer == Optimizer("sgd", 0.3)
    assert (learner.schedule.length, learner.run.max_minutes) == ("7 epochs", 2)
    (warning,) = caplog.messages
    for words in ("lr -> optimizer.lr", "optimizer -> optimizer.name", "num_epochs -> schedule.length"):
        assert words in warning
    assert replace(learner, lr=0.5).optimizer == Optimizer("sgd", 0.5)
    assert learner.optimizer.lr == 0.3
    assert Learner("e", max_minutes=None).run.max_minutes is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lr": 0.1, "optimizer": {"lr": 0.2}}, "lr and optimizer.lr are both given; give only optimizer.lr"),
        ({"num_steps": 5, "num_epochs": 7}, "num_epochs and schedule.length are both given"),
        ({"optimizer": {"lrr": 0.2}}, "optimizer has no 'lrr'; did you mean 'lr'?"),
        ({"run": {"precision": "bf17"}}, "run: precision = 'bf17': expected one of auto"),
        ({"run": {"cache_gib": -1}}, "run: cache_gib = -1: expected a number that is not negative"),
        ({"schedule": 5}, "schedule = 5: expected a mapping of length"),
    ],
)
def test_mistakes_are_named(given, message):
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        Learner("e", **given)
