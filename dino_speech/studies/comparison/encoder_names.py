"""The encoders of a comparison: what each is called, where it comes from, and which row the others are held against."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from dino_speech.errors import InputError
from dino_speech.models.checkpoint import UNTRAINED
from dino_speech.models.encoder import SpeechEncoder

FLOOR = "fbank_stats"
SAVED_AS = "encoder"  # the last folder of a training's result, which says nothing
Source = str | SpeechEncoder
Given = Mapping[str, Source | os.PathLike[str]] | Sequence[str | os.PathLike[str]]


def name_encoders(given: Given) -> dict[str, Source]:
    """Name -> encoder, or where `load_encoder` finds it; InputError: none, an empty name, a name or a place twice.

    A place in a list has its name before it ("mine=results/dino"), or as many of its last folders as tell it apart.

    Example:
        >>> list(name_encoders(["results/dino/encoder", "results/old/encoder", "fbank_stats", "b=random:xvector"]))
        ['dino', 'old', 'fbank_stats', 'b']
    """
    if isinstance(given, (str, os.PathLike)) or not len(given):
        raise InputError(f"systems is {given!r}; expected a list of encoders' folders, or a mapping of names to them")
    if isinstance(given, Mapping):
        pairs: list[tuple[str | None, Source]] = [(name, _plain(source)) for name, source in given.items()]
    else:
        pairs = [_split(os.fspath(text)) for text in given]
    unnamed = [source for name, source in pairs if name is None and isinstance(source, str)]
    names = _names(unnamed)
    found: dict[str, Source] = {}
    for given_name, source in pairs:
        name = names[str(source)] if given_name is None else given_name
        if not name:
            raise InputError(f"{source}: its name is empty; write NAME={source}")
        if name in found:
            raise InputError(
                f"two systems are called {name!r}: {_place(found[name])} and {_place(source)}; give each a name of its"
                " own, as in NAME=FOLDER"
            )
        found[name] = source
    return found


def with_floor(encoders: Mapping[str, Source], floor: str) -> tuple[dict[str, Source], str]:
    """The encoders, and `fbank_stats` where that is the floor and is not among them; and the floor's name.

    `floor` is a name, or a place that is among them, or "fbank_stats"; InputError where there is no such encoder.
    """
    if floor in encoders:
        return dict(encoders), floor
    for name, source in encoders.items():
        if source == floor:
            return dict(encoders), name
    if floor == FLOOR:
        return {**encoders, FLOOR: FLOOR}, FLOOR
    raise InputError(f"the floor {floor!r} is none of the systems; expected one of {', '.join(encoders)}, or {FLOOR}")


def _split(text: str) -> tuple[str | None, Source]:
    """A name and a place; a path may hold an equals sign, too."""
    name, equals, source = text.partition("=")
    if not equals or Path(text).exists() or "/" in name:
        return None, text
    return name.strip(), source


def _names(sources: Sequence[str]) -> dict[str, str]:
    """Place -> the shortest end of its path that no other place has."""
    if twice := sorted({source for source in sources if sources.count(source) > 1}):
        raise InputError(f"{twice[0]}: given twice; leave one out, or give both a name: NAME={twice[0]}")
    parts = {source: _parts(source) for source in sources}
    names = {}
    for source, own in parts.items():
        alike = [place for place in parts if place != source and _prefix(place) == _prefix(source)]
        others = [parts[place] for place in alike]
        length = next((n for n in range(1, len(own)) if all(other[-n:] != own[-n:] for other in others)), len(own))
        names[source] = "/".join(own[-length:])
    return {source: f"{_prefix(source)}{name}" for source, name in names.items()}


def _parts(source: str) -> list[str]:
    """The folders of a path, without the last one where it is `encoder`; of anything else its only name."""
    path = source.removeprefix(_prefix(source))
    if path == source and (":" in source or "/" not in source):
        return [source]
    parts = list(Path(os.path.abspath(path)).parts[1:])  # noqa: PTH100 - links keep the name that was given
    return parts[:-1] if len(parts) > 1 and parts[-1] == SAVED_AS else parts


def _prefix(source: str) -> str:
    return UNTRAINED if source.startswith(UNTRAINED) else ""


def _plain(source: Source | os.PathLike[str]) -> Source:
    return source if isinstance(source, SpeechEncoder) else os.fspath(source)


def _place(source: Source) -> str:
    return source if isinstance(source, str) else "an encoder in memory"
