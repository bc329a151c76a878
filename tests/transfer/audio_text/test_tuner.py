"""Layers and text read out together: what was said helps where it must, and only what should train is reached."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from dino_speech import build_encoder, load_encoder, read_manifest
from dino_speech.data.manifest import Manifest
from dino_speech.errors import InputError
from dino_speech.frame_level.distillation import first_layers
from dino_speech.metrics import ccc
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.studies.distillation import compare_distilled
from dino_speech.transfer.audio_text.readout import ReadOut, TextBranch, buckets_of
from dino_speech.transfer.audio_text.tuner import AudioTextTuner, Joint

pytest.importorskip("transformers", reason="needs the extra dino-speech[ssl]")

CONFIG = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "layerdrop": 0.0,
}
LOOP: dict[str, Any] = {"batch_size": 16, "chunk_s": 0.5, "num_workers": 0, "precision": "fp32", "warmup_steps": 2}
WORDS = [("awful", -2), ("bad", -1), ("good", 1), ("wonderful", 2)]


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """24 files of 6 speakers: arousal is how much noise there is, valence what is said, of which nothing is heard."""
    rng = np.random.default_rng(0)
    rows = ["ID,duration,wav,speaker,arousal,valence,transcript"]
    for number in range(24):
        loud, (word, valence) = (number * 7) % 5, WORDS[number % 4]
        wave = 0.1 * np.sin(np.arange(8_800) / (8 + number // 4)) + (0.002 + 0.03 * loud) * rng.standard_normal(8_800)
        soundfile.write(tmp_path / f"{number}.wav", wave.astype(np.float32), 16_000)
        rows.append(f"u{number},0.55,{number}.wav,s{number // 4},{loud},{valence},This is {word} number {number}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    return read_manifest(tmp_path / "manifest.csv")


@pytest.fixture
def teacher() -> SpeechEncoder:
    return build_encoder("hubert", config=CONFIG, seed=0).eval()


@pytest.fixture
def tuner(teacher: SpeechEncoder) -> Callable[..., AudioTextTuner]:
    def make(**changes: Any) -> AudioTextTuner:
        options = {"labels": ["arousal", "valence"], "transcript": "transcript", "steps": 60, "lr": 1e-2, **LOOP}
        return AudioTextTuner(changes.pop("encoder", first_layers(teacher, 1)), **{**options, **changes})

    return make


@pytest.mark.slow
def test_text_joins_for_valence(
    tuner: Callable[..., AudioTextTuner], teacher: SpeechEncoder, manifest: Manifest, tmp_path: Path
) -> None:
    train, test = manifest.select(speaker=["s0", "s1", "s2", "s3"]), manifest.select(speaker=["s4", "s5"])
    found = compare_distilled(tuner(train_encoder=False), train, test, teacher=teacher, output_folder=tmp_path / "out")
    by_name = {row["system"]: row for row in found["rows"]}
    assert list(by_name) == ["teacher (frozen)", "student", "student and text"]
    assert by_name["student and text"]["ccc"]["valence"] > 0.6
    assert by_name["student"]["ccc"]["valence"] < 0.4  # nothing of it is in the sound
    assert by_name["student"]["num_parameters"] < by_name["teacher (frozen)"]["num_parameters"]
    for row in found["rows"]:
        assert all(sum(weights) == pytest.approx(1) for weights in row["relevance"].values())
    assert len(by_name["teacher (frozen)"]["relevance"]["valence"]) == 4  # layers 0 to 3
    assert "Parameters and CCC" in Path(found["report"]).read_text()
    kept = json.loads((tmp_path / "out" / "student_text" / "relevance.json").read_text())
    assert kept["relevance"] == by_name["student and text"]["relevance"]
    assert load_encoder(tmp_path / "out" / "student" / "system").embedding_dim == 32


@pytest.mark.slow
def test_what_is_predicted_is_in_the_units_of_the_labels(
    tuner: Callable[..., AudioTextTuner], manifest: Manifest, tmp_path: Path
) -> None:
    system = tuner(steps=80).fit(manifest, output_folder=tmp_path / "out")
    found = system.predict(manifest)
    assert found.ids == [utterance.id for utterance in manifest]
    true = np.array(manifest.numbers("valence"))
    assert ccc(true, found.values[:, 1].astype(float)) > 0.8
    assert found.dimensions == ["arousal", "valence"]


def test_gradients_reach_what_should_train(tuner: Callable[..., AudioTextTuner], manifest: Manifest) -> None:
    for trains in (True, False):
        hyper = tuner(train_encoder=trains)
        targets = torch.randn(24, 2)
        objective = Joint(hyper.encoder, hyper, targets, hyper._texts(manifest)).train()
        assert objective.encoder.training is trains
        objective.losses(torch.randn(6, 8_000), torch.arange(6), 0)["loss"].backward()
        reached = {name for name, value in objective.named_parameters() if value.grad is not None}
        assert {name for name, _ in objective.named_parameters() if name.startswith("readout.")} <= reached
        encoder = {name for name in reached if name.startswith("encoder.")}
        assert bool(encoder) is trains
        assert not any("feature_extractor" in name for name in encoder)


def test_the_text_joins_only_where_it_is_asked_to() -> None:
    text = TextBranch(8, num_buckets=50).eval()
    readout = ReadOut(3, 4, 2, text=text, joined=[False, True]).eval()
    layers = torch.randn(2, 3, 4)
    one, other = (readout(layers, [buckets_of(words, 50), []]) for words in ("good", "bad"))
    assert torch.equal(one[:, 0], other[:, 0])
    assert not torch.equal(one[0, 1], other[0, 1])
    assert torch.equal(one[1], other[1])  # both empty


def test_other_encoders_and_what_is_refused(
    tuner: Callable[..., AudioTextTuner], manifest: Manifest, tmp_path: Path
) -> None:
    ecapa = build_encoder("ecapa_tdnn", embedding_dim=8, channels=8, attention_channels=8, se_channels=8, seed=0)
    system = tuner(encoder=ecapa, steps=2).fit(manifest, output_folder=tmp_path / "ecapa")
    assert system.relevance_ == {"arousal": [1.0], "valence": [1.0]}
    with pytest.raises(InputError, match="no column 'said'"):
        tuner(transcript="said").fit(manifest, output_folder=tmp_path / "x")
    with pytest.raises(InputError, match="text_for names 'joy', which is not among the labels arousal, valence"):
        tuner(text_for=["joy"])
    with pytest.raises(InputError, match="speakers are on both sides"):
        tuner().check_test(manifest, manifest)
    with pytest.raises(InputError, match="nothing is fitted yet"):
        tuner().predict(manifest)
