"""What docs/pages/architecture.md says of the source: no import runs upward or in a circle, and the top is light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dino_speech"
# From the ground up; a room imports its own and those before it.
ROOMS = ["ground", "audio", "data", "features", "models", "dino", "evaluation", "recipe", "quickstart", "cli"]
GROUND = {"metrics", "intervals", "distributed", "provenance", "compatibility", "errors", "__init__"}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__main__.py")
NAMES = [path.relative_to(PACKAGE).as_posix() for path in MODULES]


def _room(parts: tuple[str, ...]) -> str:
    """Room of a module, given its path below the package without the suffix."""
    first = parts[0] if parts else "__init__"
    if first in GROUND:
        return "ground"
    return "quickstart" if first.startswith("quickstart") else first


def _imports(nodes: list[ast.stmt], *, at_import_time: bool) -> Iterator[tuple[str, ...]]:
    """Modules of this package that are imported, as parts below it; what only a type checker reads is left out."""
    for node in nodes:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if at_import_time and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dino_speech":
            below = tuple(str(node.module).split(".")[1:])
            for alias in node.names:  # `from dino_speech.cli import data` names a module, other names are in one
                is_module = PACKAGE.joinpath(*below, f"{alias.name}.py").is_file()
                yield (*below, alias.name) if is_module else below
        elif isinstance(node, ast.Import):
            yield from (tuple(a.name.split(".")[1:]) for a in node.names if a.name.split(".")[0] == "dino_speech")
        yield from _imports(_below(node), at_import_time=at_import_time)


def _below(node: ast.stmt) -> list[ast.stmt]:
    """The statements inside of one."""
    handlers = [statement for handler in getattr(node, "handlers", []) for statement in handler.body]
    return [*getattr(node, "body", []), *getattr(node, "orelse", []), *getattr(node, "finalbody", []), *handlers]


def _parts(path: Path) -> tuple[str, ...]:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def test_every_room_is_known():
    assert {_room(_parts(path)) for path in MODULES} == set(ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_no_import_runs_upward(path: Path):
    own = ROOMS.index(_room(_parts(path)))
    tree = ast.parse(path.read_text("utf-8"))
    above = [".".join(m) for m in _imports(tree.body, at_import_time=False) if ROOMS.index(_room(m)) > own]
    assert above == []


def test_no_imports_in_a_circle():
    graph = {_parts(p): set(_imports(ast.parse(p.read_text("utf-8")).body, at_import_time=True)) for p in MODULES}
    done: set[tuple[str, ...]] = set()

    def visit(module: tuple[str, ...], way: tuple[tuple[str, ...], ...]) -> None:
        assert module not in way, " -> ".join(".".join(m) for m in (*way[way.index(module) :], module))
        if module in done or module not in graph:
            return
        for target in graph[module]:
            if target != module:
                visit(target, (*way, module))
        done.add(module)

    for module in graph:
        visit(module, ())


def test_no_module_is_named_for_nothing():
    assert not {path.stem for path in MODULES} & {"utils", "helpers", "common", "misc", "base"}


def test_import_is_light():
    heavy = ["torch", "torchaudio", "speechbrain", "numpy"]
    code = f"import sys, dino_speech; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == "[]"
