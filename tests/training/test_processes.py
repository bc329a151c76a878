"""Two processes give what one gives: every training but DINO's own (see tests/dino), over gloo on CPUs.

Each is small, and draws nothing as it runs: no dropout, no BatchNorm, no Gumbel noise.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import processes
import pytest
import torch
import torch.nn.functional as F

from dino_speech import (
    PTAPT,
    TAPT,
    AudioTextTuner,
    Clustering,
    Distiller,
    FineTuner,
    FineTuneStage,
    PseudoLabelTrainer,
    SpeechEncoder,
    build_encoder,
)
from dino_speech.data.manifest import read_manifest
from dino_speech.training.state import load_state

RUN = {"num_workers": 0, "precision": "fp32", "log_every": 1}
CONFIG = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "initializer_range": 0.1, "layerdrop": 0.0,
    "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True, "num_codevectors_per_group": 4,
    "codevector_dim": 8, "proj_codevector_dim": 8,
    **dict.fromkeys(("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"), 0.0),
    "feat_quantizer_dropout": 0.0,
}  # fmt: skip
STEPS = {"steps": 3, "batch_size": 6, "chunk_s": 0.8, "optimizer": "sgd", "lr": 0.05, "run": RUN}


def network() -> SpeechEncoder:
    return build_encoder("wav2vec2", config=CONFIG, seed=1)


def tuner(label: str | list[str], **changes: Any) -> FineTuner:
    stages = [FineTuneStage("head", epochs=2, chunk_s=0.6, lr=0.1), FineTuneStage("all", steps=2, chunk_s=0.8)]
    settings = {"batch_size": 6, "optimizer": "sgd", "stages": stages, "run": RUN}
    return FineTuner(network(), label=label, **{**settings, **changes})


def pseudo_labels() -> PseudoLabelTrainer:
    clustering = Clustering(num_clusters=4, utterances_per_centroid=1, min_margin=-2, min_utterances=1)
    settings = {"batch_size": 6, "optimizer": "sgd", "run": RUN}
    stages = [FineTuneStage("all", steps=2, chunk_s=0.6)]
    return PseudoLabelTrainer(network(), clustering=clustering, stages=stages, num_rounds=1, tuner=settings)


def with_text(encoder: SpeechEncoder, **settings: Any) -> AudioTextTuner:
    return AudioTextTuner(encoder, labels=["loudness"], transcript="emotion", text_for=[], **settings)


TRAININGS: dict[str, Callable[[], Any]] = {
    "fine-tuning": lambda: tuner("emotion"),
    "fine-tuning of dimensions": lambda: tuner(["loudness"], objective="ccc"),
    "TAPT": lambda: TAPT(network(), mask_length=4, num_negatives=5, diversity_weight=1.0, **STEPS),
    "P-TAPT": lambda: PTAPT(network(), mask_length=4, mask_time_prob=0.3, state_steps=3, num_clusters=[4], **STEPS),
    "pseudo-labels": pseudo_labels,
    "distillation": lambda: Distiller(network(), layers=[1, 2], num_layers=1, **STEPS),
    "audio and text": lambda: with_text(network(), **STEPS),
}


def train_all(path: Path, folder: Path) -> None:
    """Each of them, one after the other, in a folder of its name."""
    with pytest.MonkeyPatch.context() as patch:
        # The quantizer's own noise is the one thing here that is drawn as the network runs.
        patch.setattr(F, "gumbel_softmax", lambda logits, tau, hard: torch.softmax(logits / tau, -1))
        whole = read_manifest(path)
        for name, training in TRAININGS.items():
            given, parts = (whole, {})
            if name == "fine-tuning":
                given, parts = whole.subset(range(12)), {"valid": whole.subset(range(12, 16))}
            training().fit(given, **parts, output_folder=folder / name, device="cpu")


def write_manifest(voices_folder: Path) -> Path:
    """Uneven classes, in an order that gives the processes unequal shares of them; and a number to predict."""
    path = voices_folder / "manifest.csv"
    header, *rows = path.read_text().splitlines()
    uneven = [row.rsplit(",", 1)[0] + (",happy" if number % 4 == 1 else ",neutral") for number, row in enumerate(rows)]
    speakers = [row.replace("spk3,", "spk9,") if number > 11 else row for number, row in enumerate(uneven)]
    text = [f"{row},{0.3 * number % 2.0:.2f}" for number, row in enumerate(speakers)]
    path.write_text("\n".join([f"{header},loudness", *text]) + "\n")
    return path


@pytest.fixture(scope="module")
def ends(all_voices: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`one/<training>` and `two/<training>`. All in one program: to start it costs more than any training here."""
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("processes")
    manifest = write_manifest(Path(shutil.copytree(all_voices, folder / "voices")))
    two = processes.begin_together(2, folder / "logs", train_all, manifest, folder / "two")
    train_all(manifest, folder / "one")
    assert processes.ends(*two) == [0, 0], [log.read_text() for log in (folder / "logs").iterdir()]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_equal_one(name: str, ends: Path) -> None:
    states = sorted(path.relative_to(ends / "one" / name) for path in (ends / "one" / name).rglob("last.pt"))
    assert len(states) == (2 if name == "P-TAPT" else 1)
    for path in states:
        one, two = (load_state(ends / folder / name / path) for folder in ("one", "two"))
        assert len(two.rng) == 2
        for part in {"objective", "encoder", "head", "best"} & one.modules.keys():
            compare(two.modules[part], one.modules[part], part)
        rows = [
            [json.loads(line) for line in (ends / folder / name / path.parents[1] / "history.jsonl").open()]
            for folder in ("one", "two")
        ]
        losses = [[row["loss"] for row in part if "loss" in row] for part in rows]
        assert losses[1] == pytest.approx(losses[0], abs=1e-5)
        assert len(set(losses[0])) > 1  # it learnt something


def compare(found: Any, expected: Any, where: str) -> None:
    """Equal to 1e-5, tensor by tensor."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            compare(found[name], value, f"{where} {name}")
    else:
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4, msg=lambda text: f"{where}: {text}")
