"""A system on disk is the system in memory; long recordings are pooled over segments; damage is told."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch

import dino_speech
from dino_speech.errors import InputError
from dino_speech.models.checkpoint import load_encoder
from dino_speech.transfer.finetune import FineTuner
from dino_speech.transfer.heads import LinearHead
from dino_speech.transfer.stages import FineTuneStage
from dino_speech.transfer.system import FineTunedSystem, load_finetuned
from dino_speech.transfer.targets import Classes, Dimensions


@pytest.fixture
def system(encoder) -> FineTunedSystem:
    torch.manual_seed(0)
    head = LinearHead(8, 3)
    torch.nn.init.normal_(head.affine.weight)
    return FineTunedSystem(encoder, head, Classes("emotion", ("a", "b", "c")), "cross_entropy", 0.5)


@pytest.mark.parametrize(
    ("objective", "label"),
    [("cross_entropy", "emotion"), ("subcenter_arcface", "speaker"), ("ccc", ["arousal", "valence"])],
)
def test_saved_and_loaded_predicts_the_same(encoder, train, valid, tmp_path, objective, label) -> None:
    stages = [FineTuneStage("affine", steps=2, chunk_s=0.4)]
    tuner = FineTuner(
        encoder, label=label, stages=stages, objective=objective, batch_size=6, num_workers=0, segment_s=0.4
    )
    tuner.fit(train, output_folder=tmp_path)
    system = dino_speech.load_finetuned(tmp_path / "system")
    one, other = tuner.predict(valid), system.predict(valid)
    assert one.ids == other.ids == [item.id for item in valid]
    assert one.labels == other.labels
    assert np.array_equal(one.probabilities, other.probabilities)
    assert np.array_equal(one.values, other.values)
    assert "segments of 0.4 s" in other.rule
    assert system.predict_file(valid[0].wav) == tuner.predict_file(valid[0].wav)
    assert load_finetuned(tmp_path).classes == tuner.classes_
    file = valid[0].wav
    assert torch.equal(load_encoder(tmp_path / "system").embed_file(file), tuner.encoder_.embed_file(file))
    assert {entry.name for entry in (tmp_path / "system").iterdir()} == {"system.json", "head.safetensors", "encoder"}
    record = json.loads((tmp_path / "system" / "system.json").read_text())
    assert record["objective"] == objective
    assert record["provenance"]["fine_tuning"]["seed"] == 1986


def test_long_recordings_are_pooled_over_even_segments(system, tmp_path) -> None:
    wave = np.random.default_rng(0).standard_normal(20_000).astype(np.float32) * 0.1
    soundfile.write(tmp_path / "long.wav", wave, 16_000)
    soundfile.write(tmp_path / "short.wav", wave[:6_000], 16_000)
    predictions = system.predict([tmp_path / "long.wav", tmp_path / "short.wav"])
    read, _ = soundfile.read(tmp_path / "long.wav", dtype="float32")
    system.encoder.eval()
    system.head.eval()
    with torch.no_grad():
        segments = torch.stack([torch.from_numpy(read[start : start + 8_000]) for start in (0, 6_000, 12_000)])
        pooled = system.head(system.encoder(segments)).log_softmax(1).mean(0).softmax(0)
        whole = system.head(system.encoder(torch.from_numpy(read[None, :6_000]))).softmax(1)[0]
    np.testing.assert_allclose(predictions.probabilities[0], pooled.numpy(), atol=1e-5)
    np.testing.assert_allclose(predictions.probabilities[1], whole.numpy(), atol=1e-5)
    np.testing.assert_allclose(predictions.probabilities.sum(1), 1, atol=1e-6)
    system.segment_s = None
    assert system.rule == "whole recordings"
    assert not np.allclose(system.predict([tmp_path / "long.wav"]).probabilities[0], pooled.numpy(), atol=1e-4)


def test_predicting_leaves_the_modes_as_they_are(system, valid) -> None:
    system.encoder.train()
    system.head.train()
    before = {name: value.clone() for name, value in system.encoder.state_dict().items()}
    system.predict(valid[:2])
    assert system.encoder.training
    assert system.head.training
    assert all(torch.equal(value, before[name]) for name, value in system.encoder.state_dict().items())


def test_what_cannot_be_read_is_listed_or_refused(system, valid, tmp_path) -> None:
    predictions = system.predict([valid[0].wav, tmp_path / "missing.wav"])
    assert predictions.ids == [valid[0].wav]
    assert [item.name for item in predictions.skipped] == [str(tmp_path / "missing.wav")]
    with pytest.raises(InputError, match=r"missing\.wav"):
        system.predict_file(tmp_path / "missing.wav")


def test_values_are_in_the_units_of_the_labels(encoder, valid) -> None:
    head = LinearHead(8, 1)
    torch.nn.init.zeros_(head.affine.weight)
    head.affine.bias.data.fill_(2.0)
    system = FineTunedSystem(encoder, head, Dimensions(("arousal",), (4.0,), (0.5,)), "ccc", 0.3)
    np.testing.assert_allclose(system.predict(valid[:3]).values, 5.0)
    assert system.predict_file(valid[0].wav).values == {"arousal": 5.0}


def test_a_damaged_folder_is_told(system, tmp_path) -> None:
    folder = system.save(tmp_path / "system")
    with pytest.raises(InputError, match=r"system.json: cannot be read .* expected a fine-tuned system"):
        load_finetuned(tmp_path / "nothing")
    for name in ("head.safetensors", "system.json"):
        shutil.copytree(folder, tmp_path / name)
        (tmp_path / name / name).write_bytes(b"{")
        with pytest.raises(InputError, match=name if name == "system.json" else "damaged"):
            load_finetuned(tmp_path / name)
    content = json.loads((folder / "system.json").read_text())
    (folder / "system.json").write_text(json.dumps({**content, "format_version": 99}))
    with pytest.raises(InputError, match="format version 99"):
        load_finetuned(folder)
    (folder / "system.json").write_text(json.dumps({**content, "targets": {"label": "emotion", "names": ["a", "b"]}}))
    with pytest.raises(InputError, match="incomplete or damaged"):
        load_finetuned(folder)
