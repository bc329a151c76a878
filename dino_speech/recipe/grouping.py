"""Settings in groups, on the node tree: where a setting stands in a recipe, by its name of today or its former one.

`trainer: {lr: 1e-3}` and `--trainer.lr=1e-3` become `trainer: {optimizer: {lr: 1e-3}}`, before anything else looks; so
an option finds the recipe's own value, whichever name either uses.
"""

from typing import Any

import dino_speech
from dino_speech.recipe.yaml_text import MAPPING, NULL, STRING, MappingNode, Node, ScalarNode, error_at, get, walk
from dino_speech.training.settings import groups_of, old_names_of, place_of, warn_of_old_names


def regroup(tree: Node) -> None:
    """Move former flat names below every constructor into their groups.

    Raises:
        RecipeError: a setting is given by its old and by its new name.
    """
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
    if key.value not in old_names_of(target):
        return False
    whole = isinstance(value, MappingNode) or value.tag == NULL or value.tag == "!ref"
    return not (key.value in groups_of(target) and whole)
