"""References of a recipe: `!ref <key[subkey]>` and `!copy <key>`, with arithmetic and text around them.

The syntax is HyperPyYAML's, read on the node tree, with four departures: a reference may stand before the key that it
names; negative numbers take part in arithmetic; there are no powers and no text multiplication (a one-line recipe could
otherwise fill the memory); and `<key.attribute>` is refused, because it would call `getattr` on a finished object.
"""

import ast
import copy
import difflib
import operator
import re

from dino_speech.recipe.yaml_text import (
    STRING,
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

REFERENCE = re.compile(r"<([^<>]*)>")
KEY_PATH = re.compile(r"\w+(\[\w+\])*")
MAX_CHARACTERS = 1_000  # of a text that references were written into
MAX_DEPTH = 50
MAX_WEIGHT = 200_000  # nodes and characters, each counted as often as aliases and references repeat it
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
OPERATORS |= {ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod}


def is_reference(node: Node) -> bool:
    """Whether this is a `!ref` or a `!copy`."""
    return node.tag in ("!ref", "!copy")


def referenced_keys(tree: MappingNode) -> set[str]:
    """The top-level keys that some reference of the recipe reads."""
    keys: set[str] = set()
    for node in walk(tree):
        if is_reference(node) and isinstance(node, ScalarNode):
            keys |= {re.split(r"\W", path)[0] for path in REFERENCE.findall(node.value)}
    return keys


def weigh(tree: MappingNode) -> None:
    """Refuse a recipe that aliases or references make huge (a YAML bomb), that contains itself, or is very deep."""
    weights: dict[int, int] = {}
    open_nodes: set[int] = set()

    def weight(node: Node) -> int:
        if id(node) in open_nodes:
            raise error_at(node, "refers to itself")
        if id(node) not in weights:
            open_nodes.add(id(node))
            if len(open_nodes) > MAX_DEPTH:
                raise error_at(node, f"nested too deeply; at most {MAX_DEPTH} levels")
            total = 1 + sum(weight(child) for child in children(node))
            if isinstance(node, ScalarNode):
                total += len(node.value)
                if is_reference(node):
                    total += sum(weight(_target(tree, path, node)) for path in REFERENCE.findall(node.value))
            if total > MAX_WEIGHT:
                raise error_at(node, f"written out, this is larger than {MAX_WEIGHT}; use fewer aliases")
            open_nodes.discard(id(node))
            weights[id(node)] = total
        return weights[id(node)]

    weight(tree)


def resolve(tree: MappingNode) -> MappingNode:
    """Replace every reference by what it names: the node itself for `!ref`, a copy for `!copy`. Call `weigh` first."""
    done: dict[int, tuple[Node, Node]] = {}  # the node too: an id is unique only while its object lives

    def resolved(node: Node) -> Node:
        if id(node) not in done:
            if is_reference(node):
                done[id(node)] = node, _dereference(node)
            else:
                done[id(node)] = node, node
                if isinstance(node, MappingNode):
                    node.value = [(key, resolved(value)) for key, value in node.value]
                elif isinstance(node, SequenceNode):
                    node.value = [resolved(value) for value in node.value]
        return done[id(node)][1]

    def _dereference(node: Node) -> Node:
        whole = REFERENCE.fullmatch(node.value)
        if whole:
            target = resolved(_target(tree, whole[1], node))
            return copy.deepcopy(target) if node.tag == "!copy" else target
        parts = {path: resolved(_target(tree, path, node)) for path in REFERENCE.findall(node.value)}
        for path, part in parts.items():
            if not isinstance(part, ScalarNode) or not part.tag.startswith(YAML_TAG):
                raise error_at(node, f"<{path}> is not a plain value; it cannot be written into a text")
        text = REFERENCE.sub(lambda found: parts[found[1]].value, node.value)
        return _computed(text, node)

    resolved(tree)
    return tree


def _target(tree: MappingNode, path: str, node: Node) -> Node:
    if not KEY_PATH.fullmatch(path):
        raise error_at(node, f"reference <{path}>: expected <key> or <key[subkey]>")
    target: Node = tree
    for key in path.replace("]", "").split("["):
        below = get(target, key)
        if below is None:
            known = [k.value for k, _ in target.value] if isinstance(target, MappingNode) else []
            close = difflib.get_close_matches(key, known, n=1)
            cure = f"; did you mean {close[0]!r}?" if close else ""
            raise error_at(node, f"reference <{path}>: no key {key!r}{cure}")
        target = below
    return target


def _computed(text: str, node: Node) -> ScalarNode:
    """A text that is arithmetic becomes its number, any other text stays a text."""
    if len(text) > MAX_CHARACTERS:
        raise error_at(node, f"a text of {len(text)} characters; at most {MAX_CHARACTERS}")
    try:
        number = _arithmetic(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError):
        return ScalarNode(STRING, text, start_mark=node.start_mark, style="'")
    except (ZeroDivisionError, OverflowError) as error:
        raise error_at(node, f"{text}: {error}") from error
    kind = "float" if isinstance(number, float) else "int"
    return ScalarNode(f"{YAML_TAG}{kind}", repr(number), start_mark=node.start_mark)


def _arithmetic(expression: ast.expr) -> float:
    if isinstance(expression, ast.Constant) and type(expression.value) in (int, float):
        return expression.value  # type: ignore[return-value]
    if isinstance(expression, ast.BinOp) and type(expression.op) in OPERATORS:
        return OPERATORS[type(expression.op)](_arithmetic(expression.left), _arithmetic(expression.right))
    if isinstance(expression, ast.UnaryOp) and isinstance(expression.op, ast.USub):
        return -_arithmetic(expression.operand)
    raise TypeError("not arithmetic on numbers")
