"""Checks of hyper-parameters before anything runs: each refusal names the value, and what was expected."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from dino_speech.errors import InputError


@dataclass(frozen=True)
class Range:
    """What values are good, for `Annotated`: in words, and as a test."""

    expected: str
    holds: Callable[[Any], bool]


COUNT = Range("a whole number, at least 1", lambda value: is_whole(value) and value >= 1)
COUNT_FROM_ZERO = Range("a whole number, at least 0", lambda value: is_whole(value) and value >= 0)
POSITIVE = Range("a positive number", lambda value: value > 0)
NOT_NEGATIVE = Range("a number that is not negative", lambda value: value >= 0)
SHARE = Range("a number from 0 to 1", lambda value: 0 <= value <= 1)
KINDS = {
    **{"counts": COUNT, "counts_from_zero": COUNT_FROM_ZERO, "positive": POSITIVE, "not_negative": NOT_NEGATIVE},
    "shares": SHARE,
}
# Types that declare it of a field: `lr: Positive`, `max_minutes: Positive | None`.
Count = Annotated[int, COUNT]
CountFromZero = Annotated[int, COUNT_FROM_ZERO]
Positive = Annotated[float, POSITIVE]
NotNegative = Annotated[float, NOT_NEGATIVE]
Share = Annotated[float, SHARE]
AUTO = "auto"  # a value that follows from the corpus
AutoCount = Annotated[int, Range(f"{COUNT.expected}, or auto", lambda value: value == AUTO or COUNT.holds(value))]
AutoShare = Annotated[float, Range(f"{SHARE.expected}, or auto", lambda value: value == AUTO or SHARE.holds(value))]
PositiveShare = Annotated[float, POSITIVE, SHARE]


def require_declared(owner: object) -> None:
    """Check each attribute of a dataclass by what its type declares: a `Range` (None is left out), or a `Literal`."""
    for name, hint in get_type_hints(type(owner), include_extras=True).items():
        for part in (hint, *get_args(hint)):
            if get_origin(part) is Annotated:
                for declared in part.__metadata__:
                    require(name, getattr(owner, name), declared.expected, declared.holds)
            elif get_origin(part) is Literal and not (getattr(owner, name) is None and type(None) in get_args(hint)):
                require_choice(owner, name, get_args(part))


def require_ranges(owner: object, **names_by_kind: Sequence[str]) -> None:
    """Check attributes of `owner`, given by kind (see `KINDS`); one that is None is left to its own rule."""
    for kind, names in names_by_kind.items():
        for name in names:
            require(name, getattr(owner, name), KINDS[kind].expected, KINDS[kind].holds)


def require(name: str, value: Any, expected: str, holds: Callable[[Any], bool]) -> None:
    """Refuse a value for which `holds` is false, or that it cannot judge; None is not judged."""
    try:
        good = value is None or holds(value)
    except TypeError:
        good = False
    if not good:
        raise InputError(f"{name} = {value!r}: expected {expected}")


def require_choice(owner: object, name: str, choices: Sequence[str]) -> None:
    """Refuse an attribute that is not one of the choices."""
    value = getattr(owner, name)
    if value not in choices:
        raise InputError(f"{name} = {value!r}: expected one of {', '.join(choices)}")


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, and not a truth value."""
    return isinstance(value, int) and not isinstance(value, bool)
