"""Where a recipe may lead: hosts and folders, as it is written and with its references written out."""

from pathlib import Path

import pytest

from dino_speech.errors import RecipeError
from dino_speech.recipe import load_recipe
from dino_speech.recipe.commands.recorded_run import RecordedRun
from dino_speech.recipe.nodes import read_tree
from dino_speech.recipe.places import check_places, typed_texts
from dino_speech.recipe.references import resolve
from dino_speech.recipe.safety import check_tree

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    (tmp_path / "mail").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "mail" / "r.yaml"


@pytest.mark.parametrize(
    "text",
    [
        "train_manifest: ../secret.csv",
        "train_manifest: [a.csv, data/../../secret.csv]",
        "where: ..\noutput_folder: !ref <where>/out",
        "where: {a: .}\nvalid_where: !ref <where[a]><where[a]>/x",
        "output_folder: results/..",
        "crops: (../a, b)",
        "train_manifest: ..\\secret.csv",
    ],
)
def test_paths_that_climb_are_refused(recipe: Path, text: str) -> None:
    recipe.write_text(text)
    with pytest.raises(RecipeError, match=r"leads out of the folder in which the run is started|has no 'valid_where'"):
        load_recipe(recipe)


def test_names_with_dots_are_no_paths(recipe: Path) -> None:
    recipe.write_text("train_manifest: a..b/...c/.d.csv\nwhere: {text: 'wait ... what'}")
    assert load_recipe(recipe)["train_manifest"] == "a..b/...c/.d.csv"


@pytest.mark.parametrize("folder", ["/etc/dino", "{tmp}/elsewhere", "linked/out", "linked"])
def test_an_output_folder_elsewhere_is_refused(recipe: Path, tmp_path: Path, folder: str) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "precious")
    recipe.write_text(f"output_folder: {folder.format(tmp=tmp_path)}")
    with pytest.raises(RecipeError, match=r"r.yaml line 1: output_folder .* if you want it there: --output_folder=/"):
        load_recipe(recipe)


def test_what_a_person_types_is_taken(recipe: Path, tmp_path: Path) -> None:
    recipe.write_text("seed: 1\nwhere: x\ntrain_manifest: !ref <where>/m.csv\noutput_folder: !ref <where>/out")
    found = load_recipe(recipe, [f"--where={tmp_path}/../{tmp_path.name}"])
    assert found["output_folder"] == f"{tmp_path}/../{tmp_path.name}/out"
    assert load_recipe(recipe, ["--output_folder=/scratch/me", "--train_manifest=../a.csv"])["output_folder"][0] == "/"
    recipe.write_text(f"output_folder: {recipe.parent}/out")  # as a kept recipe.yaml names its own folder
    assert load_recipe(recipe)["output_folder"] == f"{recipe.parent}/out"
    recipe.write_text("output_folder: results/1")
    assert load_recipe(recipe)["output_folder"] == "results/1"


def test_a_host_that_references_spell_is_a_host(recipe: Path) -> None:
    recipe.write_text('where: "http:"\ntrain_manifest: !ref <where>//127.0.0.1:9/x.csv')
    with pytest.raises(RecipeError, match=r"nothing is fetched from http://127.0.0.1:9 before you agree"):
        load_recipe(recipe)
    recipe.write_text("where: x\ntrain_manifest: !ref <where>/x.csv")
    assert load_recipe(recipe, ["--where=s3://mine"])["train_manifest"] == "s3://mine/x.csv"


def test_a_run_writes_through_no_link(recipe: Path, tmp_path: Path) -> None:
    out, precious = Path("out"), tmp_path / "precious"
    precious.mkdir()
    out.mkdir()
    (out / "state").symlink_to(precious)
    with pytest.raises(ValueError, match="is a link to"):
        RecordedRun({"output_folder": "out"}, None)  # type: ignore[arg-type]


def test_a_text_of_blanks_takes_no_time(recipe: Path) -> None:
    recipe.write_text(f"where: '(a{' ' * 90_000}'\n")
    load_recipe(recipe)
    recipe.write_text(f"where: !tuple '(a{' ' * 90_000}'\n")
    load_recipe(recipe)


@pytest.mark.parametrize(
    "layer",
    [
        "LSTM {input_size: 1, hidden_size: 1, num_layers: 1000000000}",
        "Transformer {d_model: 2, nhead: 1, dim_feedforward: 1, num_encoder_layers: 1000000000}",
    ],
)
def test_small_layers_without_end_are_refused(recipe: Path, layer: str) -> None:
    recipe.write_text(f"encoder: !new:torch.nn.{layer}")
    with pytest.raises(RecipeError, match="asks for more than 5,000 parameters"):
        load_recipe(recipe)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ("MultiheadAttention {embed_dim: 3, num_heads: 2}", "must be divisible"),
        ("Linear {in_features: 2, out_features: 2, device: nonsense}", "Linear: "),
    ],
)
def test_whatever_a_layer_refuses_is_one_line(recipe: Path, layer: str, reason: str) -> None:
    recipe.write_text(f"encoder: !new:torch.nn.{layer}")
    with pytest.raises(RecipeError, match=reason):
        load_recipe(recipe)


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: str(path.relative_to(RECIPES)))
def test_every_recipe_here_stays_where_it_is_run(recipe: Path, path: Path) -> None:
    tree = read_tree(path)
    check_tree(tree)
    check_places(resolve(tree), path, typed_texts(tree))
