"""Recipes: the values that they give, and misspelt ones refused with the file and the line."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml

from dino_speech import MultiCrop
from dino_speech.errors import RecipeError
from dino_speech.recipe import load_recipe

Write = Callable[..., Path]

SMALL = """
seed: 1986
output_folder: !ref results/<seed>
train_manifest: [a.csv, b.csv]
long_s: 2.0
crops: !new:dino_speech.MultiCrop
  num_long: 2
  long_s: !ref <long_s>
  num_short: 4
  short_s: !ref <long_s> / 2
encoder: !new:torch.nn.Sequential
  - !new:torch.nn.Linear {in_features: 4, out_features: 3}
  - !new:torch.nn.GELU
trainer:
  encoder: !ref <encoder>
  again: !ref <encoder>
  copied: !copy <encoder>
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Write:
    """`recipe(text, name="small.yaml")` writes a recipe and returns its path."""

    def write(text: str, name: str = "small.yaml") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_values_references_and_objects(recipe: Write) -> None:
    values = load_recipe(recipe(SMALL))
    assert values["output_folder"] == "results/1986"
    assert values["train_manifest"] == ["a.csv", "b.csv"]
    assert isinstance(values["crops"], MultiCrop)
    assert (values["crops"].long_samples, values["crops"].short_samples) == (32_000, 16_000)
    assert isinstance(values["encoder"][0], torch.nn.Linear)
    assert values["trainer"]["encoder"] is values["trainer"]["again"] is values["encoder"]
    assert values["trainer"]["copied"] is not values["encoder"]


def test_same_values_as_hyperpyyaml(recipe: Write) -> None:
    text = "a: 4e-3\nb: !ref <a> * 2\nc: !ref <d>/x\nd: y\ne: (1, 2.5, z)\nf: {g: [1, no, ~, 1.5]}\nh: !ref <f[g]>\n"
    path = recipe(text + "seed: !ref <b>\ncrops: !ref <e>\nwhere: [!ref <c>, !ref <h>, !ref <d>]\n")
    # c stands after d: hyperpyyaml leaves a reference to a later reference as it is, ours does not mind.
    ours, theirs = load_recipe(path), load_hyperpyyaml(path.read_text())
    assert dict(ours) == dict(theirs)
    assert ours["e"] == (1, 2.5, "z")
    assert load_recipe(path)["e"] == ours["e"]  # also after hyperpyyaml has changed the YAML library


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("n: 3\nseed: !ref <n> * 2 + 1", 7),
        ("n: -3\nseed: !ref <n> * 2 - -1", -5),
        ("n: 7\nseed: !ref <n> // 2 % 2", 1),
        ("n: 3\nseed: !ref (<n> + 1) / 8", 0.5),
        ("n: a\nseed: !ref <n>-<n>.txt", "a-a.txt"),
        ("seed: !ref <n>\nn: !ref <m>\nm: 4", 4),
        ("n: {m: {k: 5}}\nseed: !ref <n[m][k]>", 5),
        ("n: true\nseed: !ref <n> + 1", "true + 1"),
    ],
)
def test_references(recipe: Write, text: str, value: object) -> None:
    assert load_recipe(recipe(text))["seed"] == value


def test_overrides(recipe: Write) -> None:
    options = ["--seed=3", "--crops.num_short=6", "--long_s=4e0", "--where={split: [pretrain, train]}", "--monitor="]
    values = load_recipe(recipe(SMALL), options)
    assert values["output_folder"] == "results/3"
    assert (values["crops"].num_short, values["crops"].short_samples) == (6, 32_000)
    assert values["where"] == {"split": ["pretrain", "train"]}
    assert values["monitor"] is None
    assert "seed: 3" in values.text


def test_arguments_that_the_file_does_not_name_can_be_given(recipe: Write) -> None:
    assert load_recipe(recipe(SMALL), ["--crops.disjoint=true"])["crops"].disjoint is True


def test_base_states_only_the_difference(recipe: Write) -> None:
    recipe(SMALL, "base.yaml")
    path = recipe("base: base.yaml\nseed: 5\ncrops: {num_short: 2}\nencoder: !new:torch.nn.GELU\n", "light.yaml")
    values = load_recipe(path, ["--crops.num_long=3"])
    assert values["output_folder"] == "results/5"
    assert (values["crops"].num_long, values["crops"].num_short, values["crops"].long_samples) == (3, 2, 32_000)
    assert isinstance(values["trainer"]["encoder"], torch.nn.GELU)
    assert "base" not in values


@pytest.mark.parametrize(
    "base",
    [
        *("../base.yaml", "/etc/passwd", "[1]", "{a: b}", "light.yaml", "./light.yaml", "''", ".", "..", "~/base.yaml"),
        *("base.txt", "file:///base.yaml", "//host/base.yaml", "C:/base.yaml", "'..\\base.yaml'", '"base\\0.yaml"'),
        *("!new:os.system [id]", "link.yaml", "outside/base.yaml", "../../../../../../etc/hosts.yaml"),
    ],
)
def test_base_of_another_folder_or_of_itself_is_refused(recipe: Write, tmp_path: Path, base: str) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (outside / "base.yaml").write_text("seed: 2\n")
    (tmp_path / "link.yaml").symlink_to(outside / "base.yaml")
    (tmp_path / "outside").symlink_to(outside)
    with pytest.raises(RecipeError, match=r"light.yaml line 2: (base must be|the recipe .*light.yaml rests on itself)"):
        load_recipe(recipe(f"seed: 1\nbase: {base}\n", "light.yaml"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder `recipes` with two recipes, `a/light.yaml` resting on `b/base.yaml`, and a file outside of it."""
    for folder in ("a", "b"):
        (tmp_path / "recipes" / folder).mkdir(parents=True)
    (tmp_path / "recipes" / "b" / "base.yaml").write_text(SMALL)
    (tmp_path / "recipes" / "a" / "light.yaml").write_text("base: ../b/base.yaml\nseed: 5\n")
    (tmp_path / "outside.yaml").write_text(SMALL)
    return tmp_path / "recipes"


def test_base_elsewhere_in_the_tree_of_recipes(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_recipe(tree / "a" / "light.yaml")["output_folder"] == "results/5"
    (tree / "b" / "lighter.yaml").write_text("base: ../a/light.yaml\nlong_s: 3.0\n")  # a base's base is beside it
    values = load_recipe(tree / "b" / "lighter.yaml")
    assert (values["seed"], values["crops"].long_samples) == (5, 48_000)
    monkeypatch.chdir(tree / "a")
    assert load_recipe("light.yaml")["seed"] == 5


@pytest.mark.parametrize(
    "base", ["../../outside.yaml", "../b/../../outside.yaml", "../b/link.yaml", "../away/base.yaml"]
)
def test_base_outside_the_tree_of_recipes_is_refused(tree: Path, base: str) -> None:
    (tree / "b" / "link.yaml").symlink_to(tree.parent / "outside.yaml")
    (tree / "away").symlink_to(tree.parent)
    (tree.parent / "base.yaml").write_text(SMALL)
    (tree / "a" / "light.yaml").write_text(f"base: {base}\n")
    with pytest.raises(RecipeError, match=r"light.yaml line 1: base must be"):
        load_recipe(tree / "a" / "light.yaml")


def test_base_elsewhere_is_checked_like_the_recipe(tree: Path) -> None:
    for text, message in (
        ("crops: !apply:os.system [id]\n", r"base.yaml line 1: !apply:os.system is not allowed"),
        ("sed: 1\n", r"base.yaml line 1: a recipe has no 'sed'"),
        ("base: ../a/light.yaml\n", "rests on itself"),
        ("- 1\n", "base.yaml: expected a YAML mapping"),
    ):
        (tree / "b" / "base.yaml").write_text(text)
        with pytest.raises(RecipeError, match=message):
            load_recipe(tree / "a" / "light.yaml")
    (tree / "b" / "base.yaml").unlink()
    with pytest.raises(RecipeError, match="no such recipe"):
        load_recipe(tree / "a" / "light.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("output_folder:", "output_foldr:"), r"line 3: a recipe has no 'output_foldr'; did you mean 'output_folder'"),
        (("num_short: 4", "num_shrt: 4"), r"line 9: MultiCrop has no 'num_shrt'; did you mean 'num_short'"),
        (("<seed>", "<sed>"), r"line 3: reference <sed>: no key 'sed'; did you mean 'seed'"),
        (
            ("dino_speech.MultiCrop", "dino_speech.MultiCrp"),
            r"line 6: !new:dino_speech.MultiCrp is not allowed.*did you",
        ),
        (("in_features: 4, ", ""), r"line 12: torch.nn.Linear: missing a required argument: 'in_features'"),
        (("num_long: 2", "num_long: 0"), r"line 6: MultiCrop: .*num_long"),
        (("seed: 1986", "seed: 1986\nseed: 2"), r"line 3: the key 'seed' stands here twice"),
        (("seed: 1986", "seed: !PLACEHOLDER"), r"line 2: seed is missing; give --seed=VALUE"),
        (("seed: 1986", "seed: [1, 2"), r"line \d+: not valid YAML"),
        (("seed: 1986", "seed: !ref <long_s> / 0"), r"line 2: 2.0 / 0: float division by zero"),
        (("seed: 1986", "seed: !ref a<crops>"), r"line 2: <crops> is not a plain value"),
        (("!new:torch.nn.GELU", "!new:torch.nn.GELU x"), r"line 13: arguments of torch.nn.GELU go into a mapping"),
        (("!new:torch.nn.GELU", "!new:dino_speech.build_encoder"), r"line 13: .*is a function; write !apply:"),
    ],
)
def test_mistakes_are_named_with_their_line(recipe: Write, change: tuple[str, str], message: str) -> None:
    assert change[0] in SMALL
    with pytest.raises(RecipeError, match=message):
        load_recipe(recipe(SMALL.replace(*change)))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--sed=1", r"--sed on the command line: a recipe has no 'sed'; did you mean 'seed'"),
        ("--crops.num_lnog=3", r"--crops.num_lnog on the command line: MultiCrop has no 'num_lnog'; did you mean"),
        ("--crop.num_long=3", r"--crop.num_long on the command line: crop is not in the recipe"),
        ("--seed.x=3", r"seed is not a mapping"),
        ("--crops=!new:os.system [id]", r"--crops on the command line: !new:os.system is not allowed"),
        ("--seed=[", r"--seed.*not valid YAML"),
        ("seed=1", r"expected --key=value"),
        ("--a b=1", r"expected --key=value"),
    ],
)
def test_mistakes_in_options(recipe: Write, option: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(recipe(SMALL), [option])


def test_files_that_are_no_recipes(tmp_path: Path, recipe: Write) -> None:
    with pytest.raises(RecipeError, match="no such recipe"):
        load_recipe(tmp_path / "absent.yaml")
    with pytest.raises(RecipeError, match="expected a YAML mapping"):
        load_recipe(recipe("- 1\n"))
    with pytest.raises(RecipeError, match="expected a YAML mapping"):
        load_recipe(recipe(""))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="not a text file"):
        load_recipe(tmp_path / "binary.yaml")


def test_arguments_that_two_bases_change_are_merged(recipe: Write, tmp_path: Path) -> None:
    recipe(SMALL, "base.yaml")
    recipe("base: base.yaml\ncrops: {num_long: 3, num_short: 2}\n", "middle.yaml")
    path = recipe("base: middle.yaml\ncrops: {num_short: 1}\n", "top.yaml")
    crops = load_recipe(path)["crops"]
    assert (crops.num_long, crops.num_short, crops.long_s) == (3, 1, 2.0)
