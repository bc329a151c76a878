"""Checks of hyper-parameters before anything runs: each refusal names the value, and what was expected."""

from collections.abc import Callable, Sequence
from typing import Any

from dino_speech.errors import InputError


def require_ranges(
    owner: object,
    *,
    counts: Sequence[str] = (),
    counts_from_zero: Sequence[str] = (),
    positive: Sequence[str] = (),
    not_negative: Sequence[str] = (),
    shares: Sequence[str] = (),
) -> None:
    """Check attributes of `owner`, given by kind; one that is None is left to its own rule.

    Raises:
        InputError: a value is out of its range, or no number.
    """
    kinds: list[tuple[Sequence[str], str, Callable[[Any], bool]]] = [
        (counts, "a whole number, at least 1", lambda value: is_whole(value) and value >= 1),
        (counts_from_zero, "a whole number, at least 0", lambda value: is_whole(value) and value >= 0),
        (positive, "a positive number", lambda value: value > 0),
        (not_negative, "a number that is not negative", lambda value: value >= 0),
        (shares, "a number from 0 to 1", lambda value: 0 <= value <= 1),
    ]
    for names, expected, holds in kinds:
        for name in names:
            require(name, getattr(owner, name), expected, holds)


def require(name: str, value: Any, expected: str, holds: Callable[[Any], bool]) -> None:
    """Refuse a value for which `holds` is false, or that it cannot judge; None is not judged.

    Raises:
        InputError: naming the value and what was expected.
    """
    try:
        good = value is None or holds(value)
    except TypeError:
        good = False
    if not good:
        raise InputError(f"{name} = {value!r}: expected {expected}")


def require_choice(owner: object, name: str, choices: Sequence[str]) -> None:
    """Refuse an attribute that is not one of the choices.

    Raises:
        InputError: naming the choices.
    """
    value = getattr(owner, name)
    if value not in choices:
        raise InputError(f"{name} = {value!r}: expected one of {', '.join(choices)}")


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, and not a truth value."""
    return isinstance(value, int) and not isinstance(value, bool)
