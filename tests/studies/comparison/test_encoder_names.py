"""Names of encoders: readable, different, and the person's own where one is given."""

from pathlib import Path

import pytest

from dino_speech.errors import InputError
from dino_speech.studies.comparison.encoder_names import name_encoders, with_floor


def test_names_are_the_shortest_ends_that_differ() -> None:
    given = ["results/dino/encoder", "results/cpu/1986/encoder", "results/cpu/1987/encoder", "fbank_stats"]
    given += ["random:ecapa_tdnn", "untrained:results/dino/encoder", "mine"]
    expected = ["dino", "1986", "1987", "fbank_stats", "random:ecapa_tdnn", "untrained:dino", "mine"]
    assert name_encoders(given) == dict(zip(expected, given, strict=True))
    assert list(name_encoders(["a/x/encoder", "b/x/encoder", "b/y"])) == ["a/x", "b/x", "y"]


def test_a_name_may_be_given() -> None:
    assert name_encoders(["one=a/x/encoder", "b/x/encoder"]) == {"one": "a/x/encoder", "x": "b/x/encoder"}
    assert name_encoders({"one": Path("a")}) == {"one": "a"}
    assert list(name_encoders(["results/a=b/encoder"])) == ["a=b"]  # an equals sign in a path


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["dino=a", "b/dino/encoder"], "two systems are called 'dino': a and b/dino/encoder"),
        (["a/b", "a/b"], "given twice"),
        (["=a"], "its name is empty"),
        ("a", "expected a list"),
    ],
)
def test_mistakes_are_named(given: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        name_encoders(given)


def test_the_floor_is_found_or_added() -> None:
    systems = {"dino": "results/dino", "statistics": "fbank_stats"}
    assert with_floor(systems, "fbank_stats") == (systems, "statistics")
    assert with_floor(systems, "dino") == (systems, "dino")
    assert with_floor({"dino": "a"}, "fbank_stats") == ({"dino": "a", "fbank_stats": "fbank_stats"}, "fbank_stats")
    with pytest.raises(InputError, match="expected one of dino, statistics, or fbank_stats"):
        with_floor(systems, "other")
