"""A recipe's text as a tree of YAML nodes: composed, completed by its `base` and by the options of the command line.

Nothing is constructed here: a node is a tag, a text and a place in a file. Settings under their former flat names move
into their groups before anything else looks, `trainer: {lr: 1e-3}` and `--trainer.lr=1e-3` into `trainer: {optimizer:
{lr: 1e-3}}`; so an option finds the recipe's own value, whichever name either uses.
"""

import itertools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from yaml import Mark

import dino_speech
from dino_speech.errors import RecipeError, RecipeOptionError
from dino_speech.received_files import read_bytes
from dino_speech.recipe.yaml_text import (
    MAPPING,
    MAX_CHARACTERS,
    NULL,
    STRING,
    MappingNode,
    Node,
    ScalarNode,
    compose,
    error_at,
    get,
    walk,
)
from dino_speech.training.settings import groups_of, old_names_of, place_of, warn_of_old_names

MAX_BASES = 4
RECIPES = "recipes"  # a base may lie anywhere below the nearest folder of this name, and nowhere else
BASE_PATH = re.compile(r"(?:[\w. -]+/)*[\w. -]+\.ya?ml")  # neither absolute, nor of a user, a drive or a network


def read_tree(path: str | Path, overrides: Iterable[str] = ()) -> MappingNode:
    """The recipe's nodes, with those of its `base` beneath and the overrides (`--key.subkey=YAML`) on top.

    A `base` names another file of the same folder, or of the same tree below a folder `recipes`: the recipe then states
    only its difference. A mapping without tag is merged into the arguments of the base's `!new:` or `!apply:`, and into
    a group of settings among these; everything else replaces the base's value whole.

    Raises:
        RecipeError: a file is missing, is no YAML mapping, or the overrides do not fit it.
    """
    path = Path(path)
    tree = _compose_file(path)
    seen, differences = [path.resolve()], []
    while (base := get(tree, "base")) is not None:
        path = _base_path(base, path.parent)
        if path.resolve() in seen or len(seen) > MAX_BASES:
            raise error_at(base, f"the recipe {base.value} rests on itself, or on more than {MAX_BASES} others")
        seen.append(path.resolve())
        differences.append([pair for pair in tree.value if pair[0].value != "base"])
        tree = _compose_file(path)
    # From the bottom up: arguments that two recipes change are merged into the constructor's one after the other.
    for pair in itertools.chain.from_iterable(reversed(differences)):
        _lay_over(tree, *pair)
    for override in overrides:
        _apply(tree, override)
    return tree


def _base_path(base: Node, folder: Path) -> Path:
    """The file that a `base` names: beside the recipe, or elsewhere below the nearest folder `recipes` that holds it.

    A recipe from a stranger may not open whatever file it likes, not even by a link.
    """
    name, home = base.value, folder.resolve()
    tree = next((above for above in (home, *home.parents) if above.name == RECIPES), home)
    fine = isinstance(base, ScalarNode) and BASE_PATH.fullmatch(name) is not None
    if not fine or not (folder / name).resolve().is_relative_to(tree):
        raise error_at(
            base,
            f"base must be a recipe of the same folder, e.g. ecapa.yaml, or of the same folder"
            f" `{RECIPES}` by its relative path, e.g. ../../dino/hparams/ecapa.yaml; found {str(name)[:100]!r}",
        )
    return folder / name


def _compose_file(path: Path) -> MappingNode:
    if not path.is_file():
        raise RecipeError(f"{path}: no such recipe; give the path of a YAML file")
    try:
        text = read_bytes(path, max_bytes=4 * MAX_CHARACTERS).decode()
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not a text file in UTF-8 ({error})") from error
    tree = compose(text, str(path))
    if not isinstance(tree, MappingNode) or tree.tag != MAPPING:
        raise RecipeError(f"{path}: expected a YAML mapping of keys to values")
    regroup(tree)
    return tree


def _lay_over(mapping: MappingNode, key: Node, value: Node) -> None:
    """Put a value under a key; a constructor's arguments, and groups among them, merge with a mapping without tag."""
    groups = groups_of(training_of(mapping))
    mapping, key, laid = in_its_group(mapping, key, value)
    if laid is None:
        return
    value = laid
    for number, (present_key, present) in enumerate(mapping.value):
        if present_key.value == key.value:
            merged = isinstance(present, MappingNode) and (present.tag != MAPPING or key.value in groups)
            if merged and isinstance(value, MappingNode) and value.tag == MAPPING:
                for pair in value.value:
                    _lay_over(present, *pair)
            else:
                mapping.value[number] = (key, value)
            return
    mapping.value.append((key, value))


def _apply(tree: MappingNode, override: str) -> None:
    option, equals, text = override.partition("=")
    keys = option.removeprefix("--").split(".")
    if not override.startswith("--") or not equals or not all(key.replace("-", "_").isidentifier() for key in keys):
        raise RecipeOptionError(f"{override!r}: expected --key=value or --key.subkey=value")
    value = compose(text, option)
    if value is None:  # `--monitor=` is null, as `monitor:` in a file
        value = ScalarNode(NULL, "", start_mark=Mark(option, 0, 0, 0, None, None))
    for number, key in enumerate(keys[:-1]):
        below = group_in(tree, key.replace("-", "_")) or get(tree, _spelt(tree, key))
        if not isinstance(below, MappingNode):
            known = "is not a mapping" if below is not None else "is not in the recipe"
            raise error_at(value, f"{'.'.join(keys[: number + 1])} {known}")
        tree = below
    _lay_over(tree, ScalarNode(STRING, _spelt(tree, keys[-1]), start_mark=value.start_mark), value)


def _spelt(tree: MappingNode, key: str) -> str:
    """A key as the recipe spells it, where `-` and `_` are alike; a new one with `_`."""
    plain = key.replace("-", "_")
    known = [present.value for present, _ in tree.value if str(present.value).replace("-", "_") == plain]
    return key if key in known else known[0] if known else plain


def regroup(tree: Node) -> None:
    """Move former flat names below every constructor into their groups."""
    for node in list(walk(tree)):
        if not isinstance(node, MappingNode):
            continue
        old = [pair for pair in node.value if _is_old(node, *pair)]
        node.value = [pair for pair in node.value if pair not in old]
        for key, value in old:
            mapping, name, moved = in_its_group(node, key, value)
            if moved is not None and get(mapping, name.value) is not None:
                new = ".".join(place_of(old_names_of(training_of(node))[key.value])[:2])
                raise error_at(key, f"{key.value} and {new} are both given; give only {new}")
            if moved is not None:
                mapping.value.append((name, moved))


def in_its_group(mapping: MappingNode, key: Node, value: Node) -> tuple[MappingNode, Node, Node | None]:
    """Where a setting of a constructor belongs: the mapping, the key and the value; None: nowhere, it says nothing."""
    if not _is_old(mapping, key, value):
        return mapping, key, value
    target = training_of(mapping)
    group, name, form = place_of(old_names_of(target)[key.value])
    warn_of_old_names(target.__name__, {key.value: f"{group}.{name}"})
    if form and value.tag == NULL:
        return mapping, key, None
    if form not in ("", "{}"):  # a reference stays one: `!ref <n>` -> `!ref <n> epochs`
        tag = value.tag if value.tag.startswith("!") else STRING
        value = ScalarNode(tag, form.format(value.value), value.start_mark)
    below = group_in(mapping, group)
    assert below is not None
    return below, ScalarNode(STRING, name, key.start_mark), value


def group_in(mapping: Node, name: str) -> MappingNode | None:
    """A group of a constructor's settings, made where the recipe has none yet; None: this is no group."""
    below = get(mapping, name)
    if isinstance(below, MappingNode) or name not in groups_of(training_of(mapping)):
        return below if isinstance(below, MappingNode) else None
    made = MappingNode(MAPPING, [], mapping.start_mark)
    mapping.value = [pair for pair in mapping.value if pair[0].value != name]
    mapping.value.append((ScalarNode(STRING, name, mapping.start_mark), made))
    return made


def training_of(node: Node) -> Any:
    """The class that a `!new:` names, if it is a public one of this package."""
    tag, _, name = node.tag.partition(":")
    module, _, attribute = name.rpartition(".")
    home = dino_speech._HOMES.get(attribute)
    return getattr(dino_speech, attribute) if tag == "!new" and home and module in ("dino_speech", home) else None


def _is_old(mapping: Node, key: Node, value: Node) -> bool:
    target = training_of(mapping)
    if not isinstance(key, ScalarNode) or key.value not in old_names_of(target):  # a mapping as key is refused later
        return False
    whole = isinstance(value, MappingNode) or value.tag == NULL or value.tag == "!ref"
    return not (key.value in groups_of(target) and whole)
