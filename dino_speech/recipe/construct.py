"""Objects from the checked nodes of a recipe.

HyperPyYAML's own constructor is not used for a recipe that nobody vouches for: it reads the inside of every text in
parentheses, `(...)`, with a YAML loader that runs any Python. Here a tuple holds plain values, and a name leads only to
what `safety.py` lists, so that a hole in the check before would still not be a way out.
"""

from functools import partial
from typing import Any

from ruamel.yaml import YAML

from dino_speech.errors import InputError, RecipeError
from dino_speech.recipe.nodes import MappingNode, Node, ScalarNode, SequenceNode, compose, place, tag_of
from dino_speech.recipe.safety import PLAIN_TAGS, TUPLE, find_constructor


def construct_tree(tree: MappingNode) -> dict[str, Any]:
    """The values of a recipe; a node that stands in two places (`!ref`, an alias) is made once and shared.

    Raises:
        RecipeError: a constructor refuses its arguments; with the file and line of the `!new:`.
    """
    made: dict[int, Any] = {}

    def make(node: Node) -> Any:
        if id(node) not in made:
            made[id(node)] = _call(node, make) if tag_of(node).startswith("!") else _plain(node, make)
        return made[id(node)]

    return {key.value: make(value) for key, value in tree.value}


def _plain(node: Node, make: Any) -> Any:
    if isinstance(node, MappingNode):
        return {key.value: make(value) for key, value in node.value}
    if isinstance(node, SequenceNode):
        return [make(value) for value in node.value]
    if isinstance(node, ScalarNode) and node.style is None and TUPLE.fullmatch(node.value):
        return _tuple(node)
    if node.tag not in PLAIN_TAGS:
        raise RecipeError(f"{place(node)}: the tag {node.tag} is not allowed in a recipe")
    try:
        return YAML(typ="safe", pure=True).constructor.construct_object(node)
    except ValueError as error:
        raise RecipeError(f"{place(node)}: {node.value!r}: {error}") from error


def _tuple(node: ScalarNode) -> tuple[Any, ...]:
    inner = compose(f"[{node.value.strip()[1:-1]}]", str(node.start_mark.name))
    assert isinstance(inner, SequenceNode)
    return tuple(_plain(item, None) for item in inner.value)


def _call(node: Node, make: Any) -> Any:
    target = find_constructor(node)
    positional = [make(value) for value in node.value] if isinstance(node, SequenceNode) else []
    keyword = {key.value: make(value) for key, value in node.value} if isinstance(node, MappingNode) else {}
    if tag_of(node).startswith("!name:"):
        return partial(target, *positional, **keyword) if positional or keyword else target
    try:
        return target(*positional, **keyword)
    except RecipeError:
        raise
    except (InputError, ValueError, TypeError) as error:
        name = tag_of(node).partition(":")[2].rpartition(".")[2]
        raise RecipeError(f"{place(node)}: {name}: {error}") from error
