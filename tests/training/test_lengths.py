"""Lengths of schedules in steps, shares, epochs and utterances."""

from dataclasses import dataclass

import pytest

from dino_speech.errors import InputError
from dino_speech.training.schedules import Length, LengthOfRun, RunLength
from dino_speech.training.settings import Settings


@dataclass
class Plan(Settings):
    length: LengthOfRun = 100
    warmup: Length | None = None


def test_a_run_in_any_words():
    lengths = [70, "70 steps", "7 epochs", "3360 utterances", "3_360utterances", "0.7 epochs", "1 utterance"]
    runs = [RunLength.of(length, num_utterances=500, batch_size=48) for length in lengths]
    assert [run.num_steps for run in runs] == [70, 70, 70, 70, 70, 7, 1]
    assert {run.steps_per_epoch for run in runs} == {10}


def test_a_tenth_is_what_division_by_ten_gives():
    for num_steps in (*range(400), 15_000, 99_999):
        run = RunLength(num_steps, 1, 1)
        assert run.count(0.1) == run.count("10 %") == num_steps // 10
        assert run.count("5%") == num_steps // 20


def test_another_batch_needs_no_other_number():
    for batch_size in (16, 32, 64):
        run = RunLength.of("20 epochs", num_utterances=6400, batch_size=batch_size)
        utterances = [run.count(length) * batch_size for length in ("10 %", "2 epochs", "12800 utterances", 0.1)]
        assert utterances == [12_800] * 4


@pytest.mark.parametrize("length", [-1, 1.0, 2.5, True, "", "5", "5 weeks", "-3 epochs", "120 %", [3], "1 epochs 2"])
def test_what_is_no_length_is_refused(length):
    with pytest.raises(InputError, match=r"warmup = .*: expected steps \(800\), a share of the run"):
        Plan(warmup=length)


@pytest.mark.parametrize("length", [0, 0.5, "10 %", "0 epochs"])
def test_a_run_is_no_share_and_not_empty(length):
    with pytest.raises(InputError, match=r"length = .*: expected steps \(800\), '70 epochs' or"):
        Plan(length=length)
    assert Plan(warmup=length).warmup == length
