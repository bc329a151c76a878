"""The whole run: what a stage freezes does not move, heads are kept, the best is restored, wrong labels are refused."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dino_speech.audio.augment import Augment
from dino_speech.audio.spec_augment import SpecAugment
from dino_speech.data.manifest import Manifest, read_manifest
from dino_speech.errors import InputError
from dino_speech.metrics import ccc, uar
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.training.loop import NonFiniteLoss
from dino_speech.transfer.finetune import FineTuner
from dino_speech.transfer.heads import MARGIN_OBJECTIVES
from dino_speech.transfer.staged_training import StagedTraining
from dino_speech.transfer.stages import FineTuneStage
from dino_speech.transfer.validation import Validation

AFFINE = ("backbone.model.fc.", "shortcut.affine.")


def tuner_of(encoder: SpeechEncoder, *stages: FineTuneStage, **changes) -> FineTuner:
    settings = {"label": "emotion", "batch_size": 6, "num_workers": 0, "log_every": 1, "precision": "fp32"}
    settings["stages"] = stages or (FineTuneStage("affine", steps=3, chunk_s=0.4, lr=1e-2),)
    return FineTuner(encoder, **{**settings, **changes})


def moved(before: SpeechEncoder, after: SpeechEncoder) -> set[str]:
    """Names of the weights and buffers that are not bit for bit the same."""
    old, new = before.state_dict(), after.state_dict()
    assert set(old) == set(new)
    return {name for name in old if not torch.equal(old[name], new[name])}


@pytest.fixture
def stages_seen(monkeypatch) -> list[dict[str, dict[str, torch.Tensor]]]:
    """Weights of encoder and head at the end of each stage."""
    seen: list[dict[str, dict[str, torch.Tensor]]] = []
    end = StagedTraining.end_stage

    def note(self: StagedTraining) -> None:
        end(self)
        seen.append({name: copy.deepcopy(part.state_dict()) for name, part in self.parts().items()})

    monkeypatch.setattr(StagedTraining, "end_stage", note)
    return seen


@pytest.mark.slow
def test_a_stage_moves_only_what_it_trains(encoder, train, tmp_path) -> None:
    head_only = tuner_of(encoder, FineTuneStage("head", steps=4, chunk_s=0.4, spec_augment=SpecAugment()))
    head_only.fit(train, output_folder=tmp_path / "head")
    assert moved(encoder, head_only.encoder_) == set()
    affine = tuner_of(encoder).fit(train, output_folder=tmp_path / "affine")
    expected = {name for name in encoder.state_dict() if name.startswith(AFFINE)}
    assert moved(encoder, affine.encoder_) == expected
    everything = tuner_of(encoder, FineTuneStage("all", steps=4, chunk_s=0.4)).fit(
        train, output_folder=tmp_path / "all"
    )
    still = set(encoder.state_dict()) - moved(encoder, everything.encoder_)
    assert all(name.startswith("features.") for name in still)
    assert not any(module.training for module in everything.encoder_.modules())
    assert all(parameter.requires_grad for parameter in everything.encoder_.parameters())


def test_the_next_stage_begins_with_the_head_of_the_one_before(encoder, train, tmp_path, stages_seen) -> None:
    first = FineTuneStage("affine", steps=4, chunk_s=0.4, lr=1e-2)
    second = FineTuneStage("all", steps=1, chunk_s=0.6, lr=1e-9, encoder_lr=1e-9, weight_decay=0.0)
    tuner = tuner_of(encoder, first, second).fit(train, output_folder=tmp_path / "two")
    after_first, after_second = stages_seen
    for name, value in after_first["head"].items():
        if not name.startswith("norm."):
            torch.testing.assert_close(after_second["head"][name], value, rtol=0, atol=1e-6)
    assert moved(encoder, tuner.encoder_) > {name for name in encoder.state_dict() if name.startswith(AFFINE)}
    assert [row["stage"] for row in tuner.history_] == [0, 0, 0, 0, 1]
    assert [row["step"] for row in tuner.history_] == [1, 2, 3, 4, 5]


@pytest.mark.slow
def test_it_learns_and_leaves_a_record(encoder, train, valid, tmp_path) -> None:
    augment = Augment(p_noise=0.3, p_reverb=0.0, snr_db=(20.0, 30.0))
    stages = [
        FineTuneStage("affine", epochs=4, chunk_s=0.5, lr=2e-2, augment=augment),
        FineTuneStage("all", epochs=6, chunk_s=0.4, lr=5e-3, layer_decay=0.9),
    ]
    tuner = tuner_of(encoder, *stages, log_every=2)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    assert tuner.fit(train, valid=valid, output_folder=tmp_path / "out") is tuner
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items()), "fit trains a copy"
    predictions = tuner.predict(valid)
    assert predictions.classes == tuner.classes_ == ["happy", "neutral"]
    assert uar(valid.label("emotion"), predictions.predicted) == tuner.best_["uar"] >= 0.75
    rows = [json.loads(line) for line in (tmp_path / "out" / "history.jsonl").read_text().splitlines()]
    assert rows == tuner.history_
    assert [row["valid"].keys() for row in rows if "valid" in row] == [{"uar", "accuracy"}] * 10
    assert {"loss", "lr", "encoder_lr", "grad_norm", "utterances_per_s"} <= set(rows[0])
    record = json.loads((tmp_path / "out" / "hyperparameters.json").read_text())
    assert (record["label"], record["seed"], record["stages"][1]["layer_decay"]) == ("emotion", 1986, 0.9)


@pytest.mark.parametrize(
    ("objective", "label", "metric"),
    [
        ("ccc", ["arousal", "valence"], "ccc"),
        ("aam_softmax", "speaker", "eer"),
        ("subcenter_arcface", "speaker", "eer"),
    ],
)
def test_the_other_objectives(encoder, train, valid, tmp_path, objective, label, metric) -> None:
    stages = [FineTuneStage("affine", epochs=6, lr=1e-2, chunk_s=0.4)]
    tuner = tuner_of(encoder, *stages, objective=objective, label=label).fit(train, valid=valid, output_folder=tmp_path)
    assert next(iter(tuner.history_[-1]["valid"])) == metric
    losses = [row["loss"] for row in tuner.history_ if "loss" in row]
    predictions = tuner.predict(valid)
    if objective == "ccc":
        assert losses[-1] < losses[0]
        assert predictions.dimensions == label
        assert predictions.values.shape == (len(valid), 2)
        arousal = np.array([float(value) for value in valid.label("arousal")])
        assert ccc(arousal, predictions.values[:, 0]) == pytest.approx(tuner.best_["ccc_arousal"])
        assert abs(predictions.values[:, 0].mean() - 3) < 1.5, "in the units of the labels"
    else:
        assert tuner.classes_ == ["s0", "s1", "s2"]
        assert tuner.head_.margin == 0.2
        assert tuner.head_.num_subcenters == (3 if objective == "subcenter_arcface" else 1)


def test_known_speakers_in_valid_are_judged_by_uar(encoder, train, tmp_path) -> None:
    tuner = tuner_of(encoder, objective="aam_softmax", label="speaker")
    tuner.fit(train[1::2], valid=train[::2], output_folder=tmp_path)
    assert set(tuner.best_) == {"uar", "accuracy", "step", "stage"}


def test_margin_rises_over_the_first_steps(encoder) -> None:
    tuner = tuner_of(encoder, objective="aam_softmax", label="speaker", margin=0.4, margin_warmup_fraction=0.5)
    assert [round(tuner.margin_at(step, 8), 6) for step in (0, 1, 2, 4, 7)] == [0.0, 0.1, 0.2, 0.4, 0.4]


def test_early_stopping_ends_the_stage_and_restores_the_best(encoder, train, valid, tmp_path, monkeypatch) -> None:
    scores = iter([0.5, 0.9, 0.9, 0.2, 0.95, 0.1, 0.1])
    weights = []

    def judged(self, system):
        weights.append({name: value.clone() for name, value in system.encoder.state_dict().items()})
        return {"uar": next(scores)}

    monkeypatch.setattr(Validation, "__call__", judged)
    stages = [FineTuneStage("affine", epochs=9, lr=1e-2, chunk_s=0.4), FineTuneStage("all", epochs=9, chunk_s=0.4)]
    tuner = tuner_of(encoder, *stages, patience=2).fit(train, valid=valid, output_folder=tmp_path)
    assert tuner.best_ == {"uar": 0.95, "step": 27 + 3, "stage": 1}
    assert [row["step"] for row in tuner.history_ if "valid" in row] == [3, 6, 9, 12, 30, 33, 36]
    assert all(torch.equal(value, weights[4][name]) for name, value in tuner.encoder_.state_dict().items())
    frozen = [name for name in weights[1] if not name.startswith(AFFINE)]
    assert all(torch.equal(weights[1][name], weights[0][name]) for name in frozen)


def test_a_training_set_smaller_than_a_batch_is_one_batch(encoder, train, tmp_path) -> None:
    tuner = tuner_of(encoder, FineTuneStage("head", epochs=2, chunk_s=0.4), batch_size=64)
    assert len(tuner.fit(train, output_folder=tmp_path).history_) == 2


def test_a_whitened_encoder_goes_on_whitening(encoder, train, tmp_path) -> None:
    encoder.eval().fit_whitening(torch.randn(40, 8))
    tuner = tuner_of(encoder).fit(train, output_folder=tmp_path)
    assert moved(encoder, tuner.encoder_) == {name for name in encoder.state_dict() if name.startswith(AFFINE)}
    assert tuner.encoder_.config.whitening


def test_files_that_cannot_be_read_are_skipped_and_listed(encoder, train, tmp_path) -> None:
    rows = [*("ID,duration,wav,emotion", "bad,1.0,missing.wav,happy")]
    rows += [f"{item.id},{item.duration},{item.wav},{item.labels['emotion']}" for item in train]
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
    tuner = tuner_of(encoder, FineTuneStage("head", epochs=3, chunk_s=0.4)).fit(
        tmp_path / "m.csv", output_folder=tmp_path / "out"
    )
    assert list(tuner.skipped_) == [str(tmp_path / "missing.wav")]
    assert (tmp_path / "out" / "skipped.csv").exists()


def relabelled(manifest: Manifest, folder: Path, name: str, **values: str) -> Manifest:
    """The manifest with other values in the first row."""
    rows = [f"ID,duration,wav,{','.join(manifest.columns)}"]
    for number, item in enumerate(manifest):
        labels = {**item.labels, **(values if number == 0 else {})}
        rows.append(",".join([item.id, str(item.duration), item.wav, *(labels[name] for name in manifest.columns)]))
    (folder / f"{name}.csv").write_text("\n".join(rows) + "\n")
    return read_manifest(folder / f"{name}.csv")


def test_wrong_labels_are_one_clear_error_each(encoder, train, valid, tmp_path) -> None:
    def refused(message: str, train: Manifest, valid: Manifest | None = None, **changes) -> None:
        with pytest.raises(InputError, match=message):
            tuner_of(encoder, **changes).fit(train, valid=valid, output_folder=tmp_path / "out")
        assert not (tmp_path / "out").exists()

    refused("the one class 'happy'", train.select(emotion="happy"))
    refused("no column 'mood'", train, label="mood")
    refused(r"column 'emotion' is blank in 1 of 18 rows .*row 2", relabelled(train, tmp_path, "blank", emotion=""))
    refused("column 'emotion' is blank", train, relabelled(valid, tmp_path, "blank2", emotion=""))
    refused("'angry', which the training set lacks", train, relabelled(valid, tmp_path, "angry", emotion="angry"))
    refused(
        r"1 speakers are on both sides of the split \(s2\)", train, relabelled(valid, tmp_path, "leak", speaker="s2")
    )
    again = relabelled(train, tmp_path, "again", speaker="s9")
    refused("1 recordings of .* also stand in .*cannot both teach and judge", train, again.select(speaker="s9"))
    refused("patience = 3: counts epochs without a better validation; give valid", train, patience=3)
    numbers = {"objective": "ccc", "label": ["arousal"]}
    wrong = relabelled(train, tmp_path, "high", arousal="high")
    refused("'arousal': found 'high'; expected a number", wrong, **numbers)
    refused("'arousal' is blank", relabelled(train, tmp_path, "gap", arousal=""), **numbers)
    refused("the same number in all rows", train[:1], **numbers)
    refused("chunk_s = 0.01", train, stages=[FineTuneStage(chunk_s=0.01)])
    refused("matches no part", train, stages=[FineTuneStage(["encoder.*"])])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "mse"}, "expected one of cross_entropy, aam_softmax"),
        ({"stages": []}, "at least one FineTuneStage"),
        ({"label": ["a", "b"]}, "the classes of one column"),
        ({"batch_size": 1}, "batch_size = 1: expected at least 2"),
        ({"class_weights": "equal"}, "expected 'balanced' or None"),
        ({"patience": 0}, "patience = 0"),
        ({"label_smoothing": 2}, "label_smoothing = 2: expected a number from 0 to 1"),
    ],
)
def test_impossible_settings_are_refused(encoder, changes, message) -> None:
    with pytest.raises(InputError, match=message):
        tuner_of(encoder, **changes)


def test_classes_are_weighed_by_default_where_uar_judges_and_not_under_a_margin(encoder) -> None:
    """What judges speakers is the EER, and none of the published speaker recipes weighs them."""
    chosen = {name: tuner_of(encoder, objective=name).class_weights for name in ("cross_entropy", *MARGIN_OBJECTIVES)}
    assert chosen == {"cross_entropy": "balanced"} | dict.fromkeys(MARGIN_OBJECTIVES)
    assert tuner_of(encoder, objective="aam_softmax", class_weights="balanced").class_weights == "balanced"
    assert tuner_of(encoder, class_weights=None).class_weights is None


def test_an_infinite_loss_stops_before_the_weights_are_spoilt(encoder, train, tmp_path) -> None:
    def spoil(waves, *, generator, groups):
        return waves * torch.inf

    with pytest.raises(NonFiniteLoss, match="not finite at step 1 "):
        tuner_of(encoder, FineTuneStage("all", steps=3, chunk_s=0.4, augment=spoil)).fit(train, output_folder=tmp_path)


def test_prediction_before_fit_is_refused(encoder) -> None:
    with pytest.raises(InputError, match="nothing is fitted yet"):
        tuner_of(encoder).predict_file("a.wav")


def test_speakers_of_the_column_that_the_tuner_names_are_kept_apart(encoder, train, valid, tmp_path) -> None:
    def called(part: Manifest) -> Manifest:
        names = [{"emotion": row.labels["emotion"], "person": row.labels["speaker"]} for row in part]
        return Manifest(replace(row, labels=labels) for row, labels in zip(part, names, strict=True))

    known, unheard = called(train), called(valid)
    twins = Manifest(replace(row, wav=other.wav) for row, other in zip(known[12:], valid, strict=False))
    tuner = tuner_of(encoder, speaker="person")
    for refuse in (
        lambda: tuner.fit(known, valid=twins, output_folder=tmp_path),
        lambda: tuner.check_test(known, twins),
    ):
        with pytest.raises(InputError, match=r"1 speakers are on both sides of the split \(s2\)"):
            refuse()
    assert tuner.check_test(known, unheard) == []
    assert len(tuner_of(encoder).check_test(known, unheard)) == 1  # without a column "speaker"
    part = Manifest([replace(valid[0], wav=train[0].wav, stop=4000), *valid[1:]])
    with pytest.raises(InputError, match=r"1 recordings of .* whole or in part"):
        tuner_of(encoder).fit(train, valid=part, output_folder=tmp_path / "out")
    one, other = (made._identity(train, None, seed=1) for made in (tuner_of(encoder), tuner))
    assert one == other  # older runs go on
