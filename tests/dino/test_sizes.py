"""Sizes by corpus: the rules at their borders, `auto` resolved, and refused where nobody did."""

import pytest
from test_pretrain import make_trainer

from dino_speech.dino.sizes import settled, suggest_settings
from dino_speech.errors import InputError


@pytest.mark.parametrize(
    ("num_utterances", "prototypes"),
    [(500, 1_024), (20_000, 1_024), (20_001, 2_048), (60_000, 4_096), (200_000, 16_384), (1_090_000, 65_536)],
)
def test_prototypes_follow_the_number_of_utterances(num_utterances: int, prototypes: int) -> None:
    found = {choice.name: choice.value for choice in suggest_settings(num_utterances, batch_size=64)}
    assert found["head.num_prototypes"] == prototypes


def test_length_is_passes_with_a_floor_and_the_teacher_leaves_its_beginning() -> None:
    found = {c.name: c.value for c in suggest_settings(640, batch_size=64)}
    assert found["schedule.length"] == 5_000  # 100 passes were 1,000
    assert found["teacher.momentum"] == 0.996  # 1 - 14 / 5,000 is above the paper's
    for num_steps, momentum in ((800, 0.9825), (100, 0.9), (3_500, 0.996)):
        found = {c.name: c.value for c in suggest_settings(640, batch_size=64, num_steps=num_steps)}
        assert found["teacher.momentum"] == momentum
        left = (1 - (1 - momentum) / 2) ** num_steps  # of the initial network, at half the momentum's way to 1
        assert left < 0.01


def test_only_what_says_auto_is_chosen_and_what_nobody_resolved_is_refused() -> None:
    trainer = make_trainer(head={"num_prototypes": "auto"}, teacher={"momentum": "auto"})
    found, chosen = settled(trainer, 16)
    assert [choice.name for choice in chosen] == ["head.num_prototypes", "teacher.momentum"]
    assert (found.head.num_prototypes, found.teacher.momentum, found.schedule.length) == (1_024, 0.9, 4)
    assert trainer.head.num_prototypes == "auto"
    plain = make_trainer()
    assert settled(plain, 16) == (plain, [])
    with pytest.raises(InputError, match=r"head\.num_prototypes says auto.*settled\(trainer, len\(manifest\)\)"):
        trainer.steps(16)
    with pytest.raises(InputError, match="at least 1, or auto"):
        make_trainer(head={"num_prototypes": "many"})
