"""Settings in groups: small dataclasses by subject, given as mappings or objects; former flat names still lead there.

A training is a dataclass with fields that are `Settings`; `in_groups` lets its constructor take a mapping for each of
them, and the names that its settings had when they stood side by side.
"""

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, Literal, TypeVar

from dino_speech.argument_checks import Count, CountFromZero, NotNegative, Positive, require_declared
from dino_speech.errors import InputError

logger = logging.getLogger(__name__)

Training = TypeVar("Training")
Group = TypeVar("Group", bound="Settings")
# Class -> its former flat names, each with its place now: "lr" -> "optimizer.lr". A form follows where several names
# became one: "num_epochs" -> "schedule.length={} epochs"; there null, which left it to the other name, is dropped.
OLD_NAMES: dict[type, Mapping[str, str]] = {}


@dataclass
class Settings:
    """What groups of settings have in common: each field's type declares its range (`argument_checks`)."""

    def __post_init__(self) -> None:
        require_declared(self)

    @classmethod
    def of(cls: type[Group], name: str, given: "Settings | Mapping[str, Any] | None") -> Group:
        """The group from a mapping, or itself; from None the defaults.

        Raises:
            InputError: a key is unknown, or a value outside its range; with the group's name.
        """
        if isinstance(given, cls):
            return given
        if given is not None and not isinstance(given, Mapping):
            raise InputError(f"{name} = {given!r}: expected a mapping of {', '.join(f.name for f in fields(cls))}")
        known = [field.name for field in fields(cls)]
        for key in given or {}:
            if key not in known:
                close = get_close_matches(str(key), known, n=1)
                cure = f"did you mean {close[0]!r}?" if close else f"possible: {', '.join(known)}"
                raise InputError(f"{name} has no {key!r}; {cure}")
        try:
            return cls(**(given or {}))
        except InputError as error:
            raise InputError(f"{name}: {error}") from error


@dataclass
class RunSettings(Settings):
    """How a run is carried out, not what it computes: all of it may change when the run is resumed."""

    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"  # what "auto" becomes must stay the same
    num_workers: CountFromZero | None = None  # reading processes; None: what the cores allow
    cache_gib: NotNegative = 2.0  # memory for decoded waves; ours: 18 hours of speech; only what is used is taken
    log_every: Count = 20  # optimizer steps between rows of the history
    save_every_minutes: Positive = 10.0
    save_every_steps: Count | None = None  # in addition
    max_minutes: Positive | None = None  # stop cleanly after so long, wherever the schedules are; `fit` again goes on


# What `run` held when it stood flat.
OLD_RUN_NAMES = {field.name: f"run.{field.name}" for field in fields(RunSettings)}


def in_groups(old_names: Mapping[str, str]) -> Callable[[type[Training]], type[Training]]:
    """Let the constructor of a dataclass take mappings for its groups, and former flat names (see `OLD_NAMES`).

    Example:
        >>> from dataclasses import field
        >>> @in_groups({"num_workers": "run.num_workers"})
        ... @dataclass
        ... class Learner:
        ...     lr: float
        ...     run: RunSettings = field(default_factory=RunSettings)
        >>> Learner(0.1, run={"num_workers": 2}).run.num_workers
        2
    """

    def decorate(cls: type[Training]) -> type[Training]:
        init = cls.__init__
        OLD_NAMES[cls] = old_names

        @functools.wraps(init)  # keeps the signature, by which recipes are checked
        def grouped(self: Any, *args: Any, **given: Any) -> None:
            moved, used = move_old_names(given, old_names)
            if used:
                warn_of_old_names(type(self).__name__, used)
            for name, group in groups_of(cls).items():
                if name in moved:
                    moved[name] = group.of(name, moved[name])
            init(self, *args, **moved)

        cls.__init__ = grouped  # type: ignore[method-assign]
        return cls

    return decorate


def groups_of(target: Any) -> dict[str, type[Settings]]:
    """The groups among the fields of a training, by name; none for anything else."""
    found = OLD_NAMES.keys() & set(getattr(target, "__mro__", ()))
    kinds = {field.name: field.type for field in fields(target)} if found else {}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Settings)}


def old_names_of(target: Any) -> Mapping[str, str]:
    """The former flat names of a training."""
    return next((OLD_NAMES[cls] for cls in getattr(target, "__mro__", ()) if cls in OLD_NAMES), {})


def place_of(new: str) -> tuple[str, str, str]:
    """An entry of `OLD_NAMES` -> group, name, form of the value ("" as it is)."""
    path, _, form = new.partition("=")
    group, _, name = path.partition(".")
    return group, name, form


def move_old_names(given: Mapping[str, Any], old_names: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Arguments with each former flat name moved into its group, and the names that were moved, old to new."""
    groups = {place_of(new)[0] for new in old_names.values()}
    moved = {name: v for name, v in given.items() if name not in old_names or (name in groups and is_group(v))}
    used = {}
    for old in [name for name in given if name not in moved]:
        group, name, form = place_of(old_names[old])
        used[old] = f"{group}.{name}"
        present, value = moved.get(group), given[old]
        if form and value is None:
            continue
        value = value if form in ("", "{}") else form.format(value)
        if isinstance(present, Settings):  # as dataclasses.replace gives it
            moved[group] = replace(present, **{name: value})
        elif name in (present or {}):
            raise InputError(f"{old} and {group}.{name} are both given; give only {group}.{name}")
        else:
            moved[group] = {**(present or {}), name: value}
    return moved, used


def is_group(value: Any) -> bool:
    """Whether a value stands for a whole group, where a former setting had the group's name (`optimizer: adamw`)."""
    return value is None or isinstance(value, (Settings, Mapping))


def warn_of_old_names(owner: str, used: Mapping[str, str]) -> None:
    """Say once which new names to write; the old ones are read for one version more."""
    named = ", ".join(f"{old} -> {new}" for old, new in sorted(used.items()))
    logger.warning("%s: settings stand in groups now; please write the new names: %s", owner, named)
