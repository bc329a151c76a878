"""Every recipe of the repository runs two steps, made small by options; and states nothing that it does not need."""

import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dino_speech import build_encoder, load_encoder, load_finetuned
from dino_speech.recipe import (
    load_recipe,
    run_finetuning,
    run_pretraining,
    run_pseudo_labels,
    run_study,
)

ROOT = Path(__file__).resolve().parents[1]
ALL = sorted((ROOT / "recipes").rglob("*.yaml"))
CORPUS = [path for path in ALL if path.parts[-3] in ("emotion", "diagnosis") and path.parts[-4] != "YourSpeech"]
TUNING = [
    path for path in ALL if ("\ntuner:" in path.read_text() or path.parts[-3] == "supervised") and path not in CORPUS
]
STUDIES = [path for path in ALL if "\nstudy:" in path.read_text() and path.stem != "verification"]
ROUNDS = [
    path for path in ALL if path.parts[-3] == "pseudo_labels" or path.parts[-3:][::2] == ("label_free", "rounds.yaml")
]
VERIFICATION = [path for path in ALL if path.stem == "verification"]  # tests/recipe/test_studying.py
# tests/recipe/test_adapting.py, tests/recipe/test_frame_level_recipes.py
FRAME_LEVEL = [path for path in ALL if path.parts[-3] in ("adapt", "distill", "frame_level")]
TUNING, STUDIES = ([path for path in found if path not in FRAME_LEVEL] for found in (TUNING, STUDIES))
RECIPES = [path for path in ALL if path not in (*TUNING, *CORPUS, *STUDIES, *VERIFICATION, *ROUNDS, *FRAME_LEVEL)]
SMALL = {
    "ecapa_tdnn": ["--encoder.channels=16", "--encoder.attention_channels=8", "--encoder.se_channels=8"],
    "light_resnet34": ["--encoder.channels=2"],
}
TINY = [
    *("--crops.long_s=0.6", "--crops.short_s=0.3", "--crops.min_s=0.4", "--encoder.embedding_dim=8"),
    *("--trainer.head.num_prototypes=16", "--trainer.head.hidden_dim=8", "--trainer.head.bottleneck_dim=4"),
    *("--trainer.schedule.batch_size=4", "--trainer.schedule.length=2", "--trainer.schedule.warmup=1"),
    *("--trainer.run.num_workers=0", "--trainer.run.precision=fp32"),
]


def _name(recipe: Path) -> str:
    return str(recipe.relative_to(ROOT / "recipes"))


def _encoder_name(recipe: Path) -> str:
    if found := re.search(r"name: (\w+)", recipe.read_text()):
        return found[1]
    base = re.search(r"^base: (\S+)", recipe.read_text(), re.M)
    assert base
    return _encoder_name(recipe.parent / base[1])


@pytest.fixture
def _one_thread() -> Iterator[None]:
    """Networks this small only wait for a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("recipe", RECIPES, ids=_name)
def test_recipe_runs_two_steps(recipe: Path, voices_folder: Path, tmp_path: Path) -> None:
    options = [f"--train_manifest={voices_folder / 'manifest.csv'}", f"--output_folder={tmp_path / 'out'}"]
    options += ["--where=null", *TINY, *SMALL[_encoder_name(recipe)]]
    summary = run_pretraining(load_recipe(recipe, options))
    assert (summary["num_steps"], summary["num_utterances"], summary["stop_reason"]) == (2, 16, None)
    assert load_encoder(summary["encoder"]).embed_file(voices_folder / "spk0" / "0.wav").shape == (8,)
    kept = load_recipe(tmp_path / "out" / "recipe.yaml")  # complete: it runs without its base and without options
    assert kept["trainer"].head.num_prototypes == 16
    assert kept["seed"] == 1986


@pytest.mark.slow
@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("recipe", TUNING, ids=_name)
def test_tuning_recipe_runs_a_step_per_stage(recipe: Path, voices_folder: Path, tmp_path: Path) -> None:
    options = [f"--train_manifest={voices_folder / 'manifest.csv'}", f"--output_folder={tmp_path / 'out'}"]
    options += ["--tuner.batch_size=8", "--tuner.num_workers=0", "--tuner.precision=fp32"]
    supervised = recipe.parts[-3] == "supervised"
    stages = (
        ["all"] if supervised else re.findall(r"^  (\w+): !new:dino_speech.FineTuneStage", recipe.read_text(), re.M)
    )
    options += [f"--stages.{stage}.epochs=1" for stage in stages] + [
        f"--stages.{stage}.chunk_s=0.5" for stage in stages
    ]
    if supervised:
        sizes = {"xvector": ["--encoder.channels=[8, 8, 8, 8, 8]"], "ecapa": SMALL["ecapa_tdnn"]}
        options += ["--encoder.embedding_dim=8", *sizes[recipe.stem], "--where=null"]
    else:
        small = build_encoder("ecapa_tdnn", embedding_dim=8, channels=8, attention_channels=8, se_channels=8, seed=0)
        options += [f"--encoder.source={small.save(tmp_path / 'encoder')}"]
        options += ["--where={speaker: [spk0, spk1]}", "--test_where={speaker: [spk2, spk3]}"]
    summary = run_finetuning(load_recipe(recipe, options), keep_encoder=supervised)
    assert summary["num_steps"] == len(stages) * (2 if supervised else 1)
    assert load_encoder(summary["encoder"]).embed_file(voices_folder / "spk0" / "0.wav").shape == (8,)
    assert load_finetuned(tmp_path / "out").classes == summary["classes"]
    if supervised:
        assert load_encoder(tmp_path / "out").embedding_dim == 8
    else:
        report = json.loads((tmp_path / "out" / "report.json").read_text())
        assert report["results"]["fine-tuned"]["uar"] == summary["uar"]
        assert (tmp_path / "out" / "report.md").exists()


CORPUS_COLUMNS = {  # of the four voices
    "fold": ["1", "1", "2", "3"],
    "split": ["train", "dev", "test1", "test1"],
    "diagnosis": ["ad", "control", "ad", "control"],
}


@pytest.mark.slow
@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("recipe", CORPUS, ids=_name)
def test_corpus_recipe_runs_a_step_per_stage(recipe: Path, voices_folder: Path, tmp_path: Path) -> None:
    columns = dict(CORPUS_COLUMNS)
    if "ADReSS" in str(recipe):
        columns["split"] = ["train", "train", "test", "test"]
    folds = ["--num_folds=2"] if "URDU" in str(recipe) else []
    options = [f"--train_manifest={_with_columns(voices_folder, columns)}", f"--output_folder={tmp_path / 'out'}"]
    options += [f"--encoder.source={_small_encoder(tmp_path)}", "--tuner.batch_size=8", "--tuner.num_workers=0"]
    options += [f"--stages.{stage}.{option}" for stage in ("affine", "all") for option in ("epochs=1", "chunk_s=0.4")]
    values = load_recipe(recipe, [*options, *folds])
    summary = run_finetuning(values)
    report = (tmp_path / "out" / "report.md").read_text()
    if "ADReSS" in str(recipe):
        assert (summary["num_subjects"], summary["split"], summary["segment_s"]) == (2, "split", 5.0)
        assert "Silence control not possible" in report
        assert load_finetuned(tmp_path / "out" / "recordings" / "test").classes == ["0", "1"]
        return
    if folds or "fold_column" in values:
        assert [row["fold"] for row in summary["folds"]] == (["1", "2"] if folds else ["1", "2", "3"])
        assert summary["num_test"] == 16
        assert "## Folds" in report
    else:
        assert (summary["num_utterances"], summary["num_test"]) == (4, 8)
    found = summary["ccc"] if recipe.stem == "dimensions" else summary
    assert {"arousal", "dominance", "valence"} == set(found) if recipe.stem == "dimensions" else 0 <= found["uar"] <= 1


def _with_columns(voices_folder: Path, columns: dict[str, list[str]]) -> Path:
    """The voices' manifest with a value for each speaker, and three dimensions for each utterance."""
    header, *rows = (voices_folder / "manifest.csv").read_text().splitlines()
    lines = [",".join([header, *columns, "arousal", "dominance", "valence"])]
    for number, row in enumerate(rows):
        numbers = [str(1 + number % modulus) for modulus in (4, 5, 3)]
        lines.append(",".join([row, *(values[number // 4] for values in columns.values()), *numbers]))
    path = voices_folder / "corpus.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def _small_encoder(tmp_path: Path) -> Path:
    small = build_encoder("ecapa_tdnn", embedding_dim=8, channels=8, attention_channels=8, se_channels=8, seed=0)
    return small.eval().save(tmp_path / "encoder")


def _short_stages(recipe: Path) -> list[str]:
    stages = re.findall(r"^  (\w+): !new:dino_speech.FineTuneStage", recipe.read_text(), re.M)
    return [f"--stages.{stage}.{option}" for stage in stages for option in ("epochs=1", "chunk_s=0.5")]


@pytest.mark.slow
@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("recipe", STUDIES, ids=_name)
def test_study_recipe_gives_its_table(recipe: Path, voices_folder: Path, tmp_path: Path) -> None:
    folder = _small_encoder(tmp_path)
    options = [f"--train_manifest={voices_folder / 'manifest.csv'}", f"--output_folder={tmp_path / 'out'}"]
    options += [f"--study.systems.dino={folder}", f"--study.systems.none=untrained:{folder}", "--seeds=[1]"]
    options += ["--study.num_folds=2", "--study.tuner={batch_size: 8, num_workers: 0}", *_short_stages(recipe)]
    summary = run_study(load_recipe(recipe, options))
    assert summary["num_cells"] == 6
    assert not summary["failures"]
    assert "| dino | staged |" in (tmp_path / "out" / "table.md").read_text()
    assert all(Path(picture).exists() for picture in summary["pictures"])
    assert run_study(load_recipe(recipe, options))["rows"] == summary["rows"]


@pytest.mark.slow
@pytest.mark.usefixtures("_one_thread")
@pytest.mark.slow
def test_label_free_from_a_manifest_to_an_encoder(voices_folder: Path, tmp_path: Path) -> None:
    """Both recipes of label_free, as its script calls them."""
    words = [str(voices_folder / "manifest.csv"), "--output", str(tmp_path / "out"), "--utterances=8", "--epochs=1"]
    sizes = ["channels=8", "embedding_dim=8", "attention_channels=8", "se_channels=8"]
    words += ["--contrast", *(f"encoder.{size}" for size in sizes), "trainer.schedule.batch_size=4", "crops.min_s=0.5"]
    words += ["crops.long_s=0.2", "crops.short_s=0.2", "trainer.run.num_workers=0", "trainer.run.precision=fp32"]
    words += ["--rounds", "clustering.num_clusters=4", "clustering.min_margin=-2.0", "clustering.min_utterances=1"]
    words += [f"stages.{stage}.{option}" for stage in ("head", "all") for option in ("epochs=1", "chunk_s=0.5")]
    words += ["pseudo_labels.tuner={objective: aam_softmax, batch_size: 8, num_workers: 0}"]
    script = runpy.run_path(str(ROOT / "recipes" / "YourSpeech" / "label_free" / "run.py"))
    with pytest.raises(SystemExit, match="16 utterances; expected 384 or more"):
        script["main"](words)
    script["main"](
        words, min_s=0.5, beside={"channels": 8, "embedding_dim": 8, "attention_channels": 8, "se_channels": 8}
    )
    encoder = load_encoder(tmp_path / "out" / "rounds" / "encoder")
    assert encoder.embedding_dim == 8 + 8
    assert load_encoder(tmp_path / "out" / "joined").embedding_dim == 8 + 8


@pytest.mark.parametrize("recipe", [path for path in ROUNDS if "\nbeside:" not in path.read_text()], ids=_name)
def test_pseudo_label_recipe_does_its_rounds(recipe: Path, voices_folder: Path, tmp_path: Path) -> None:
    options = [f"--train_manifest={voices_folder / 'manifest.csv'}", f"--output_folder={tmp_path / 'out'}"]
    options += [f"--encoder.source={_small_encoder(tmp_path)}", "--clustering.num_clusters=4"]
    options += [f"--stages.{stage}.{option}" for stage in ("affine", "all") for option in ("epochs=1", "chunk_s=0.5")]
    options += ["--clustering.min_margin=-2.0", "--clustering.min_utterances=1", "--where=null"]
    options += ["--clustering.utterances_per_centroid=1"]
    options += ["--pseudo_labels.tuner={batch_size: 8, num_workers: 0}"]
    summary = run_pseudo_labels(load_recipe(recipe, options))
    assert [found["round"] for found in summary["rounds"]] == [0, 1, 2]
    assert load_encoder(tmp_path / "out").embedding_dim == 8


@pytest.mark.parametrize("recipe", ALL, ids=_name)
def test_each_value_carries_its_source(recipe: Path) -> None:
    sourced = re.compile(r"\[(paper|peer|ours|dinov2)\]")
    inside = [line for line in recipe.read_text().splitlines() if re.match(r"  \w+: (?!!ref|null|\[!ref)[^!{\s]", line)]
    unsourced = [line for line in inside if not sourced.search(line)]
    free = re.compile(r"  (precision|cache_gib|monitor_every|name):")
    assert inside or recipe.read_text().partition("base: ")[1]
    assert [line for line in unsourced if not free.match(line)] == []


def test_recipes_of_this_repository_are_all_there() -> None:
    assert {_name(recipe) for recipe in ALL} >= {
        "YourSpeech/emotion/hparams/staged.yaml",
        *(f"{name}/emotion/hparams/staged.yaml" for name in ("IEMOCAP", "MSP-Podcast", "CREMA-D", "RAVDESS", "EmoDB")),
        *(f"{name}/emotion/hparams/dimensions.yaml" for name in ("IEMOCAP", "MSP-Podcast")),
        "ADReSS/diagnosis/hparams/staged.yaml",
        "YourSpeech/supervised/hparams/xvector.yaml",
        "VoxCeleb/dino/hparams/ecapa.yaml",
        "VoxCeleb/dino/hparams/light_resnet34.yaml",
        "YourSpeech/dino/hparams/cpu.yaml",
        "YourSpeech/dino/hparams/gpu.yaml",
    }
