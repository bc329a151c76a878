"""The recipes of frame-level encoders run a step, from a checkpoint on disk; so do the commands."""

import json
from pathlib import Path

import pytest
import torch

from dino_speech import build_encoder, load_audio_text, load_encoder, load_finetuned
from dino_speech.cli.main import main
from dino_speech.errors import InputError, RecipeError
from dino_speech.recipe import load_recipe, run_adaptation, run_distillation, run_finetuning, run_study

transformers = pytest.importorskip("transformers", reason="needs the extra dino-speech[ssl]")

RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "YourSpeech"
ADAPT, DISTILL = RECIPES / "adapt" / "hparams", RECIPES / "distill" / "hparams"
CONFIG = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
CODES = {"num_codevectors_per_group": 8, "codevector_dim": 16, "proj_codevector_dim": 16}


def small(part: str, **changes: object) -> list[str]:
    options = {"batch_size": 8, "chunk_s": 0.7, "num_workers": 0, "precision": "fp32", "steps": 1, **changes}
    return [f"--{part}.{name}={value}" for name, value in options.items()]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    config = transformers.Wav2Vec2Config(**CONFIG, **CODES)
    transformers.Wav2Vec2ForPreTraining(config).save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


@pytest.fixture
def options(voices_folder: Path, tmp_path: Path) -> list[str]:
    """The voices with dimensions and a transcript."""
    header, *rows = (voices_folder / "manifest.csv").read_text().splitlines()
    lines = [f"{header},arousal,valence,dominance,transcript"]
    lines += [f"{row},{n % 3},{n % 4},{n % 5},word {n % 4}" for n, row in enumerate(rows)]
    (voices_folder / "all.csv").write_text("\n".join(lines) + "\n")
    return [f"--train_manifest={voices_folder / 'all.csv'}", f"--output_folder={tmp_path / 'out'}"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tapt", "ptapt"])
def test_an_adapted_encoder_is_fine_tuned(name: str, source: Path, options: list[str], tmp_path: Path) -> None:
    further = ["--adapter.num_clusters=[4, 8]", "--adapter.state_steps=1", "--adapter.mask_length=5"]
    chosen = [*options, f"--encoder.source={source}", *small("adapter"), *(further if name == "ptapt" else [])]
    summary = run_adaptation(load_recipe(ADAPT / f"{name}.yaml", chosen))
    assert (summary["last"]["step"], summary["num_utterances"], summary["stop_reason"]) == (1, 16, None)
    assert (tmp_path / "out" / "recipe.yaml").exists()
    tuned = [options[0], f"--output_folder={tmp_path / 'tuned'}", f"--encoder.source={summary['encoder']}"]
    tuned += ["--stages.transformer.epochs=1", "--stages.transformer.chunk_s=0.7", "--tuner.precision=fp32"]
    tuned += ["--where={speaker: [spk0, spk1]}", "--test_where={speaker: [spk2, spk3]}", "--tuner.num_workers=0"]
    assert 0 <= run_finetuning(load_recipe(ADAPT / "v_ft.yaml", tuned))["uar"] <= 1


@pytest.mark.slow
def test_dimensions_from_a_pruned_encoder(source: Path, options: list[str]) -> None:
    chosen = [*options, f"--encoder.source={source}", "--encoder.num_layers=1", "--label_range=[0, 4]"]
    chosen += ["--where={speaker: [spk0, spk1]}", "--test_where={speaker: [spk2, spk3]}", "--tuner.num_workers=0"]
    chosen += ["--stages.transformer.epochs=1", "--stages.transformer.chunk_s=0.7", "--tuner.precision=fp32"]
    summary = run_finetuning(load_recipe(ADAPT / "dimensions.yaml", chosen))
    assert set(summary["ccc"]) == {"arousal", "dominance", "valence"}
    tuned, before = load_finetuned(summary["system"]).encoder, build_encoder("wav2vec2", source=source, num_layers=1)
    same = {name for name, value in before.state_dict().items() if torch.equal(value, tuned.state_dict()[name])}
    assert same == {name for name in same if "feature_extractor" in name or name.endswith("masked_spec_embed")}
    assert any("feature_extractor" in name for name in same)
    with pytest.raises(InputError, match="found 3; expected 0 to 2"):
        run_finetuning(load_recipe(ADAPT / "dimensions.yaml", [*chosen, "--label_range=[0, 2]"]))


@pytest.mark.slow
def test_the_study_compares_the_strategies(source: Path, options: list[str], tmp_path: Path) -> None:
    chosen = [*options, f"--encoder.source={source}", *small("tapt"), *small("ptapt", mask_length=5)]
    chosen += ["--ptapt.num_clusters=[4, 8]", "--ptapt.state_steps=1", "--seeds=[1]", "--study.fractions=[1.0]"]
    chosen += ["--stages.transformer.epochs=1", "--stages.transformer.chunk_s=0.7", "--study.num_folds=2"]
    chosen += ["--study.tuner={batch_size: 8, num_workers: 0, precision: fp32}"]
    summary = run_study(load_recipe(ADAPT / "study.yaml", chosen))
    assert not summary["failures"]
    assert [row["settings"]["strategy"] for row in summary["rows"]] == ["V-FT", "TAPT", "P-TAPT"]
    with pytest.raises(RecipeError, match="trials: an AdaptationStudy judges"):
        run_study(load_recipe(ADAPT / "study.yaml", [*chosen, "--trials=x.txt"]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["first_layers", "ecapa"])
def test_a_student_is_distilled_and_compared(name: str, source: Path, options: list[str], tmp_path: Path) -> None:
    chosen = [*options, "--teacher.name=wav2vec2", f"--teacher.source={source}", *small("distiller")]
    chosen += ["--labelled_where={speaker: [spk0, spk1]}", "--test_where={speaker: [spk2, spk3]}"]
    chosen += [*small("readout"), "--readout.epochs=null", "--readout.transcript=transcript"]
    if name == "ecapa":
        chosen += ["--student.channels=8", "--student.attention_channels=8", "--student.se_channels=8"]
    summary = run_distillation(load_recipe(DISTILL / f"{name}.yaml", chosen))
    assert [row["system"] for row in summary["rows"]] == ["teacher (frozen)", "student", "student and text"]
    assert load_encoder(summary["encoder"]).config.name == ("ecapa_tdnn" if name == "ecapa" else "wav2vec2")
    assert "| student and text |" in Path(summary["report"]).read_text()
    assert load_audio_text(summary["rows"][2]["folder"]).transcript == "transcript"


@pytest.mark.slow
def test_the_commands(source: Path, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["adapt", str(ADAPT / "tapt.yaml"), *options, f"--encoder.source={source}", *small("adapter")]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert load_encoder(found["encoder"]).config.name == "wav2vec2"
    command = ["distill", str(DISTILL / "first_layers.yaml"), *options, "--teacher.name=wav2vec2"]
    command += [f"--teacher.source={source}", *small("distiller"), f"--output_folder={tmp_path / 'distilled'}"]
    assert main(command) == 0
    assert "encoder" in capsys.readouterr().out


def test_what_is_refused(source: Path, options: list[str], tmp_path: Path) -> None:
    folder = build_encoder("wav2vec2", source=source).save(tmp_path / "encoder")
    (tmp_path / "wrong.yaml").write_text(
        f"train_manifest: x.csv\noutput_folder: out\nadapter: !apply:dino_speech.load_encoder\n  source: {folder}\n"
    )
    with pytest.raises(RecipeError, match=r"adapter is SpeechEncoder; expected !new:dino_speech\.TAPT"):
        run_adaptation(load_recipe(tmp_path / "wrong.yaml"))
    chosen = [*options, "--teacher.name=wav2vec2", f"--teacher.source={source}", "--test_where={speaker: spk1}"]
    with pytest.raises(RecipeError, match="a test set, but no readout"):
        run_distillation(load_recipe(DISTILL / "first_layers.yaml", [*chosen, "--readout=null"]))
    chosen += ["--labelled_where={speaker: spk0}", "--readout.transcript=said"]
    with pytest.raises(InputError, match="no column 'said'"):  # before anything is distilled
        run_distillation(load_recipe(DISTILL / "first_layers.yaml", chosen))
    assert not (tmp_path / "out").exists()
