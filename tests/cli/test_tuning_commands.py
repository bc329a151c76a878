"""`finetune`, `train-supervised` and `predict` on a person's files, from a command line."""

import csv
import json
from pathlib import Path

import pytest
import torch

from dino_speech.cli.main import main
from dino_speech.models.registry import build_encoder

HPARAMS = Path(__file__).resolve().parents[2] / "recipes" / "YourSpeech"


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tuning_words(voices_folder: Path, tmp_path: Path) -> list[str]:
    """Words of a `finetune` that takes a second or two: two speakers to learn from, two to be judged on."""
    options = {"channels": 8, "attention_channels": 8, "se_channels": 8}
    encoder = build_encoder("ecapa_tdnn", embedding_dim=8, seed=0, **options).save(tmp_path / "encoder")
    words = [str(HPARAMS / "emotion" / "hparams" / "staged.yaml"), f"--encoder.source={encoder}"]
    words += [f"--train_manifest={voices_folder / 'manifest.csv'}", f"--output_folder={tmp_path / 'out'}"]
    words += ["--where={speaker: [spk0, spk1]}", "--test_where={speaker: [spk2, spk3]}"]
    words += [f"--stages.{stage}.{key}" for stage in ("affine", "all") for key in ("epochs=1", "chunk_s=0.4")]
    return ["finetune", *words, "--tuner.batch_size=4", "--tuner.num_workers=0"]


def answer(capsys, *words: str) -> dict:
    """The last line of stdout as JSON."""
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.slow
def test_finetune_then_predict(tuning_words, voices_folder, tmp_path, capsys) -> None:
    found = answer(capsys, *tuning_words)
    assert {"system", "uar", "micro_f1", "macro_f1", "classes", "best", "stop_reason", "report"} <= set(found)
    assert (found["classes"], found["num_test"], found["num_utterances"]) == (["happy", "neutral"], 8, 8)
    output = tmp_path / "predictions.csv"
    predicted = answer(capsys, "predict", str(voices_folder), "--system", found["system"], "--output", str(output))
    assert (predicted["num_predicted"], predicted["num_skipped"]) == (16, 0)
    with output.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["ID", "label", "happy", "neutral"]
    assert [row["ID"] for row in rows] == [row["ID"] for row in predicted["predictions"]]
    assert all(float(row["happy"]) + float(row["neutral"]) == pytest.approx(1, abs=1e-5) for row in rows)
    assert main(["predict", str(voices_folder / "spk0" / "0.wav"), "--system", str(tmp_path / "out")]) == 0
    assert "neutral" in capsys.readouterr().out.splitlines()[0]


@pytest.mark.slow
def test_train_supervised_leaves_an_encoder(voices_folder, tmp_path, capsys) -> None:
    words = [str(HPARAMS / "supervised" / "hparams" / "xvector.yaml"), "--encoder.channels=[8, 8, 8, 8, 8]"]
    words += [f"--train_manifest={voices_folder / 'manifest.csv'}", f"--output_folder={tmp_path / 'out'}"]
    words += ["--encoder.embedding_dim=8", "--stages.all.epochs=1", "--stages.all.chunk_s=0.4"]
    found = answer(capsys, "train-supervised", *words, "--tuner.batch_size=8", "--tuner.num_workers=0")
    assert found["encoder"] == str(tmp_path / "out" / "encoder")
    assert len(found["classes"]) == 4
    assert (
        main(["verify", *[str(voices_folder / "spk0" / f"{i}.wav") for i in (0, 1)], "--encoder", found["encoder"]])
        == 0
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("--test_where={speaker: [spk1, spk2]}", "1 speakers are on both sides of the split (spk1)"),
        ("--valid_where={speaker: [spk2]}", "validation and test set: 1 speakers are on both sides"),
        ("--test_where={ID: [spk2_0]}", "no column 'ID'"),
        ("--where={speaker: [spk0, spk1], emotion: happy}", "the one class 'happy'"),
        ("--tuner.label=mood", "no column 'mood'"),
        ("--tuner.lable=emotion", "did you mean 'label'?"),
        ("--valid_wher={split: valid}", "did you mean 'valid_where'?"),
        ("--tuner=3", "tuner is int; expected !new:dino_speech.FineTuner"),
    ],
)
def test_what_does_not_fit_is_told_before_training(tuning_words, tmp_path, capsys, change, message) -> None:
    key = change.partition("=")[0]
    words = [word for word in tuning_words if not word.startswith(f"{key}=")]
    if key == "--tuner":
        words = [word for word in words if not word.startswith("--tuner.")]
    assert main([*words, change]) == (2 if "did you mean" in message else 1)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_finetune_fold_by_fold(tuning_words, tmp_path, capsys) -> None:
    words = [word for word in tuning_words if "where=" not in word] + ["--num_folds=2"]
    found = answer(capsys, *words)
    assert (found["num_folds"], found["num_test"], found["stop_reason"]) == (2, 16, None)
    assert {row["fold"]: row["num_test"] for row in found["folds"]} == {"1": 8, "2": 8}
    assert "## Folds" in Path(found["report"]).read_text()
    assert main(words) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[0].split() == ["fold", "system", "num_train", "num_test", "num_speakers", "uar"]
    assert "report.md" in text
    assert main([*words, "--test_where={speaker: spk0}"]) == 1
    assert "test_where and num_folds both say what is judged" in capsys.readouterr().err


@pytest.mark.slow
def test_a_clinical_recipe_shows_its_warnings(tuning_words, tmp_path, capsys) -> None:
    words = [word for word in tuning_words if "where=" not in word]
    words += ["--tuner.label=group", "--num_folds=2", "--clinical={positive: ad}"]
    path = tmp_path / "voices" / "manifest.csv"
    header, *rows = path.read_text().splitlines()
    groups = [f"{row},{'ad' if row[:4] in ('spk0', 'spk2') else 'control'}" for row in rows]
    path.write_text("\n".join([f"{header},group", *groups]) + "\n")
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "Silence control not possible" in text
    assert "not a diagnosis" in text
    found = answer(capsys, *words)
    assert (found["num_subjects"], found["num_folds"], found["silence_control"]["possible"]) == (4, 2, False)


def test_predict_without_a_system(voices_folder, tmp_path, capsys) -> None:
    assert main(["predict", str(voices_folder), "--system", str(tmp_path)]) == 1
    assert "expected a fine-tuned system's folder" in capsys.readouterr().err
