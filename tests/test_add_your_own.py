"""The page "Add your own": a part of one's own is one file and one line, and is then known everywhere by its name."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from dino_speech import (
    build_encoder,
    evaluate_task,
    list_encoders,
    load_encoder,
    read_manifest,
    register_corpus,
    register_encoder,
)
from dino_speech.cli.main import main
from dino_speech.data.corpora.catalogue import CORPORA
from dino_speech.dino.objectives import OBJECTIVES
from dino_speech.errors import InputError
from dino_speech.evaluation.added_tasks import TASKS
from dino_speech.models.registry import ENCODERS

BACKBONE = """
from torch import nn
from dino_speech import register_encoder
from dino_speech.models.backbones.pooling import frame_mask, masked_mean
from dino_speech.models.layer_means import ignore


@register_encoder("mean_of_frames", features={"mean_norm": "none"})
class MeanOfFrames(nn.Module):
    def __init__(self, num_bands, embedding_dim, *, hidden=16):
        super().__init__()
        self.hidden = nn.Linear(num_bands, hidden)
        self.affine = nn.Linear(hidden, embedding_dim)

    def forward(self, frames, num_frames=None, note=ignore):
        mask = frame_mask(num_frames, frames.shape[1])
        x = self.hidden(frames).relu()
        note("hidden", x, mask)
        return self.affine(masked_mean(x, mask).squeeze(1))
"""
CORPUS = """
from dino_speech import Corpus, register_corpus

PIER = Corpus(
    name="Pier",
    licence="our own",
    access="the shelf",
    layout="pier/anna_angry_01.wav",
    file_name=r"(?P<speaker>[a-z]+)_(?P<emotion>[a-z]+)_(?P<take>[0-9]{2})",
    columns=("speaker", "emotion", "original_label", "take", "fold"),
    speaker="pier_{speaker}",
    codes={"emotion": {"angry": "angry", "calm": "neutral"}},
    people={"anna": {"fold": "1"}, "ben": {"fold": "2"}},
    num_utterances=4,
)
register_corpus("pier", PIER)
"""
RECIPE = """
train_manifest: {manifest}
output_folder: {output}
seed: 1
crops: !new:dino_speech.MultiCrop
  num_long: 2
  long_s: 0.5
  num_short: 1
  short_s: 0.3
encoder: !apply:dino_speech.build_encoder
  name: mean_of_frames
  embedding_dim: 8
  hidden: 12
  seed: 1
trainer: !new:dino_speech.DINOPretrainer
  encoder: !ref <encoder>
  crops: !ref <crops>
  head:
    num_prototypes: 16
    hidden_dim: 8
    bottleneck_dim: 8
  schedule:
    batch_size: 4
    length: 2
"""


@pytest.fixture
def my_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package as `pip install` leaves it: the file, and the one line that names it."""
    folder = tmp_path / "site"
    (folder / "my_lab-1.0.dist-info").mkdir(parents=True)
    (folder / "my_lab-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: my-lab\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(folder)
    for registry in (ENCODERS, CORPORA, TASKS, OBJECTIVES):
        monkeypatch.setattr(registry, "known", dict(registry.known))
    return folder


def install(my_lab: Path, group: str, line: str, module: str, text: str) -> None:
    (my_lab / "my_lab-1.0.dist-info" / "entry_points.txt").write_text(f"[{group}]\n{line}\n")
    (my_lab / f"{module}.py").write_text(text)
    sys.modules.pop(module, None)


def test_a_backbone(my_lab: Path, tmp_path: Path) -> None:
    install(my_lab, "dino_speech.encoders", "mean_of_frames = my_network", "my_network", BACKBONE)
    assert "mean_of_frames" in list_encoders()
    assert "my_network" not in sys.modules  # nothing is imported to list it
    encoder = build_encoder("mean_of_frames", embedding_dim=8, seed=0).eval()
    assert encoder.config.backbone == {"hidden": 16}
    waves, lengths = torch.randn(2, 8_000), torch.tensor([8_000, 5_000])
    alone = encoder(waves[1:, :5_000])
    torch.testing.assert_close(encoder(waves, lengths)[1:], alone)
    layers = encoder.embed_layers(waves, lengths)
    assert {name: tuple(x.shape) for name, x in layers.items()} == {"hidden": (2, 16), "embedding": (2, 8)}
    encoder.save(tmp_path / "saved")
    torch.testing.assert_close(load_encoder(tmp_path / "saved")(waves, lengths), encoder(waves, lengths))
    assert load_encoder("random:mean_of_frames").embedding_dim == 192


def test_a_backbone_in_a_recipe_of_the_command_line(
    my_lab: Path, voices_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(my_lab, "dino_speech.encoders", "mean_of_frames = my_network", "my_network", BACKBONE)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(manifest=voices_folder / "manifest.csv", output=tmp_path / "run"))
    assert main(["pretrain", str(recipe), "--json"]) == 0
    folder = Path(json.loads(capsys.readouterr().out.splitlines()[-1])["encoder"])
    assert json.loads((folder / "encoder.json").read_text())["name"] == "mean_of_frames"
    assert load_encoder(folder).config.backbone == {"hidden": 12}


def test_a_corpus(
    my_lab: Path, tmp_path: Path, tone: Callable[..., np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    install(my_lab, "dino_speech.corpora", "pier = my_pier", "my_pier", CORPUS)
    for name in ("anna_angry_01", "anna_calm_02", "ben_calm_01", "notes"):
        (tmp_path / "pier").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "pier" / f"{name}.wav", tone(0.5), 16_000)
    command = ["prepare", "pier", str(tmp_path / "pier"), "--output", str(tmp_path / "out"), "--json"]
    assert main(command) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["num_utterances"], summary["num_official_utterances"], summary["num_speakers"]) == (3, 4, 2)
    assert summary["extra"] == ["notes.wav: not a name of this corpus"]
    rows = {u.id: u.labels for u in read_manifest(tmp_path / "out" / "manifest.csv", must_exist=True)}
    assert rows["ben_calm_01"] == {
        **{"speaker": "pier_ben", "emotion": "neutral", "original_label": "calm"},
        **{"take": "01", "fold": "2", "corpus": "Pier"},
    }
    (tmp_path / "pier" / "notes.wav").rename(tmp_path / "pier" / "carl_calm_01.wav")
    assert main(command) == 1
    assert "carl_calm_01.wav: speaker 'carl' is none of this corpus (anna, ben)" in capsys.readouterr().out


OBJECTIVE = """
import torch
from torch import nn
from dino_speech import register_objective


@register_objective("matched_views")
class MatchedViews(nn.Module):
    def __init__(self, *, num_long, student_temperature, teacher_temperature):
        super().__init__()
        self.temperature = student_temperature

    def forward(self, student_logits, targets):
        student = torch.softmax(student_logits.float() / self.temperature, dim=-1)
        return (student[:, None] - targets).square().sum(-1).mean()
"""


@pytest.mark.slow
def test_an_objective(my_lab: Path, voices_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(my_lab, "dino_speech.objectives", "matched_views = my_objective", "my_objective", OBJECTIVE)
    losses = {}
    for name in ("dino", "matched_views"):
        recipe = tmp_path / f"{name}.yaml"
        text = RECIPE.format(manifest=voices_folder / "manifest.csv", output=tmp_path / name)
        text = text.replace("name: mean_of_frames", "name: ecapa_tdnn").replace("hidden: 12", "channels: 16")
        recipe.write_text(text)
        assert main(["pretrain", str(recipe), f"--trainer.objective.loss={name}", "--json"]) == 0
        losses[name] = json.loads(capsys.readouterr().out.splitlines()[-1])["last"]["loss"]
        settings = json.loads((tmp_path / name / "hyperparameters.json").read_text())
        assert settings["objective"]["loss"] == name
    assert 0 < losses["matched_views"] < 2 < losses["dino"]  # squares of differences of shares; near ln K
    assert main(["pretrain", str(recipe), "--trainer.objective.loss=dono", f"--output_folder={tmp_path / 'x'}"]) == 1
    assert "no objective is called 'dono'; did you mean 'dino'" in capsys.readouterr().err


TASK = """
import numpy as np
from dino_speech import register_task


@register_task("retrieval")
def retrieval(embeddings, manifest, *, seed, label="speaker"):
    rows = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    scores = rows @ rows.T - 2 * np.eye(len(rows))
    values = np.array(manifest.label(label))
    return {"precision_at_1": float(np.mean(values == values[scores.argmax(axis=1)]))}
"""


def test_a_task(my_lab: Path, voices_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(my_lab, "dino_speech.tasks", "retrieval = my_task", "my_task", TASK)
    manifest = voices_folder / "manifest.csv"
    found = evaluate_task("retrieval", load_encoder("fbank_stats"), read_manifest(manifest))
    assert found.num_utterances == 16
    (voices_folder / "spk0" / "0.wav").write_bytes(b"no audio")
    words = ["evaluate", "task", "--encoder", "fbank_stats", "--manifest", str(manifest), "--json"]
    assert main([*words, "--task", "retrieval", "--option", "label=emotion", "--output", str(tmp_path / "out")]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["num_utterances"] == 15
    assert [item["name"] for item in answer["skipped"]] == ["spk0_0"]
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written["results"]["figures"] == answer["figures"] != found.figures
    assert main([*words, "--task", "retrievel"]) == 1
    assert "did you mean 'retrieval'" in capsys.readouterr().err


def test_what_is_registered_cannot_pose_as_ours(my_lab: Path) -> None:
    for name in ("ecapa_tdnn", "wav2vec2"):
        with pytest.raises(InputError, match="is one of dino_speech"):
            register_encoder(name)(torch.nn.Linear)
    with pytest.raises(InputError, match="corpus 'emodb' is one of dino_speech"):
        register_corpus("emodb", print)
    install(my_lab, "dino_speech.encoders", "ecapa_tdnn = my_fake\nnothing = my_fake", "my_fake", "")
    assert build_encoder("ecapa_tdnn", channels=8).config.name == "ecapa_tdnn"
    assert "my_fake" not in sys.modules
    with pytest.raises(InputError, match="my_fake is to register the encoder 'nothing', and does not"):
        build_encoder("nothing")
