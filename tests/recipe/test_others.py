"""`label_range` and `others` of a recipe: learnt on one corpus, judged on further ones, all on one scale."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dino_speech import FineTuneStage, TransferStudy, build_encoder, load_finetuned, read_manifest
from dino_speech.data.manifest import Manifest
from dino_speech.errors import InputError, RecipeError
from dino_speech.recipe import load_recipe, run_finetuning, run_study
from dino_speech.recipe.commands.recorded_run import read_others

DIMENSIONS = """
train_manifest: train.csv
where: {split: train}
test_where: {split: test}
output_folder: out
label_range: [1, 7]
others:
  radio: {manifest: other.csv, where: {speaker: [r2, r3]}, columns: {valence: sentiment}, label_range: [-3, 3]}
encoder: !apply:dino_speech.load_encoder {source: !PLACEHOLDER }
tuner: !new:dino_speech.FineTuner
  encoder: !ref <encoder>
  label: [arousal, valence]
  objective: ccc
  batch_size: 4
  num_workers: 0
  precision: fp32
  stages:
    - !new:dino_speech.FineTuneStage {train: head, epochs: 1, chunk_s: 0.5}
"""


@pytest.fixture
def options(voices_folder: Path, tmp_path: Path) -> list[str]:
    """A corpus that rates from 1 to 7, another one that calls valence a sentiment, from -3 to 3."""
    header, *rows = (voices_folder / "manifest.csv").read_text().splitlines()
    lines = [f"{header},split,arousal,valence"]
    lines += [f"{row},{'train' if n < 8 else 'test'},{1 + n % 7},{1 + n % 4}" for n, row in enumerate(rows)]
    (voices_folder / "train.csv").write_text("\n".join(lines) + "\n")
    cells = [row.split(",") for row in rows]
    lines = [",".join([*one[:3], one[3].replace("spk", "r"), one[4], str(n % 7 - 3)]) for n, one in enumerate(cells)]
    (voices_folder / "other.csv").write_text("\n".join([f"{header},sentiment", *lines]) + "\n")
    encoder = build_encoder("xvector", embedding_dim=8, channels=[8] * 5, seed=0)
    found = [f"--train_manifest={voices_folder / 'train.csv'}", f"--output_folder={tmp_path / 'out'}"]
    found += [f"--others.radio.manifest={voices_folder / 'other.csv'}"]
    return [*found, f"--encoder.source={encoder.eval().save(tmp_path / 'encoder')}"]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "dimensions.yaml"
    path.write_text(DIMENSIONS)
    return path


@pytest.mark.slow
def test_others_are_judged_on_one_scale(recipe: Path, options: list[str], tmp_path: Path) -> None:
    summary = run_finetuning(load_recipe(recipe, options))
    assert set(summary["ccc"]) == {"arousal", "valence"}
    assert set(summary["others"]["radio"]["ccc"]) == {"valence"}
    assert summary["others"]["radio"]["num_test"] == 8
    assert "| radio | valence |" in Path(summary["others"]["radio"]["report"]).read_text()
    scale = load_finetuned(tmp_path / "out").targets
    assert all(1 < mean < 7 for mean in scale.means)  # the system goes on saying its own corpus's numbers
    again = run_finetuning(load_recipe(recipe, options))  # only judged: the run is complete
    assert again["others"]["radio"]["ccc"] == summary["others"]["radio"]["ccc"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--label_range=null"], r"others.radio: label_range is \[-3, 3\], that of train_manifest None; give both"),
        (["--others.radio.label_range=null"], "give both"),
        (["--others.radio.colums={}"], "others.radio: has no 'colums'; possible: manifest, where, columns"),
        (["--others.radio.manifest=null"], "no manifest; give --others.radio.manifest=FILE.csv"),
        (["--others=other.csv"], "expected names of corpora"),
        (["--fold_column=split", "--test_where=null"], "others: are judged by a system that is trained once"),
        (["--tuner.objective=cross_entropy", "--tuner.label=emotion"], "label_range: the range of numbers"),
    ],
)
def test_mistakes_are_named_before_anything_is_trained(
    changes: list[str], message: str, recipe: Path, options: list[str], tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        run_finetuning(load_recipe(recipe, [*options, *changes]))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--others.radio.columns={}"], "none of the columns arousal, valence"),
        (["--others.radio.label_range=[0, 1]"], r"found -\d; expected 0 to 1"),
        (["--label_range=[1, 3]"], r"found 4; expected 1 to 3"),
    ],
)
def test_what_does_not_fit_the_data_likewise(
    changes: list[str], message: str, recipe: Path, options: list[str], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        run_finetuning(load_recipe(recipe, [*options, *changes]))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_transfer_study_of_dimensions(options: list[str], voices_folder: Path, tmp_path: Path) -> None:
    text = """
train_manifest: !PLACEHOLDER
output_folder: !PLACEHOLDER
seeds: [1, 2]
label_range: [1, 7]
others:
  radio: {manifest: !PLACEHOLDER , where: {speaker: [r2, r3]}, columns: {valence: sentiment}, label_range: [-3, 3]}
stage: !new:dino_speech.FineTuneStage {train: head, epochs: 1, chunk_s: 0.5}
study: !new:dino_speech.TransferStudy
  systems: {small: !PLACEHOLDER }
  strategies:
    frozen: [!ref <stage>]
  label: [arousal, valence]
  objective: ccc
  split_column: split
  tuner: {batch_size: 4, num_workers: 0, precision: fp32}
"""
    (tmp_path / "study.yaml").write_text(text)
    words = [*options[:3], f"--study.systems.small={tmp_path / 'encoder'}"]
    summary = run_study(load_recipe(tmp_path / "study.yaml", words))
    assert not summary["failures"]
    (row,) = summary["rows"]
    assert set(row["figures"]) == {"ccc_arousal", "ccc_valence", "ccc_valence_radio"}
    assert row["seeds"] == [1, 2]
    assert row["figures"]["ccc_valence_radio"]["interval"] is not None
    words += ["--others.radio.label_range=[-4, 4]", "--seeds=[1]"]  # another scale is another question: run anew
    (other,) = run_study(load_recipe(tmp_path / "study.yaml", words))["rows"]
    assert other["figures"]["ccc_valence_radio"]["mean"] != row["figures"]["ccc_valence_radio"]["mean"]


def test_dimensions_in_folds_and_no_classes_of_them(
    options: list[str], voices_folder: Path, tmp_path: Path, take: Callable[..., Manifest]
) -> None:
    stage = FineTuneStage("head", epochs=1, chunk_s=0.5)
    tuner = {"batch_size": 4, "num_workers": 0, "precision": "fp32"}
    study = TransferStudy(
        {"small": str(tmp_path / "encoder")},
        {"frozen": [stage]},
        label=["arousal"],
        objective="ccc",
        num_folds=2,
        tuner=tuner,
    )
    table = study.run(take(), output_folder=tmp_path / "study", seeds=[1])
    assert table.figures == ["ccc_arousal"]
    study.classes = ["1"]
    with pytest.raises(InputError, match="label names columns of numbers; leave classes out"):
        study.run(take(), output_folder=tmp_path / "study", seeds=[1])


@pytest.fixture
def take(options: list[str], voices_folder: Path) -> Callable[..., Manifest]:
    return lambda: read_manifest(voices_folder / "train.csv")


def test_a_bare_file_is_a_corpus(options: list[str], voices_folder: Path) -> None:
    found = read_others({"others": {"radio": str(voices_folder / "other.csv")}}, ["sentiment"])
    assert len(found["radio"]) == 16
    assert read_others({}, ["sentiment"]) == {}
