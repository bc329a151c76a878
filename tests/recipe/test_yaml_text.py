"""What a plain word of a recipe means: YAML 1.2, as HyperPyYAML reads it, with pyyaml as the library."""

import math
from pathlib import Path

import pytest
import ruamel.yaml
from hyperpyyaml import load_hyperpyyaml

from dino_speech.errors import RecipeError
from dino_speech.recipe import load_recipe
from dino_speech.recipe.nodes import read_tree
from dino_speech.recipe.yaml_text import MappingNode, Node, ScalarNode, compose, place, to_text

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").rglob("*.yaml"))
WORDS = {
    "1": 1,
    "017": 17,
    "0o17": 15,
    "0x1F": 31,
    "0b11": 3,
    "08": 8,
    "1_000": 1000,
    "-4": -4,
    "+3": 3,
    "1e3": 1000.0,
    "1e-4": 1e-4,
    "4.0e-3": 0.004,
    "4e0": 4.0,
    "1.": 1.0,
    ".5": 0.5,
    "-1.5E4": -15000.0,
    "-.inf": -math.inf,
    ".inf": math.inf,
    "yes": "yes",
    "no": "no",
    "on": "on",
    "Off": "Off",
    "y": "y",
    "true": True,
    "FALSE": False,
    "tRue": "tRue",
    "null": None,
    "~": None,
    "": None,
    "none": "none",
    "1:30": "1:30",
    "1,000": "1,000",
    "e5": "e5",
    "0x": "0x",
    "'1e-4'": "1e-4",
    '"no"': "no",
    "!!float 3": 3.0,
    "!!str 3": "3",
    "!!int '0o17'": 15,
}


@pytest.mark.parametrize("word", WORDS)
def test_words(tmp_path: Path, word: str) -> None:
    file = tmp_path / "words.yaml"
    file.write_text(f"seed: {word}\n")
    recipe = load_recipe(file)
    assert (type(recipe["seed"]), recipe["seed"]) == (type(WORDS[word]), WORDS[word])
    assert recipe["seed"] == ruamel.yaml.YAML(typ="safe", pure=True).load(file.read_text())["seed"]
    file.write_text(recipe.text)  # what is kept of a run says the same, also to hyperpyyaml
    assert load_recipe(file)["seed"] == load_hyperpyyaml(recipe.text)["seed"] == WORDS[word]


def test_nan(tmp_path: Path) -> None:
    (tmp_path / "nan.yaml").write_text("seed: .NaN\n")
    assert math.isnan(load_recipe(tmp_path / "nan.yaml")["seed"])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("!ref [a]", "!ref belongs before a single text; found a sequence"),
        ("!copy [a]", "!copy belongs before a single text; found a sequence"),
        ("!ref {a: b}", "!ref belongs before a single text; found a mapping"),
        ("!!bool abc", "'abc' is no bool"),
        ("!!bool yes", "'yes' is no bool"),
        ("!!int 1.5", "'1.5' is no int"),
        ("!!float x", "'x' is no float"),
        ("!!int [1]", "!!int belongs before a single text; found a sequence"),
        ("!!map abc", "the tag !!map is not allowed"),
        ("2024-01-31", "the tag !!timestamp is not allowed"),
        ("2024-01-31 10:11:12", "the tag !!timestamp is not allowed"),
        ("(1, 2024-01-31)", "timestamp is not allowed"),
    ],
)
@pytest.mark.parametrize("way", ["file", "option"])
def test_one_clear_error(tmp_path: Path, value: str, message: str, way: str) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(f"seed: 1\nwhere: {value if way == 'file' else 1}\n")
    with pytest.raises(RecipeError) as error:
        load_recipe(file, [f"--where={value}"] if way == "option" else [])
    assert message in str(error.value)
    assert str(error.value).startswith(f"{file} line 2: " if way == "file" else "--where on the command line: ")


def test_merge_keys_are_refused(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text("where: &w {a: b}\nmonitor: {<<: *w}\n")
    with pytest.raises(RecipeError, match=r"line 2: a key must be a plain word; found !!merge"):
        load_recipe(tmp_path / "small.yaml")


def _plain(node: Node) -> object:
    if isinstance(node, ScalarNode):
        return node.tag, node.value
    if isinstance(node, MappingNode):
        return node.tag, [(_plain(key), _plain(value)) for key, value in node.value]
    return node.tag, [_plain(value) for value in node.value]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: "/".join(path.parts[-4:]))
def test_nodes_written_and_read_are_the_same_nodes(recipe: Path) -> None:
    tree = read_tree(recipe)
    again = compose(to_text(tree), "again")
    assert again is not None
    assert _plain(again) == _plain(tree)
    assert _plain(compose(recipe.read_text(), "x")) == _by_ruamel(recipe)
    assert place(tree.value[0][0]).partition(" line ")[0].endswith(".yaml")


def _by_ruamel(recipe: Path) -> object:
    def plain(node: "ruamel.yaml.Node") -> object:
        if isinstance(node, ruamel.yaml.ScalarNode):
            return node.tag, node.value
        if isinstance(node, ruamel.yaml.MappingNode):
            return node.tag, [(plain(key), plain(value)) for key, value in node.value]
        return node.tag, [plain(value) for value in node.value]

    return plain(ruamel.yaml.YAML(typ="safe", pure=True).compose(recipe.read_text()))
