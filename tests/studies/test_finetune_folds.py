"""Fine-tuning fold by fold: everybody is judged once, by a system that has not heard them; finished folds are kept."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dino_speech import FineTuner, FineTuneStage, build_encoder, finetune_folds, load_finetuned, read_manifest
from dino_speech.data.manifest import Manifest
from dino_speech.errors import InputError
from dino_speech.metrics import uar


@pytest.fixture
def folded(voices_folder: Path) -> Manifest:
    """Four speakers: fold 2 is the first two, 10 the third, `x/y` the last; a number for each utterance."""
    header, *rows = (voices_folder / "manifest.csv").read_text().splitlines()
    folds = ["2", "2", "10", "x/y"]
    lines = [f"{row},{folds[number // 4]},{1 + number % 5}" for number, row in enumerate(rows)]
    (voices_folder / "folded.csv").write_text("\n".join([f"{header},fold,arousal", *lines]) + "\n")
    return read_manifest(voices_folder / "folded.csv")


def tuner(**changes: object) -> FineTuner:
    encoder = build_encoder("ecapa_tdnn", embedding_dim=8, channels=8, attention_channels=8, se_channels=8, seed=0)
    given = {"label": "emotion", "stages": [FineTuneStage("all", steps=2, chunk_s=0.4)], "batch_size": 4}
    return FineTuner(encoder, **{**given, "num_workers": 0, "precision": "fp32", **changes})  # type: ignore[arg-type]


@pytest.mark.slow
def test_published_folds_give_one_report(folded: Manifest, tmp_path: Path) -> None:
    found = finetune_folds(tuner(), folded, output_folder=tmp_path / "out", fold_column="fold")
    assert [row["fold"] for row in found.folds] == ["x/y", "2", "10"]  # words first, then numbers as numbers
    assert [(row["num_train"], row["num_test"]) for row in found.folds] == [(12, 4), (8, 8), (12, 4)]
    assert (found.report.num_utterances, found.report.num_speakers, found.report.num_folds) == (16, 4, 3)
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["ID"] for row in rows) == sorted(row.id for row in folded)
    true, predicted = (np.array([row[name] for row in rows]) for name in ("emotion", "predicted_emotion"))
    assert found.report.uar == uar(true, predicted)
    assert found.report.intervals["uar"].low <= found.report.uar <= found.report.intervals["uar"].high
    # each fold is what fine-tuning on the others gives
    alone = tuner().fit(folded.select(fold=["2", "x/y"]), output_folder=tmp_path / "alone")
    expected = alone.predict(folded.select(fold="10"))
    assert [row["predicted_emotion"] for row in rows if row["fold"] == "10"] == expected.labels
    kept = load_finetuned(tmp_path / "out" / "fold_x-y").predict(list(folded.select(fold="x/y")))
    assert [row["predicted_emotion"] for row in rows if row["fold"] == "x/y"] == kept.labels
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [row["fold"] for row in report["tables"]["Folds"]] == ["x/y", "2", "10"]


@pytest.mark.slow
def test_drawn_folds_of_dimensions(folded: Manifest, tmp_path: Path) -> None:
    numbers = tuner(label=["arousal"], objective="ccc")
    found = finetune_folds(numbers, folded, output_folder=tmp_path / "out", num_folds=2)
    assert set(found.folds[0]) == {"fold", "system", "num_train", "num_test", "num_speakers", "ccc_arousal"}
    assert set(found.report.ccc) == {"arousal"}
    assert found.report.true.shape == (16, 1)
    assert (tmp_path / "out" / "predictions.csv").read_text().startswith("ID,fold,speaker,arousal,predicted_arousal\n")


@pytest.mark.slow
def test_goes_on_where_the_time_was_over_and_keeps_finished_folds(folded: Manifest, tmp_path: Path) -> None:
    options = {"output_folder": tmp_path / "out", "num_folds": 2}
    stopped = finetune_folds(tuner(max_minutes=1e-6), folded, **options)
    assert (stopped.report, stopped.folds, stopped.stop_reason) == (None, [], "max_minutes")
    assert not (tmp_path / "out" / "report.md").exists()
    whole = finetune_folds(tuner(), folded, **options)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("last.pt")}
    again = finetune_folds(tuner(), folded, **options)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert again.report.predicted.tolist() == whole.report.predicted.tolist()
    assert again.report.intervals == whole.report.intervals
    unbroken = finetune_folds(tuner(), folded, output_folder=tmp_path / "unbroken", num_folds=2)
    assert unbroken.report.predicted.tolist() == whole.report.predicted.tolist()
    with pytest.raises(InputError, match="another run"):
        finetune_folds(tuner(batch_size=8), folded, **options)
    assert finetune_folds(tuner(batch_size=8), folded, **options, resume=False).report is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either a column of folds"),
        ({"num_folds": 2, "fold_column": "fold"}, "give either a column of folds"),
        ({"fold_column": "fol"}, "did you mean 'fold'"),
        ({"fold_column": "leak"}, "on both sides of the split"),
        ({"fold_column": "same"}, "holds the one fold"),
        ({"fold_column": "blank"}, "column 'blank' is blank in 4 of 16 rows"),
        ({"fold_column": "alike"}, "differ only in what no folder's name may hold"),
        ({"fold_column": "emotion"}, "both sides of the split"),
        ({"num_folds": 5}, "4 speakers cannot make 5"),
    ],
)
def test_refused_before_anything_is_trained(
    folded: Manifest, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    for number, row in enumerate(folded):
        further = {"leak": str(number % 2), "same": "1", "blank": ["", "1", "1", "2"][number // 4]}
        row.labels.update(further | {"alike": ["a/b", "a/b", "a:b", "c"][number // 4]})
    columns = [*folded.columns, "leak", "same", "blank", "alike"]
    manifest = Manifest(list(folded), paths=folded.paths, columns=columns)
    with pytest.raises(InputError, match=message):
        finetune_folds(tuner(), manifest, output_folder=tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_validation_set_with_a_speaker_of_any_fold_is_refused(folded: Manifest, tmp_path: Path) -> None:
    valid = folded.select(fold="10")  # of whom the first fold's system would have heard nothing
    with pytest.raises(InputError, match=r"both sides of the split \(spk2\)"):
        finetune_folds(tuner(), folded, output_folder=tmp_path / "out", fold_column="fold", valid=valid)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.docx").write_text("")
    with pytest.raises(InputError, match=r"holds other things than a run \(thesis.docx\)"):
        finetune_folds(tuner(), folded, output_folder=tmp_path / "out", fold_column="fold")


def test_a_class_that_only_one_fold_has_is_refused(folded: Manifest, tmp_path: Path) -> None:
    folded[0].labels["emotion"] = "bored"
    with pytest.raises(InputError, match=r"fold 2: .* holds 'bored', which the training set lacks"):
        finetune_folds(tuner(), folded, output_folder=tmp_path / "out", fold_column="fold")


@pytest.mark.slow
def test_a_folder_cannot_be_left_by_the_name_of_a_fold(folded: Manifest, tmp_path: Path) -> None:
    for row in folded:
        row.labels["fold"] = {"x/y": "../../away", "2": "..", "10": "/"}[row.labels["fold"]]
    found = finetune_folds(tuner(), folded, output_folder=tmp_path / "out", fold_column="fold")
    assert all(Path(row["system"]).resolve().is_relative_to(tmp_path / "out") for row in found.folds)
    assert {path.name for path in tmp_path.iterdir()} == {"out", "voices"}


@pytest.mark.slow
def test_speakers_of_another_column_cross_no_fold_and_blanks_are_said(folded: Manifest, tmp_path: Path) -> None:
    rows = [replace(row, labels={**row.labels, "person": row.labels["speaker"], "speaker": row.id}) for row in folded]
    rows[0].labels["fold"] = "10"
    with pytest.raises(InputError, match=r"on both sides of the split \(spk0\)"):
        finetune_folds(tuner(speaker="person"), Manifest(rows), output_folder=tmp_path / "out", fold_column="fold")
    rows[0].labels["person"] = ""
    one = tuner(speaker="person", stages=[FineTuneStage("head", steps=1, chunk_s=0.4)])
    found = finetune_folds(one, Manifest(rows), output_folder=tmp_path / "out", fold_column="fold")
    said = "column 'person' is blank in 1 of 16 rows: whether its speakers are also on the other side"
    assert said in " ".join(found.report.warnings)
    assert said in (tmp_path / "out" / "report.md").read_text()
