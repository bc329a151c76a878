"""Properties are tried on the same examples in every run, and not by the clock: a busy machine fails none of them."""

import os
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "derandomized",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("derandomized")

with suppress(ImportError):  # before 6.131 there is no such thing
    from hypothesis.internal.conjecture import providers

    # It would mix in constants of all modules that are imported: examples would depend on the tests before, and
    # SpeechBrain's lazy modules fail when they are looked into.
    providers._get_local_constants = lambda: providers._local_constants


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
