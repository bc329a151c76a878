"""Schedules at their ends and between, against NumPy's interpolation and the textbook cosine."""

import math

import numpy as np
import pytest

from dino_speech.errors import InputError
from dino_speech.training.schedules import cosine, linear_warmup, warmup_cosine


def test_linear_warmup_is_interpolation_and_stays_at_its_end() -> None:
    steps = np.arange(30)
    found = [linear_warmup(int(step), 10, 0.04, 0.07) for step in steps]
    np.testing.assert_allclose(found, np.interp(steps, [0, 10], [0.04, 0.07]), rtol=1e-12)
    assert linear_warmup(0, 10, 0.04, 0.07) == pytest.approx(0.04)
    assert linear_warmup(0, 0, 0.04, 0.07) == 0.07


def test_cosine_has_its_ends_its_middle_and_flat_tangents() -> None:
    values = [cosine(step, 1000, 0.996, 1.0) for step in range(1001)]
    assert (values[0], values[500], values[1000]) == pytest.approx((0.996, 0.998, 1.0))
    assert values[999] < 1.0  # the teacher still follows at the last step
    assert np.all(np.diff(values) > 0)
    assert values[1] - values[0] < (values[501] - values[500]) / 100
    assert cosine(5000, 1000, 0.996, 1.0) == 1.0
    expected = [1.0 + (0.996 - 1.0) * (1 + math.cos(math.pi * step / 1000)) / 2 for step in range(1001)]
    np.testing.assert_allclose(values, expected, rtol=1e-12)


def test_warmup_cosine_rises_to_its_peak_then_falls() -> None:
    values = [warmup_cosine(step, 100, 2e-3, 1e-6, warmup_steps=10) for step in range(101)]
    np.testing.assert_allclose(values[:11], np.linspace(0, 2e-3, 11), atol=1e-15)
    assert max(values) == values[10] == pytest.approx(2e-3)
    assert np.all(np.diff(values[10:]) < 0)
    assert values[100] == pytest.approx(1e-6)
    assert values[55] == pytest.approx((2e-3 + 1e-6) / 2)


def test_warmup_cosine_without_warmup_is_the_cosine() -> None:
    for step in (0, 3, 50, 100, 200):
        assert warmup_cosine(step, 100, 1.0, 0.1, warmup_steps=0) == cosine(step, 100, 1.0, 0.1)


@pytest.mark.parametrize("warmup_steps", [100, 101, -1])
def test_a_warmup_that_the_run_cannot_hold_is_refused(warmup_steps: int) -> None:
    with pytest.raises(InputError, match=rf"a warm-up of {warmup_steps} steps, but the run has 100.*shorter"):
        warmup_cosine(0, 100, 1.0, warmup_steps=warmup_steps)


def test_negative_steps_are_refused() -> None:
    with pytest.raises(InputError, match="step -1 of 10"):
        cosine(-1, 10, 0.0, 1.0)
