"""YAML text to nodes and back, and what a plain word of it means: pyyaml with the rules of YAML 1.2.

pyyaml reads by YAML 1.1, where `1e-4` is a text, `no` is false and `017` is fifteen. Recipes are HyperPyYAML, which
reads by YAML 1.2, and so do we: one table of plain words, which no other library of the process can change.
"""

import re
from collections.abc import Iterator

import yaml
from yaml.composer import Composer
from yaml.emitter import Emitter
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner
from yaml.serializer import Serializer

from dino_speech.errors import RecipeError, RecipeOptionError

MAX_CHARACTERS = 100_000  # ours: fifty times a long recipe
YAML_TAG = "tag:yaml.org,2002:"
COMMAND_LINE = "on the command line"
STRING, MAPPING, NULL = (f"{YAML_TAG}{kind}" for kind in ("str", "map", "null"))
FLOATS = (
    r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?",
    r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+",
    r"[-+]?\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?",
    r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
)
PLAIN_WORDS = {  # kind -> pattern, possible first characters; the last three are recognised only to be refused
    "bool": ("true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    "float": ("|".join(FLOATS), [*"-+.0123456789"]),
    "int": ("[-+]?(?:0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)", [*"-+0123456789"]),
    "null": ("~|null|Null|NULL|", [*"~nN", ""]),
    "merge": ("<<", ["<"]),
    "value": ("=", ["="]),
    "timestamp": (r"\d{4}-\d\d?-\d\d?(?:[Tt\s]\s*\d\d?:\d\d:\d\d.*)?", [*"0123456789"]),
}
__all__ = [
    *("COMMAND_LINE", "MAPPING", "NULL", "STRING", "YAML_TAG", "MappingNode", "Node", "ScalarNode", "SequenceNode"),
    *("children", "compose", "get", "place", "scalar_value", "to_text"),
]


class _PlainWords(BaseResolver):
    """Which tag a word without quotes has."""


for _kind, (_pattern, _first) in PLAIN_WORDS.items():
    _PlainWords.add_implicit_resolver(f"{YAML_TAG}{_kind}", re.compile(f"(?:{_pattern})$"), _first)


class _Loader(Reader, Scanner, Parser, Composer, _PlainWords):
    def __init__(self, text: str, name: str) -> None:
        Reader.__init__(self, text)
        self.name = name  # every node's mark gets it
        for part in (Scanner, Parser, Composer, _PlainWords):
            part.__init__(self)


class _Dumper(Emitter, Serializer, _PlainWords):
    def __init__(self, stream: object, **options: object) -> None:
        Emitter.__init__(self, stream, allow_unicode=True)
        Serializer.__init__(self)
        _PlainWords.__init__(self)


def error_in(name: str, message: str) -> RecipeError:
    """The error of a text by this name: a file's, or `--key` of the command line, which is then a wrong option."""
    return (RecipeOptionError if name.startswith("--") else RecipeError)(message)


def compose(text: str, name: str) -> Node | None:
    """The nodes of a YAML text (one document) that messages call `name`; a `RecipeError` if it is none, or too long."""
    if len(text) > MAX_CHARACTERS:
        raise error_in(name, f"{name}: {len(text)} characters; a recipe has at most {MAX_CHARACTERS}")
    try:
        return _Loader(text, name).get_single_node()
    except RecursionError:
        raise error_in(name, f"{name}: nested too deeply") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark is not None else ""
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise error_in(name, f"{name}{line}: not valid YAML: {what}") from error


def to_text(tree: Node) -> str:
    """The YAML text of nodes."""
    return str(yaml.serialize(tree, Dumper=_Dumper))


def scalar_value(node: ScalarNode) -> str | int | float | bool | None:
    """What a scalar with one of YAML's own tags stands for; a `ValueError` where it does not fit, as in `!!bool abc`.

    Example:
        >>> [scalar_value(ScalarNode("tag:yaml.org,2002:int", text)) for text in ("017", "0o17", "-1_000")]
        [17, 15, -1000]
    """
    kind, text = node.tag.removeprefix(YAML_TAG), node.value
    if kind == "str":
        return str(text)
    if kind == "null":
        return None
    if re.fullmatch(PLAIN_WORDS[kind][0], text) is None and (kind != "float" or not re.fullmatch(r"[-+]?\d+", text)):
        raise ValueError(f"is no {kind}")
    plain = text.replace("_", "").lower()
    if kind == "bool":
        return bool(plain == "true")
    if kind == "float":
        return float(plain.replace(".inf", "inf").replace(".nan", "nan"))
    return int(plain, 0 if plain.lstrip("-+")[1:2].isalpha() else 10)


def place(node: Node) -> str:
    """Where a node was written: `cpu.yaml line 12`, or `--lr=x on the command line`."""
    name = str(node.start_mark.name)
    return f"{name} {COMMAND_LINE}" if name.startswith("--") else f"{name} line {node.start_mark.line + 1}"


def error_at(node: Node, message: str) -> RecipeError:
    """The error of what was written there: in the file, or on the command line, which makes it a wrong option."""
    return error_in(str(node.start_mark.name), f"{place(node)}: {message}")


def get(node: Node, key: str) -> Node | None:
    """The value under a key of a mapping node, or None."""
    return next((v for k, v in node.value if k.value == key), None) if isinstance(node, MappingNode) else None


def walk(tree: Node) -> Iterator[Node]:
    """Every node (not the keys of mappings), each once, however often aliases repeat it."""
    waiting, seen = [tree], set()
    while waiting:
        node = waiting.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            waiting += children(node)


def children(node: Node) -> Iterator[Node]:
    """The values below a node (not the keys of a mapping)."""
    if isinstance(node, MappingNode):
        yield from (value for _, value in node.value)
    elif isinstance(node, SequenceNode):
        yield from node.value
