"""Objects from the checked nodes of a recipe.

HyperPyYAML's own constructor is not used for a recipe that nobody vouches for: it reads the inside of every text in
parentheses, `(...)`, with a YAML loader that runs any Python. Here a tuple holds plain values, and a name leads only to
what `safety.py` lists, so that a hole in the check before would still not be a way out.
"""

from functools import partial
from typing import Any

from dino_speech.errors import RecipeError
from dino_speech.models.bounded_memory import bounded_memory
from dino_speech.recipe.safety import CALL_TAGS, PLAIN_TAGS, TUPLE, TUPLE_TAG, find_constructor
from dino_speech.recipe.yaml_text import (
    STRING,
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    compose,
    error_at,
    scalar_value,
)


def construct_tree(tree: MappingNode) -> dict[str, Any]:
    """The values of a recipe; a node that stands in two places (`!ref`, an alias) is made once and shared."""
    made: dict[int, Any] = {}

    def make(node: Node) -> Any:
        if id(node) not in made:
            made[id(node)] = _call(node, make) if node.tag.startswith(CALL_TAGS) else _plain(node, make)
        return made[id(node)]

    with bounded_memory():
        return {key.value: make(value) for key, value in tree.value}


def _plain(node: Node, make: Any) -> Any:
    if isinstance(node, MappingNode):
        return {key.value: make(value) for key, value in node.value}
    if isinstance(node, SequenceNode):
        return [make(value) for value in node.value]
    if node.tag not in PLAIN_TAGS[ScalarNode]:
        raise error_at(node, f"the tag {node.tag} is not allowed in a recipe")
    is_text = node.tag == TUPLE_TAG or (node.tag == STRING and node.style is None)
    if is_text and TUPLE.fullmatch(node.value):
        return _tuple(node)
    try:
        return str(node.value) if is_text else scalar_value(node)
    except ValueError as error:
        raise error_at(node, f"{node.value!r} {error}") from error


def _tuple(node: ScalarNode) -> tuple[Any, ...]:
    inner = compose(f"[{node.value.strip()[1:-1]}]", str(node.start_mark.name))
    assert isinstance(inner, SequenceNode)
    for item in inner.value:
        item.start_mark = node.start_mark
    return tuple(_plain(item, None) for item in inner.value)


def _call(node: Node, make: Any) -> Any:
    target = find_constructor(node)
    positional = [make(value) for value in node.value] if isinstance(node, SequenceNode) else []
    keyword = {key.value: make(value) for key, value in node.value} if isinstance(node, MappingNode) else {}
    if node.tag.startswith("!name:"):
        return partial(target, *positional, **keyword) if positional or keyword else target
    try:
        return target(*positional, **keyword)
    except RecipeError:
        raise
    except Exception as error:  # whatever a value of the wrong kind or size leads a constructor to
        name = node.tag.partition(":")[2].rpartition(".")[2]
        raise error_at(node, f"{name}: {error or type(error).__name__}") from error
