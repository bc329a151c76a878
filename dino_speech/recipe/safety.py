"""What a recipe may hold: tags, names and arguments, decided on the node tree before anything is constructed.

A recipe is a program: `!new:NAME` calls whatever Python object the name leads to. Recipes travel by mail and by git, so
they may name only what is listed here, and the list is compared as text: no attribute of a recipe's choosing is ever
looked up. Everything else is refused, unless the person says `--trust-recipe`.
"""

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import cache
from importlib import import_module
from typing import Any

import dino_speech
from dino_speech.recipe.yaml_text import (
    YAML_TAG,
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    children,
    error_at,
    get,
    walk,
)
from dino_speech.training.settings import groups_of, old_names_of, place_of

TUPLE_TAG = "!tuple"  # HyperPyYAML's; a text that is no tuple stays a text
SCALAR_TAGS = {f"{YAML_TAG}{kind}" for kind in ("str", "int", "float", "bool", "null")}
SCALAR_TAGS |= {"!ref", "!copy", "!PLACEHOLDER", TUPLE_TAG}
PLAIN_TAGS = {ScalarNode: SCALAR_TAGS, SequenceNode: {f"{YAML_TAG}seq"}, MappingNode: {f"{YAML_TAG}map"}}
CALL_TAGS = ("!new:", "!name:", "!apply:")
TUPLE = re.compile(r"\(\s*[-+\w./]+(\s*,\s*[-+\w./]+)*(\s*,)?\s*\)")

# `!apply:` calls a function while the recipe is read, so only these, which build and do not write.
APPLICABLE = {"build_encoder", "load_encoder", "read_manifest", "read_trials"}
FURTHER_NAMES = {
    "dino_speech.evaluation.monitor.Monitor",
    "speechbrain.lobes.features.Fbank",
    "speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN",
    "speechbrain.lobes.models.Xvector.Xvector",
}
# Its layers are free. Not torch.optim: a LambdaLR calls whatever it is handed.
LAYERS, LAYERS_HOME = "torch.nn", "torch.nn.modules."


def check_tree(tree: MappingNode) -> None:
    """Refuse every tag, name and argument that a recipe may not hold: a `RecipeError` that says where and what."""
    for node in walk(tree):
        _check_keys(node)
        if node.tag.startswith(CALL_TAGS):
            check_arguments(node, find_constructor(node))
        elif node.tag in SCALAR_TAGS and not isinstance(node, ScalarNode):
            raise error_at(node, f"{_short(node.tag)} belongs before a single text; found a {node.id}")
        elif node.tag not in PLAIN_TAGS[type(node)]:
            raise error_at(node, f"the tag {_short(node.tag)} is not allowed in a recipe{_trust()}")


def check_complete(tree: MappingNode) -> None:
    """Refuse a recipe that still holds a `!PLACEHOLDER`, with the option that gives it; call `check_tree` first."""

    def check(node: Node, path: str) -> None:
        if node.tag == "!PLACEHOLDER":
            raise error_at(node, f"{path} is missing; give --{path}=VALUE, or write it into the recipe")
        if isinstance(node, MappingNode):
            for key, value in node.value:
                check(value, f"{path}.{key.value}" if path else key.value)
        else:
            for child in children(node):
                check(child, path)

    check(tree, "")


def check_names(
    names: Iterable[tuple[str, Node]], allowed: Iterable[str], what: str, meant: Mapping[str, str] | None = None
) -> None:
    """Refuse the first name (with the node to point at) that `what` may not have, with the one that was probably meant.

    `meant` holds further names that people may have in mind, each with the place that it stands for.
    """
    allowed = list(allowed)
    known = {**(meant or {}), **{name: name for name in allowed}}
    for name, node in names:
        if name not in allowed:
            close = difflib.get_close_matches(name, known, n=1)
            cure = f"did you mean {known[close[0]]!r}?" if close else f"possible: {', '.join(allowed)}"
            raise error_at(node, f"{what} has no {name!r}; {cure}")


def find_constructor(node: Node) -> Callable[..., Any]:
    """The object that a `!new:`, `!name:` or `!apply:` tag names; a `RecipeError` if it may not, or not so."""
    tag, _, name = node.tag.partition(":")
    target = _allowed(name)
    if target is None:
        close = difflib.get_close_matches(name, _listed_names(), n=1, cutoff=0.8)
        cure = f"; did you mean {close[0]}?" if close else ""
        raise error_at(node, f"{tag}:{name} is not allowed in a recipe{cure}{_trust()}")
    if tag == "!name" and not name.startswith(f"{LAYERS}."):
        # What is handed on is called by whoever gets it, with arguments that nobody checked: a writing function, say.
        raise error_at(node, f"!name:{name} is not allowed in a recipe: only layers of {LAYERS} are{_trust()}")
    if tag == "!new" and not inspect.isclass(target):
        raise error_at(node, f"{name} is a function; write !apply:{name}")
    if tag == "!apply" and name.rpartition(".")[2] not in APPLICABLE:
        cure = f"; write !new:{name}" if inspect.isclass(target) else _trust()
        raise error_at(node, f"!apply:{name} is not allowed in a recipe{cure}")
    return target


def check_arguments(node: Node, target: Callable[..., Any]) -> None:
    """Compare the arguments in a recipe with the constructor's own: none may be unknown, missing or too many."""
    name = node.tag.partition(":")[2]
    if isinstance(node, ScalarNode) and node.value:
        raise error_at(node, f"arguments of {name} go into a mapping or a list; found {node.value!r}")
    parameters = inspect.signature(target).parameters.values()
    if isinstance(node, MappingNode) and all(p.kind is not p.VAR_KEYWORD for p in parameters):
        keywords = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        own, groups = name.rpartition(".")[2], groups_of(target)
        meant = {old: ".".join(place_of(new)[:2]) for old, new in old_names_of(target).items()}
        meant |= {field.name: f"{group}.{field.name}" for group, kind in groups.items() for field in fields(kind)}
        check_names(((key.value, key) for key, _ in node.value), keywords, own, meant)
        for group, kind in groups.items():
            given = get(node, group)
            if isinstance(given, MappingNode) and not given.tag.startswith("!"):
                known = [field.name for field in fields(kind)]
                check_names(((key.value, key) for key, _ in given.value), known, f"{own}.{group}")
    positional = [None] * len(node.value) if isinstance(node, SequenceNode) else []
    keyword = {key.value: None for key, _ in node.value} if isinstance(node, MappingNode) else {}
    signature = inspect.signature(target)
    try:
        bind = signature.bind_partial if node.tag.startswith("!name:") else signature.bind
        bind(*positional, **keyword)
    except TypeError as error:
        raise error_at(node, f"{name}: {error}") from error


def _check_keys(node: Node) -> None:
    if not isinstance(node, MappingNode):
        return
    keys: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, ScalarNode) or key.tag not in SCALAR_TAGS:
            raise error_at(key, f"a key must be a plain word; found {_short(key.tag)}")
        if key.value in keys:
            raise error_at(key, f"the key {key.value!r} stands here twice")
        keys.add(key.value)


@cache
def _listed_names() -> dict[str, tuple[str, str]]:
    """Every allowed name (of this package by its short and its long path) -> module, attribute."""
    names = {name: (name.rpartition(".")[0], name.rpartition(".")[2]) for name in FURTHER_NAMES}
    for attribute, module in dino_speech._HOMES.items():
        names[f"dino_speech.{attribute}"] = names[f"{module}.{attribute}"] = (module, attribute)
    return names


def _allowed(name: str) -> Callable[..., Any] | None:
    module, _, attribute = name.rpartition(".")
    if name in _listed_names():
        module, attribute = _listed_names()[name]
        if module.startswith("speechbrain."):
            from dino_speech.compatibility import require_torchaudio

            require_torchaudio()
        return getattr(import_module(module), attribute)
    if module == LAYERS and attribute.isidentifier() and not attribute.startswith("_"):
        namespace = vars(import_module(module))
        found = namespace.get(attribute)
        is_layer = inspect.isclass(found) and issubclass(found, namespace["Module"])
        return found if is_layer and found.__module__.startswith(LAYERS_HOME) else None
    return None


def _short(tag: str) -> str:
    return tag.replace(YAML_TAG, "!!")


def _trust() -> str:
    return "; if you know and trust its author: --trust-recipe"
