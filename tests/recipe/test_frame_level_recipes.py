"""The corpora's recipes with frame-level models: all are built, one of each kind runs, on tiny models and voices.

The study of all three strategies runs in test_adapting.py.
"""

from pathlib import Path

import pytest

from dino_speech import AdaptationStudy, Distiller, FineTuner, build_encoder, load_audio_text, load_finetuned
from dino_speech.recipe import load_recipe, run_distillation, run_finetuning
from dino_speech.recipe.load import Recipe
from dino_speech.transfer.stages import trained_modules

transformers = pytest.importorskip("transformers", reason="needs the extra dino-speech[ssl]")

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
ALL = sorted(RECIPES.glob("*/frame_level/hparams/*.yaml"))
CONFIG = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
LOOP = ["batch_size=8", "chunk_s=0.7", "num_workers=0", "precision=fp32", "steps=1"]
TUNER = ["--tuner.batch_size=8", "--tuner.num_workers=0", "--tuner.precision=fp32"]
COLUMNS = {  # of the four voices
    "fold": ["1", "1", "2", "2"],
    "split": ["train", "dev", "test1", "test1"],
}


def name_of(recipe: Path) -> str:
    return f"{recipe.parts[-4]}-{recipe.stem}"


def small(part: str, *more: str) -> list[str]:
    return [f"--{part}.{option}" for option in (*LOOP, *more)]


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    """A checkpoint of each family as transformers saves it, and one of them as an encoder's folder."""
    found = {}
    for kind, prefix in (("wav2vec2", "Wav2Vec2"), ("hubert", "Hubert")):
        model = getattr(transformers, f"{prefix}Model")(getattr(transformers, f"{prefix}Config")(**CONFIG))
        model.save_pretrained(tmp_path / kind)
        found[kind] = tmp_path / kind
    found["encoder"] = build_encoder("wav2vec2", source=found["wav2vec2"]).save(tmp_path / "encoder")
    return found


@pytest.fixture
def manifest(voices_folder: Path) -> Path:
    """The voices with folds, splits, dimensions from 1 to 5, a sentiment from -3 to 3, and what was said."""
    header, *rows = (voices_folder / "manifest.csv").read_text().splitlines()
    lines = [",".join([header, *COLUMNS, "arousal,dominance,valence,sentiment,transcript"])]
    for number, row in enumerate(rows):
        numbers = [1 + number % 4, 1 + number % 5, 1 + number % 3, number % 7 - 3]
        cells = [*(values[number // 4] for values in COLUMNS.values()), *map(str, numbers), f"word {number % 4}"]
        lines.append(",".join([row, *cells]))
    (voices_folder / "corpus.csv").write_text("\n".join(lines) + "\n")
    return voices_folder / "corpus.csv"


def options_of(recipe: Path, sources: dict[str, Path], manifest: Path, tmp_path: Path) -> list[str]:
    """What makes a recipe one for the voices and a tiny model."""
    text = recipe.read_text()
    found = [f"--train_manifest={manifest}", f"--output_folder={tmp_path / 'out'}"]
    if "distill.yaml" in str(recipe):
        return [*found, f"--teacher.source={sources['hubert']}"]
    if recipe.stem == "v_ft":
        return [*found, f"--encoder.source={sources['encoder']}"]
    if recipe.stem == "study":
        return [*found, f"--encoder.source={sources['wav2vec2']}"]
    hubert = "name: hubert" in text
    found += [f"--encoder.source={sources['hubert' if hubert else 'wav2vec2']}"]
    return found if hubert else [*found, "--encoder.num_layers=2"]


def built(recipe: Path, sources: dict[str, Path], manifest: Path, tmp_path: Path, *more: str) -> Recipe:
    return load_recipe(recipe, [*options_of(recipe, sources, manifest, tmp_path), *more])


@pytest.mark.parametrize("recipe", ALL, ids=name_of)
def test_each_recipe_is_built(recipe: Path, sources: dict[str, Path], manifest: Path, tmp_path: Path) -> None:
    values = built(recipe, sources, manifest, tmp_path)
    kinds = {"tuner": FineTuner, "study": AdaptationStudy, "distiller": Distiller}
    (key,) = [key for key in kinds if key in values]
    assert isinstance(values[key], kinds[key])
    if key == "study":
        assert list(values["study"].adapters) == ["V-FT", "TAPT", "P-TAPT"]
        assert (values["study"].fold_column is None) != (values["study"].num_folds is None)
    if key != "distiller":
        (stage,) = values[key].stages
        assert not any("feature_extractor" in name for name in trained_modules(values["encoder"], stage))
    if recipe.stem in ("dimensions", "cross_corpus", "hubert"):
        assert values["tuner"].objective == "ccc"
        depth = len(values["encoder"].backbone.model.encoder.layers)
        assert depth == (3 if recipe.stem == "hubert" else 2)


def test_every_corpus_is_there() -> None:
    found = {name_of(recipe) for recipe in ALL}
    open_corpora = ("RAVDESS", "CREMA-D", "EmoDB", "nEMO", "URDU")
    assert found >= {f"{corpus}-{kind}" for corpus in (*open_corpora, "IEMOCAP") for kind in ("v_ft", "study")}
    assert found >= {f"{corpus}-dimensions" for corpus in ("IEMOCAP", "MSP-Podcast", "MOSI")}
    assert found >= {"MSP-Podcast-distill", "MSP-Podcast-cross_corpus", "MOSI-distill"}
    for recipe in ALL:
        text = (recipe.parents[1] / "README.md").read_text()
        assert "not run here: needs the" in text
        assert recipe.name in text
        assert "published" in text


@pytest.mark.slow
def test_leaving_one_session_out(sources: dict[str, Path], manifest: Path, tmp_path: Path) -> None:
    recipe = RECIPES / "IEMOCAP" / "frame_level" / "hparams" / "v_ft.yaml"
    short = ["--stages.transformer.epochs=1", "--stages.transformer.chunk_s=0.7", *TUNER]
    summary = run_finetuning(built(recipe, sources, manifest, tmp_path, *short))
    assert [row["fold"] for row in summary["folds"]] == ["1", "2"]
    assert summary["num_test"] == 16


@pytest.mark.slow
def test_dimensions_across_corpora(sources: dict[str, Path], manifest: Path, tmp_path: Path) -> None:
    recipe = RECIPES / "MSP-Podcast" / "frame_level" / "hparams" / "cross_corpus.yaml"
    mosi = manifest.with_name("mosi.csv")
    mosi.write_text(manifest.read_text().replace("arousal,dominance,valence", "x,y,z"))
    short = ["--stages.transformer.epochs=1", "--stages.transformer.chunk_s=0.7", *TUNER]
    short += [f"--others.IEMOCAP={{manifest: {manifest}, where: {{speaker: [spk2, spk3]}}, label_range: [1, 5]}}"]
    short += [f"--others.MOSI.manifest={mosi}", "--others.MOSI.where={speaker: [spk2, spk3]}"]
    summary = run_finetuning(built(recipe, sources, manifest, tmp_path, *short))
    assert set(summary["ccc"]) == {"arousal", "dominance", "valence"}
    assert set(summary["others"]["IEMOCAP"]["ccc"]) == {"arousal", "dominance", "valence"}
    assert set(summary["others"]["MOSI"]["ccc"]) == {"valence"}
    system = load_finetuned(summary["system"])
    assert len(system.encoder.backbone.model.encoder.layers) == 2
    assert summary["best"] is not None  # by the rows of dev


@pytest.mark.slow
def test_sentiment_with_text(sources: dict[str, Path], manifest: Path, tmp_path: Path) -> None:
    recipe = RECIPES / "MOSI" / "frame_level" / "hparams" / "distill.yaml"
    manifest.write_text(manifest.read_text().replace(",test1,", ",test,").replace(",dev,", ",train,"))
    short = [*small("distiller"), *small("readout", "epochs=null"), "--distiller.num_layers=1"]
    summary = run_distillation(built(recipe, sources, manifest, tmp_path, *short))
    assert [list(row["ccc"]) for row in summary["rows"]] == [["sentiment"]] * 3
    system = load_audio_text(summary["rows"][2]["folder"])
    assert system.predict_file(manifest.parent / "spk3" / "0.wav", "word 1").values.keys() == {"sentiment"}
