"""Sizes that follow from a corpus, for settings that say `auto`: how long, how many prototypes, how slow a teacher.

Rules of thumb from larger corpora and other fields, to begin with; what they are worth on speech of one's own only a
comparison shows. Temperatures and the warm-up do not depend on the corpus here: see `hyperparameters.py`.
"""

from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from dino_speech.argument_checks import AUTO
from dino_speech.dino.hyperparameters import Hyperparameters
from dino_speech.training.schedules import RunLength

Hyper = TypeVar("Hyper", bound=Hyperparameters)
UTTERANCES, PROTOTYPES = (20_000, 50_000, 100_000, 200_000), (1_024, 2_048, 4_096, 16_384, 65_536)
PASSES, MIN_STEPS = 100, 5_000
LAG = 14  # (1 - momentum) x steps: below it a good part of the initial network is left in the final teacher


@dataclass(frozen=True)
class Choice:
    """One setting that said `auto`."""

    name: str
    value: int | float
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: auto -> {self.value:g} ({self.reason})"


def suggest_settings(num_utterances: int, *, batch_size: int, num_steps: int | None = None) -> list[Choice]:
    """Length in steps, K and the teacher's momentum for a corpus, each with its reason; `num_steps`: already said.

    Example:
        >>> for choice in suggest_settings(7_505, batch_size=48):
        ...     print(choice.name, choice.value)
        schedule.length 15600
        head.num_prototypes 1024
        teacher.momentum 0.996
    """
    passes = RunLength.of(f"{PASSES} epochs", num_utterances=num_utterances, batch_size=batch_size).num_steps
    length = Choice("schedule.length", max(MIN_STEPS, passes), f"{PASSES} passes, peers take 80 to 150; 5,000 at least")
    steps = int(length.value) if num_steps is None else num_steps
    size = f"{num_utterances:,} utterances, by the sizes of lightly-train; the paper's 65,536 above 200,000"
    prototypes = Choice("head.num_prototypes", PROTOTYPES[bisect_left(UTTERANCES, num_utterances)], size)
    slow = f"1 - {LAG} / {steps:,} steps, so that the teacher leaves its beginning; 0.9 to the paper's 0.996"
    momentum = Choice("teacher.momentum", round(min(0.996, max(0.9, 1 - LAG / steps)), 4), slow)
    return [length, prototypes, momentum]


def settled(hyper: Hyper, num_utterances: int) -> tuple[Hyper, list[Choice]]:
    """A copy in which no setting says `auto` any more, and what was chosen; itself where none did."""
    schedule = hyper.schedule
    told = None
    if schedule.length != AUTO:
        told = RunLength.of(schedule.length, num_utterances=num_utterances, batch_size=schedule.batch_size).num_steps
    chosen = [
        choice
        for choice in suggest_settings(num_utterances, batch_size=schedule.batch_size, num_steps=told)
        if _value(hyper, choice.name) == AUTO
    ]
    changes: dict[str, Any] = {}
    for choice in chosen:
        group, _, name = choice.name.partition(".")
        changes[group] = replace(getattr(hyper, group), **{name: choice.value})
    return (replace(hyper, **changes) if chosen else hyper), chosen


def _value(hyper: Hyperparameters, name: str) -> Any:
    group, _, setting = name.partition(".")
    return getattr(getattr(hyper, group), setting)
