"""The recipe of a study with trials: several lists, each a file or a mapping."""

from pathlib import Path

import pytest

from dino_speech import build_encoder, read_manifest
from dino_speech.data.manifest import write_manifest
from dino_speech.data.trials import make_trials, write_trials
from dino_speech.errors import RecipeError
from dino_speech.recipe import load_recipe, run_study

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "YourSpeech" / "transfer" / "hparams" / "verification.yaml"
TEXT = """
train_manifest: !PLACEHOLDER
trials_manifest: !PLACEHOLDER
group_by: emotion
trials:
  own: !PLACEHOLDER
  other: !PLACEHOLDER
output_folder: !PLACEHOLDER
seeds: [1]
study: !new:dino_speech.TransferStudy
  systems: {small: !PLACEHOLDER }
  strategies: {as it is: []}
  label: speaker
"""


@pytest.fixture
def words(voices_folder: Path, tmp_path: Path) -> list[str]:
    manifest = read_manifest(voices_folder / "manifest.csv")
    train = write_manifest(manifest.select(speaker=["spk0", "spk1"]), tmp_path / "train.csv")
    test = write_manifest(manifest.select(speaker=["spk2", "spk3"]), tmp_path / "test.csv")
    trials = write_trials(make_trials(read_manifest(test)), tmp_path / "trials.txt")
    folder = build_encoder("ecapa_tdnn", embedding_dim=8, channels=8, seed=0).eval().save(tmp_path / "encoder")
    (tmp_path / "study.yaml").write_text(TEXT)
    return [
        *(f"--train_manifest={train}", f"--trials_manifest={test}", f"--trials.own={trials}"),
        *(f"--trials.other={{trials: {trials}, manifest: {voices_folder / 'manifest.csv'}}}",),
        *(f"--output_folder={tmp_path / 'out'}", f"--study.systems.small={folder}"),
    ]


@pytest.mark.slow
def test_each_list_has_its_figures(words: list[str], tmp_path: Path) -> None:
    summary = run_study(load_recipe(tmp_path / "study.yaml", words))
    figures = summary["rows"][0]["figures"]
    assert {"eer_own", "min_dcf_own", "eer_other", "min_dcf_other", "eer_own_happy", "eer_other_neutral"} <= set(
        figures
    )
    assert figures["eer_own"] == figures["eer_other"]


@pytest.mark.slow
def test_the_recipe_of_verification(words: list[str], tmp_path: Path) -> None:
    options = [
        word for word in words if word.split("=")[0] not in ("--trials.own", "--trials.other", "--study.systems.small")
    ]
    options += [word.replace("--trials.own", "--trials") for word in words if word.startswith("--trials.own")]
    systems = f"--study.systems={{dino: {tmp_path / 'encoder'}}}"
    stages = [
        f"--stages.{stage}.{option}"
        for stage in ("affine", "all", "one_shot")
        for option in ("epochs=1", "chunk_s=0.5")
    ]
    tuner = "--study.tuner={batch_size: 8, num_workers: 0, class_weights: null}"
    summary = run_study(load_recipe(RECIPE, [*options, systems, *stages, tuner, "--seeds=[1]"]))
    assert [row["settings"]["strategy"] for row in summary["rows"]] == ["as it is", "staged", "one-shot"]
    assert set(summary["rows"][0]["figures"]) == {"eer", "min_dcf"}
    assert any(path.endswith("det.png") for path in summary["pictures"])


def test_a_list_without_its_trials_is_refused(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"trials\.other: has manifest; expected trials and manifest"):
        run_study(load_recipe(tmp_path / "study.yaml", [*words, "--trials.other={manifest: x.csv}"]))
