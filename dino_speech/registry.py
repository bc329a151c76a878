"""Parts by name, those of this package and those that people add: a file of their own, and one line that names it.

The line is an entry point of the package that a person installs, in its `pyproject.toml`:

    [project.entry-points."dino_speech.encoders"]
    my_network = "my_package.my_network"

The module is imported when the name is asked for, and registers the part; in one's own script, importing it is enough.
A recipe can only say the name: what runs is what was installed.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from dino_speech.errors import InputError

Part = TypeVar("Part")


class Registry(Generic[Part]):
    """Parts of one kind; `known` holds those that are imported, by name.

    `parts` are those of this package by name, `elsewhere` the modules that put further ones into `known` when they are
    imported; `dino_speech.<plural>` is the group of entry points (`kind` is in the singular, and takes an s).
    """

    def __init__(
        self, kind: str, parts: Mapping[str, Part], elsewhere: Mapping[str, str] | None = None, *, plural: str = ""
    ) -> None:
        self.kind, self.group = kind, f"dino_speech.{plural or f'{kind}s'}"
        self.known = dict(parts)
        self._elsewhere = dict(elsewhere or {})
        self._reserved = {*parts, *self._elsewhere}

    def register(self, name: str, part: Part) -> None:
        """Make a part of one's own known; a former one of that name is replaced, as in a notebook run again."""
        if name in self._reserved:
            raise InputError(f"{self.kind} {name!r} is one of dino_speech; register yours under another name")
        self.known[name] = part

    def __iter__(self) -> Iterator[str]:
        """All names; nothing is imported for it."""
        return iter(dict.fromkeys([*self.known, *self._modules()]))

    def __getitem__(self, name: str) -> Part:
        """The part of that name, imported where it is not known yet; an error says which names there are."""
        if name not in self.known:
            module = self._modules().get(name)
            if module is None:
                near = get_close_matches(name, list(self), n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise InputError(f"no {self.kind} is called {name!r}{hint}; there are {', '.join(self)}")
            import_module(module)
            if name not in self.known:
                raise InputError(f"{module} is to register the {self.kind} {name!r}, and does not")
        return self.known[name]

    def _modules(self) -> dict[str, str]:
        return {point.name: point.module for point in entry_points(group=self.group)} | self._elsewhere
