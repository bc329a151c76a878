"""The documentation says what the program does: commands parse, links resolve, Python calls what exists."""

import ast
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import dino_speech
from dino_speech.cli.main import build_parser
from dino_speech.cli.options import split_words
from dino_speech.recipe.nodes import read_tree
from dino_speech.recipe.safety import check_complete, check_tree

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "pages"
PAGES = [ROOT / "README.md", ROOT / "docs" / "CHANGELOG.md", ROOT / "docs" / "SECURITY.md", *sorted(DOCS.rglob("*.md"))]
PAGES += sorted((ROOT / "recipes").rglob("*.md"))
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def _blocks(page: Path, *languages: str) -> list[str]:
    return [text for _, language, text in FENCE.findall(page.read_text("utf-8")) if language in languages]


def _prose(page: Path) -> str:
    return FENCE.sub("", page.read_text("utf-8"))


def _commands(page: Path) -> Iterator[str]:
    """Command lines of shell blocks, also those behind `&&` or a virtual environment's path, and of inline code."""
    for block in _blocks(page, "bash", "sh", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.split(" && "):
                words = shlex.split(part, comments=True)
                words = words[words.index("dino_speech") :] if "dino_speech" in words else words
                if words and Path(words[0]).name in ("dino-speech", "dino_speech"):
                    yield shlex.join(["dino-speech", *words[1:]])
    yield from (code for code in re.findall(r"`(dino-speech [^`]+)`", _prose(page)) if "..." not in code)


COMMANDS = sorted({(command, name) for page, name in zip(PAGES, NAMES, strict=True) for command in _commands(page)})


@pytest.mark.parametrize(("command", "name"), COMMANDS)
def test_command_line_parses(command: str, name: str):
    parser = build_parser()
    words = shlex.split(command)[1:]
    if all(re.fullmatch(r"[a-z-]+", word) and word[0] != "-" for word in words) and len(words) <= 2:
        words.append("--help")  # the bare name of a command, in running text
    if "--help" in words:
        with pytest.raises(SystemExit, match=r"^0$"):
            parser.parse_known_args(words)
        return
    words, _ = split_words(words)
    _, further = parser.parse_known_args(words)
    assert not further, f"{name}: {command}: unknown {further}"


RECIPES = [(command, name) for command, name in COMMANDS if re.match(r"dino-speech \S+ recipes/", command)]


@pytest.mark.parametrize(("command", "name"), RECIPES)
def test_recipe_and_its_options_exist(command: str, name: str):
    recipe, *overrides = shlex.split(command)[2:]
    overrides = [word for word in overrides if word.startswith("--") and "=" in word]
    tree = read_tree(ROOT / recipe, overrides)
    check_tree(tree)
    check_complete(tree)  # no value is missing in what a page tells to type


def test_there_is_something_to_test():
    assert len(COMMANDS) > 20
    assert len(RECIPES) > 3


def test_second_command_is_the_one_that_ci_runs():
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    lines = [line for line in script.splitlines() if line.startswith("python3 -m venv")]
    assert len(lines) == 1
    for page in (ROOT / "README.md", DOCS / "install.md"):
        assert any(lines[0] in block for block in _blocks(page, "bash")), page


def _slug(heading: str) -> str:
    """As Python-Markdown's table of contents makes it."""
    text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", text).strip().lower())


def _anchors(page: Path) -> set[str]:
    return {_slug(heading) for heading in re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_internal_links_resolve(page: Path):
    for link in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        assert not anchor or anchor in _anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_named_files_exist(page: Path):
    """Paths in code spans that begin at the root of the repository."""
    for path in re.findall(r"`((?:recipes|tests|docs|dino_speech)/[\w./-]+)`", _prose(page)):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_referenced_objects_exist(page: Path):
    """`[name][dino_speech.x.y]` and `::: dino_speech.x` name modules and attributes that are in the source."""
    text = page.read_text("utf-8")
    for dotted in re.findall(r"\]\[(dino_speech[\w.]*)\]", text):
        module, _, attribute = dotted.rpartition(".")
        source = ROOT / (module.replace(".", "/") + ".py")
        assert source.is_file(), dotted
        defined = {getattr(node, "name", None) for node in ast.parse(source.read_text("utf-8")).body}
        assert attribute in defined, dotted
    for module in re.findall(r"^::: (dino_speech[\w.]*)$", text, re.MULTILINE):
        assert (ROOT / (module.replace(".", "/") + ".py")).is_file(), module


PYTHON = [
    (name, number, text)
    for page, name in zip(PAGES, NAMES, strict=True)
    for number, text in enumerate(_blocks(page, "python"), start=1)
]


@pytest.mark.parametrize(("name", "number", "text"), PYTHON, ids=[f"{name}-{number}" for name, number, _ in PYTHON])
def test_python_calls_what_exists(name: str, number: int, text: str):
    """Imported names exist, and calls of them (and of their methods) use parameters that they have."""
    tree = ast.parse(text, filename=name)
    known: dict[str, object] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dino_speech"):
            module = __import__(str(node.module), fromlist=["*"])
            known.update({alias.asname or alias.name: getattr(module, alias.name) for alias in node.names})
    classes = [value for value in _public().values() if inspect.isclass(value)]
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if isinstance(call.func, ast.Name) and call.func.id in known:
            candidates = [known[call.func.id]]
        elif isinstance(call.func, ast.Attribute):
            found = [getattr(kind, call.func.attr) for kind in classes if hasattr(kind, call.func.attr)]
            candidates = [method for method in found if callable(method)]  # not the default of a setting
        else:
            continue
        assert not candidates or any(_accepts(callable_, call) for callable_ in candidates), ast.unparse(call)


def _accepts(target: object, call: ast.Call) -> bool:
    parameters = inspect.signature(target).parameters  # type: ignore[arg-type]
    any_keyword = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    positional = [p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(call.args) <= len(positional) and all(
        any_keyword or keyword.arg in parameters for keyword in call.keywords if keyword.arg
    )


def _public() -> dict[str, object]:
    return {name: getattr(dino_speech, name) for name in dino_speech.__all__ if not name.startswith("__")}


def test_readme_imports_public_names_only():
    imported = re.findall(r"^from dino_speech import (.+)$", "\n".join(_blocks(ROOT / "README.md", "python")), re.M)
    names = [name.strip() for line in imported for name in line.split(",")]
    assert names
    assert set(names) <= set(dino_speech.__all__)


def test_reference_lists_every_public_name():
    listed = set(re.findall(r"\[`(\w+)`\]", (DOCS / "reference" / "index.md").read_text("utf-8")))
    assert set(_public()) <= listed


def test_the_tour_is_read_in_one_sitting():
    stops = re.findall(r"^\| `(dino_speech/[\w/]+\.py)`", (DOCS / "tour.md").read_text("utf-8"), re.MULTILINE)
    assert len(stops) == 9
    assert sum(len((ROOT / stop).read_text("utf-8").splitlines()) for stop in stops) <= 1500


def test_the_page_add_your_own_shows_what_its_test_does():
    tree = ast.parse((ROOT / "tests" / "test_add_your_own.py").read_text("utf-8"))
    texts = [node.value for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)]
    modules = [text.value.strip() for text in texts if "from dino_speech import" in text.value]
    page = DOCS / "add-your-own.md"
    assert len(modules) > 1
    assert modules == [block.strip() for block in _blocks(page, "python")]
    assert len(_blocks(page, "toml")) == len(modules)


def test_every_page_is_in_the_navigation():
    config = (ROOT / "docs" / "mkdocs.yml").read_text("utf-8")
    assert [p for p in sorted(DOCS.rglob("*.md")) if f": {p.relative_to(DOCS).as_posix()}\n" not in config] == []
