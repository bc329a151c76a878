"""The rooms of the package: an import goes to the same room or to one below, never in a circle; modules stay small."""

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dino_speech"
MAX_LINES = 300
MAX_FUNCTION_LINES = 60
MAX_MODULES = 14  # in one folder, without its `__init__`
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "base", "core", "tools"}

# From the ground up. Rooms in one line may not import one another.
LEVELS: list[set[str]] = [
    {"errors"},
    {"compatibility", "registry", "argument_checks", "roll_call", "received_files"},
    {"metrics", "distributed", "provenance", "plain_data"},
    {"intervals"},
    {"audio"},
    {"synthesis"},
    {"data"},
    {"features"},
    {"models"},
    {"embedding", "training"},
    {"dino"},
    {"frame_level"},
    {"transfer"},
    {"evaluation"},
    {"studies"},
    {"recipe"},
    {"quickstart"},
    {"cli"},
    {"__main__"},
]


@cache
def modules() -> dict[str, Path]:
    """Dotted name below the package -> file; packages are named without `__init__`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


@cache
def imports_of(name: str) -> dict[str, int]:
    """Modules of the package that this one imports, at the top or inside a function -> line."""
    found: dict[str, int] = {}
    for node in ast.walk(ast.parse(modules()[name].read_text(encoding="utf-8"))):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} line {node.lineno}: imports here are absolute"
            targets = [f"{node.module}.{alias.name}" for alias in node.names]
        for target in targets:
            if target == "dino_speech" or target.startswith("dino_speech."):
                inner = target.removeprefix("dino_speech").removeprefix(".")
                while inner not in modules():  # `from module import name`: the name goes, the module stays
                    inner = inner.rpartition(".")[0]
                if inner != name:
                    found.setdefault(inner, node.lineno)
    return found


def room(name: str) -> str:
    return name.partition(".")[0]


def level(name: str) -> int:
    for height, rooms in enumerate(LEVELS):
        if room(name) in rooms:
            return height
    raise AssertionError(f"{name} has no place among the rooms: give it one in LEVELS and in docs' architecture page")


def test_every_module_has_a_room() -> None:
    assert len(modules()) > 20
    for name in modules():
        if name:
            level(name)


def test_no_import_runs_upward() -> None:
    upward = [
        f"{name} line {line} imports {target}"
        for name in modules()
        for target, line in imports_of(name).items()
        if name and target and room(name) != room(target) and level(target) >= level(name)
    ]
    assert not upward


def test_no_import_runs_in_a_circle() -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in done:
            return
        for target in imports_of(name):
            visit(target, (*path, name))
        done.add(name)

    for name in modules():
        visit(name, ())


def test_no_folder_holds_more_than_a_person_can_look_over() -> None:
    folders = {path.parent for path in modules().values()}
    crowded = {str(folder.relative_to(PACKAGE)): len(list(folder.glob("*.py"))) - 1 for folder in folders}
    assert {name: number for name, number in crowded.items() if number > MAX_MODULES} == {}


@pytest.mark.parametrize("name", modules())
def test_modules_are_small_and_say_what_they_hold(name: str) -> None:
    text = modules()[name].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LINES
    assert ast.get_docstring(ast.parse(text)) is not None
    assert not VAGUE & set(name.split("."))


@pytest.mark.parametrize("name", modules())
def test_functions_fit_on_one_screen(name: str) -> None:
    functions = [node for node in ast.walk(ast.parse(modules()[name].read_text())) if isinstance(node, ast.FunctionDef)]
    long = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {function: number for function, number in long.items() if number > MAX_FUNCTION_LINES} == {}


def test_one_file_trains() -> None:
    trains = [name for name, path in modules().items() if "backward()" in path.read_text(encoding="utf-8")]
    assert trains == ["training.loop"]
