"""Fine-tuned systems asked a clinical question: the same pipeline on silence finds a confound planted there."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dino_speech import FineTunedSubjects, FineTuner, FineTuneStage, build_encoder, evaluate_clinical, load_finetuned
from dino_speech.data.manifest import Manifest
from dino_speech.errors import InputError, RecipeError
from dino_speech.evaluation.clinical.subjects import TARGET
from dino_speech.recipe import load_recipe, run_finetuning

Clinic = Callable[..., Manifest]
QUESTION = {"label": "diagnosis", "positive": "ad", "num_folds": 2, "num_resamples": 200}
HPARAMS = Path(__file__).resolve().parents[2] / "recipes" / "ADReSS" / "diagnosis" / "hparams"


def small_encoder():
    # Without mean normalisation: it would take the colour of a steady noise away, and with it the planted confound.
    options = {"channels": 8, "attention_channels": 8, "se_channels": 8, "statistics_shortcut": True}
    return build_encoder("ecapa_tdnn", embedding_dim=16, seed=0, mean_norm="none", **options)


def tuner(**changes: object) -> FineTuner:
    stages = [FineTuneStage("affine", epochs=5, lr=1e-2, chunk_s=0.5), FineTuneStage("all", epochs=10, chunk_s=0.5)]
    given = {"label": "diagnosis", "stages": stages, "batch_size": 10, "num_workers": 0, "precision": "fp32"}
    return FineTuner(small_encoder(), **{**given, **changes})  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_confound_in_silence_is_found_by_the_same_pipeline(clinic: Clinic, tmp_path: Path) -> None:
    classifier = FineTunedSubjects(tuner(), output_folder=tmp_path / "out")
    report = evaluate_clinical(None, clinic(in_silence=True), classifier=classifier, segment_s=1.0, **QUESTION)
    assert report.silence.result.figures["auc"] > 0.9
    assert report.silence.above_chance
    assert "silent parts alone tell ad from control" in report.warnings()[0]
    systems = {name: load_finetuned(tmp_path / "out" / name) for name in ("recordings/fold1", "silence/fold1")}
    assert {system.targets.label for system in systems.values()} == {TARGET}


@pytest.mark.slow
def test_a_voice_that_tells_does_not_alarm_the_control(clinic: Clinic, tmp_path: Path) -> None:
    classifier = FineTunedSubjects(tuner(), output_folder=tmp_path / "out")
    report = evaluate_clinical(None, clinic(in_voice=True), classifier=classifier, segment_s=1.0, **QUESTION)
    assert report.result.figures["auc"] > 0.9
    assert not report.silence.above_chance


@pytest.mark.slow
def test_log_odds_are_those_of_the_system_and_silence_has_as_many_steps(clinic: Clinic, tmp_path: Path) -> None:
    whole = clinic(in_voice=True)
    for row in whole:
        row.labels[TARGET] = str(int(row.labels["diagnosis"] == "ad"))
    manifest = Manifest(list(whole), columns=[*whole.columns, TARGET])
    train, test = manifest.select(split="train"), manifest.select(split="test")
    quick = [FineTuneStage("all", epochs=2, chunk_s=0.5)]
    classifier = FineTunedSubjects(tuner(stages=quick, batch_size=5), output_folder=tmp_path / "out")
    answer = classifier(train, test, run="recordings/test")
    said = load_finetuned(tmp_path / "out" / "recordings" / "test").predict(list(test))
    assert np.allclose(answer.log_odds, np.log(said.probabilities[:, 1] / said.probabilities[:, 0]), atol=1e-4)
    again = FineTunedSubjects(tuner(stages=quick, batch_size=5), output_folder=tmp_path / "out")
    assert np.array_equal(again(train, test, run="recordings/test").log_odds, answer.log_odds)
    classifier(train.subset(range(6)), test, run="silence/test")
    assert [_num_steps(tmp_path / "out" / part / "test") for part in ("recordings", "silence")] == [4, 4]
    # unequal classes that the loss does not balance: their odds are taken off
    rare = train.subset([i for i, row in enumerate(train) if row.labels[TARGET] == "0" or i < 4])
    plain = FineTunedSubjects(tuner(stages=quick, class_weights=None), output_folder=tmp_path / "rare")
    answer = plain(rare, test, run="recordings/test")
    said = load_finetuned(tmp_path / "rare" / "recordings" / "test").predict(list(test))
    odds = [row.labels[TARGET] for row in rare].count("1") / [row.labels[TARGET] for row in rare].count("0")
    expected = np.log(said.probabilities[:, 1] / said.probabilities[:, 0]) - np.log(odds)
    assert np.allclose(answer.log_odds, expected, atol=1e-4)
    with pytest.raises(InputError, match="other recordings or other silence"):
        classifier(train, test, run="silence/test")


def _num_steps(folder: Path) -> int:
    import torch

    return int(torch.load(folder / "state" / "last.pt", weights_only=True)["step"])


@pytest.mark.slow
def test_files_that_cannot_be_read_are_listed(clinic: Clinic, tmp_path: Path) -> None:
    manifest = clinic(in_voice=True)
    Path(manifest[0].wav).write_bytes(b"no audio")
    classifier = FineTunedSubjects(tuner(stages=[FineTuneStage("head", steps=1)]), output_folder=tmp_path / "out")
    report = evaluate_clinical(None, manifest, classifier=classifier, silence_control=False, **QUESTION)
    assert manifest[0].id in {item.name for item in report.skipped}
    assert report.result.num_subjects == 19


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"max_minutes": 1.0}, "half a control"), ({"objective": "ccc", "label": ["age"]}, "two classes")],
)
def test_tuners_that_cannot_answer(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FineTunedSubjects(tuner(**changes), output_folder=tmp_path)


def options_of(clinic: Clinic, tmp_path: Path) -> list[str]:
    manifest = clinic(in_silence=True)
    options = [f"--train_manifest={manifest.path}", f"--output_folder={tmp_path / 'out'}", "--tuner.segment_s=1.0"]
    options += [f"--encoder.source={small_encoder().eval().save(tmp_path / 'encoder')}", "--clinical.vad=energy"]
    options += ["--tuner.batch_size=10", "--tuner.num_workers=0", "--tuner.precision=fp32", "--augment=null"]
    return options + [f"--stages.{stage}.{option}" for stage in ("affine", "all") for option in ("epochs=8", "lr=1e-2")]


@pytest.mark.slow
def test_recipe_with_a_clinical_question(clinic: Clinic, tmp_path: Path) -> None:
    options = options_of(clinic, tmp_path)
    found = run_finetuning(load_recipe(HPARAMS / "staged.yaml", options))
    assert (found["num_subjects"], found["split"], found["segment_s"], found["seed"]) == (10, "split", 1.0, 1986)
    assert found["silence_control"]["above_chance"]
    report = (tmp_path / "out" / "report.md").read_text()
    assert "The silent parts alone tell ad from control" in report
    again = run_finetuning(load_recipe(HPARAMS / "staged.yaml", options))
    assert again["silence_control"] == found["silence_control"]
    with pytest.raises(InputError, match="other settings"):
        run_finetuning(load_recipe(HPARAMS / "staged.yaml", [*options, "--clinical.vad=range"]))
    quick = [*options, "--clinical.vad=range", "--stages.affine.epochs=1", "--stages.all.epochs=1"]
    restarted = run_finetuning(load_recipe(HPARAMS / "staged.yaml", quick), resume=False)
    assert restarted["silence_control"]["vad"]["name"] == "RangeVAD"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--clinical.positiv=ad", "clinical has no 'positiv'"),
        ("--clinical.positive=null", "the diagnosis to be found"),
        ("--clinical=ad", "expected a mapping"),
        ("--clinical.positive=AD", "found values: ad, control"),
        ("--test_where={split: test}", "both say what is judged"),
        ("--valid_where={split: test}", "no validation set"),
        ("--num_folds=3", "give one of num_folds, fold_column and split"),
    ],
)
def test_questions_that_cannot_be_asked(clinic: Clinic, tmp_path: Path, option: str, message: str) -> None:
    with pytest.raises((InputError, RecipeError), match=message):
        run_finetuning(load_recipe(HPARAMS / "staged.yaml", [*options_of(clinic, tmp_path), option]))
    assert not (tmp_path / "out").exists()


def test_one_encoder_is_not_trained_by_many_folds(clinic: Clinic, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="trains several encoders"):
        run_finetuning(load_recipe(HPARAMS / "staged.yaml", options_of(clinic, tmp_path)), keep_encoder=True)
