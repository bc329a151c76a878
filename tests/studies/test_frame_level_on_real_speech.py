"""Frame-level models end to end on recorded speech: fine-tuned, across corpora, stress-tested, joined by text."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dino_speech import (
    AudioTextTuner,
    Distiller,
    FineTuner,
    FineTuneStage,
    build_encoder,
    compare_distilled,
    evaluate_cross_corpus,
    evaluate_fairness,
    evaluate_robustness,
    finetune_folds,
    measure_efficiency,
    probe_layers,
    read_manifest,
)
from dino_speech.data.derived_manifests import rescale_labels
from dino_speech.data.manifest import Manifest
from dino_speech.models.encoder import SpeechEncoder

pytest.importorskip("transformers", reason="needs the extra dino-speech[ssl]")
pytestmark = pytest.mark.corpus

CONFIG = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
LOOP: dict[str, Any] = {"batch_size": 8, "chunk_s": 1.0, "num_workers": 0, "precision": "fp32", "steps": 2}
TUNER: dict[str, Any] = {"batch_size": 8, "num_workers": 0, "precision": "fp32"}
STAGE = FineTuneStage(["backbone.model.encoder"], epochs=1, lr=1e-4, chunk_s=1.0)
LEVEL = (-80, 0)  # the label is a number that every pack has: how loud a recording is


@pytest.fixture
def pack(data_root: Path) -> Callable[..., Manifest]:
    """`pack("ravdess", 24)`: so many utterances of a real corpus, evenly chosen, with `level` as a number."""

    def make(name: str, size: int = 24) -> Manifest:
        path = data_root / f"emotion_{name}" / "manifest.csv"
        if not path.exists():
            pytest.skip(f"no emotion_{name} at {data_root}")
        whole = read_manifest(path)
        rows = [whole[int(place)] for place in np.linspace(0, len(whole) - 1, size)]
        return Manifest([replace(row, labels={**row.labels, "level": row.labels["rms_dbfs"]}) for row in rows])

    return make


@pytest.fixture
def encoder() -> SpeechEncoder:
    return build_encoder("wav2vec2", config=CONFIG, num_layers=2, seed=0).eval()


@pytest.mark.slow
def test_layer_by_layer_and_fold_by_fold(encoder: SpeechEncoder, pack: Callable[..., Manifest], tmp_path: Path) -> None:
    speech = pack("ravdess").select(emotion=["angry", "calm", "happy", "sad"])
    report = probe_layers(encoder, speech, label="emotion", num_folds=2, num_resamples=20)
    assert [layer.name for layer in report.layers] == ["conv", "layer_0", "layer_1", "layer_2", "embedding"]
    tuner = FineTuner(encoder, label="sex", stages=[STAGE], **TUNER)
    found = finetune_folds(tuner, pack("urdu"), num_folds=2, output_folder=tmp_path / "urdu")
    assert found.report is not None
    assert found.report.num_utterances == 24


@pytest.mark.slow
def test_dimensions_across_corpora_and_under_stress(
    encoder: SpeechEncoder, pack: Callable[..., Manifest], tmp_path: Path
) -> None:
    train, test = pack("ravdess"), rescale_labels(pack("nemo", 12), ["level"], LEVEL, onto=(-80, 0))
    tuner = FineTuner(encoder, label=["level"], objective="ccc", stages=[STAGE], **TUNER)
    system = tuner.fit(train, output_folder=tmp_path / "out").system_
    for model in (system, encoder):
        further: dict[str, Any] = {} if model is system else {"train": train, "labels": ["level"]}
        reports = evaluate_cross_corpus(model, {"nemo": test, "urdu": pack("urdu", 12)}, num_resamples=20, **further)
        assert [report.num_utterances for report in reports.values()] == [12, 12]
    changed = evaluate_robustness(system, test, conditions=["gain_-20db", "white_noise_0db"], num_resamples=20)
    assert changed.metric == "ccc"
    fair = evaluate_fairness(system, test, num_resamples=20)
    assert fair.group == "sex"
    assert measure_efficiency(system, seconds=1.0, num_rounds=1).real_time_factor > 0


@pytest.mark.slow
def test_a_student_joined_by_text(pack: Callable[..., Manifest], tmp_path: Path) -> None:
    teacher = build_encoder("hubert", config=CONFIG, seed=0).eval()
    speech = pack("ravdess", 32)
    student = Distiller(teacher, num_layers=1, **LOOP).fit(speech, output_folder=tmp_path / "distilled").student_
    names = sorted(set(speech.label("speaker")))
    train, test = speech.select(speaker=names[::2]), speech.select(speaker=names[1::2])
    tuner = AudioTextTuner(student, labels=["level"], transcript="statement", text_for=["level"], **LOOP)
    found = compare_distilled(tuner, train, test, teacher=teacher, output_folder=tmp_path / "out")
    assert [row["system"] for row in found["rows"]] == ["teacher (frozen)", "student", "student and text"]
    assert all(np.isfinite(row["ccc"]["level"]) for row in found["rows"])
