"""Saving and loading: the same numbers back, nothing half written or deleted, every damage named."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dino_speech.errors import InputError
from dino_speech.models.checkpoint import load_encoder
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.registry import build_encoder

SMALL: dict[str, dict[str, Any]] = {
    "ecapa_tdnn": {"channels": 16, "embedding_dim": 8, "mean_norm": "window", "window_frames": 51},
    "xvector": {"channels": [8, 8, 8, 8, 12], "embedding_dim": 8, "pooling": "attention", "statistics_shortcut": True},
    "light_resnet34": {"channels": 4, "embedding_dim": 8, "embedding_batchnorm": True},
    "fbank_stats": {},
}


def small(name: str = "ecapa_tdnn") -> SpeechEncoder:
    encoder = build_encoder(name, seed=3, **SMALL[name])
    encoder(torch.randn(4, 8_000))  # moves the BatchNorm statistics: they must be saved too
    return encoder.eval()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return small().save(tmp_path / "encoder", {"seed": 3})


def edit(folder: Path, **changes: object) -> None:
    path = folder / "encoder.json"
    data = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))


@pytest.mark.parametrize("name", SMALL)
def test_round_trip(name: str, tmp_path: Path) -> None:
    encoder = small(name)
    folder = encoder.save(tmp_path / "new" / "encoder")
    state = torch.get_rng_state()
    loaded = load_encoder(folder)
    assert torch.equal(torch.get_rng_state(), state)
    assert loaded.config == encoder.config
    assert not loaded.training
    waves, num_samples = torch.randn(2, 7_000), torch.tensor([7_000, 4_000])
    assert torch.equal(loaded(waves, num_samples), encoder(waves, num_samples))


def test_the_folder_holds_plain_data(saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == ["encoder.json", "model.safetensors", "provenance.json"]
    config = json.loads((saved / "encoder.json").read_text())
    assert config["format_version"] == 1
    assert config["backbone"]["channels"] == 16
    assert json.loads((saved / "provenance.json").read_text()) == {"seed": 3}
    assert all(name.startswith("backbone.model.") for name in load_file(saved / "model.safetensors"))


def test_provenance_is_added(tmp_path: Path) -> None:
    folder = small().save(tmp_path / "encoder")
    assert json.loads((folder / "provenance.json").read_text())["torch"] == torch.__version__.split("+")[0]


def test_saving_again_replaces_and_leaves_nothing_behind(saved: Path) -> None:
    small("xvector").save(saved)
    assert load_encoder(saved).config.name == "xvector"
    assert [path.name for path in saved.parent.iterdir()] == ["encoder"]


def test_a_failing_save_leaves_the_old_encoder(saved: Path) -> None:
    before = (saved / "model.safetensors").read_bytes()
    with pytest.raises(TypeError):
        small("xvector").save(saved, {"not json": object()})
    assert (saved / "model.safetensors").read_bytes() == before
    assert load_encoder(saved).config.name == "ecapa_tdnn"


def test_saving_never_deletes_other_things(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"holds other things \(thesis.txt\), which saving would delete"):
        small().save(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    with pytest.raises(InputError, match="is a file"):
        small().save(tmp_path / "thesis.txt")


def test_the_output_of_a_pretraining_is_taken_too(saved: Path) -> None:
    assert load_encoder(saved.parent).embedding_dim == 8
    assert load_encoder(str(saved.parent)).embedding_dim == 8


def test_untrained_floors() -> None:
    wave = torch.randn(1, 8_000)
    first, second = load_encoder("random:light_resnet34"), load_encoder("random:light_resnet34")
    assert torch.equal(first(wave), second(wave))
    assert first.config.backbone["channels"] == 16
    stats = load_encoder("fbank_stats")
    assert stats.config.features["mean_norm"] == "none"
    assert stats.config.features["level_norm"]
    torch.testing.assert_close(stats(wave), stats(0.1 * wave), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("random:ecapa", "expected random:NAME with one of ecapa_tdnn, xvector"),
        ("random:fbank_stats", "expected random:NAME with one of"),
        ("random:", "expected random:NAME"),
        ("nowhere/encoder", "nowhere/encoder: no such folder; expected an encoder's folder, 'random:NAME', or"),
        ("ecapa_tdnn", "for an untrained one write 'random:ecapa_tdnn'"),
    ],
)
def test_unknown_sources_are_refused(
    source: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        load_encoder(source)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format version 2, but this dino_speech reads version 1"),
        ({"format": "other"}, "no encoder of ours"),
        ({"name": "wav2vec"}, r"encoder.json: no encoder is called 'wav2vec'"),
        ({"depth": 3}, r"unknown keys \['depth'\]"),
        ({"embedding_dim": None}, r"missing keys \['embedding_dim'\]"),
        ({"backbone": {"chanels": 3}}, "no option 'chanels'"),
        ({"backbone": {"channels": "wide"}}, "encoder.json"),
        ({"features": {"hop_ms": -1}}, "hop_ms"),
        ({"embedding_dim": 9}, r"model.fc.conv.weight is \(8, 96, 1\), expected \(9, 96, 1\)"),
        ({"whitening": True}, "whitening.mean is missing"),
    ],
)
def test_a_configuration_that_does_not_fit_is_named(saved: Path, changes: dict[str, object], message: str) -> None:
    edit(saved, **changes)
    with pytest.raises(InputError, match=message):
        load_encoder(saved)


def test_damaged_folders_are_named(saved: Path, tmp_path: Path) -> None:
    weights = load_file(saved / "model.safetensors")
    save_file({**weights, "surprise": torch.zeros(1)}, saved / "model.safetensors")
    with pytest.raises(InputError, match="surprise is unknown"):
        load_encoder(saved)
    (saved / "model.safetensors").write_bytes((saved / "encoder.json").read_bytes())
    with pytest.raises(InputError, match=r"model.safetensors: damaged"):
        load_encoder(saved)
    (saved / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model.safetensors: cannot be read"):
        load_encoder(saved)
    (saved / "encoder.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        load_encoder(saved)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: holds no encoder.json"):
        load_encoder(tmp_path / "empty")


def test_one_flipped_bit_of_the_weights_is_noticed_and_weights_without_checksum_are_read(saved: Path) -> None:
    path, weights = saved / "model.safetensors", load_file(saved / "model.safetensors")
    whole = path.read_bytes()
    for position in (len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(InputError, match=r"model.safetensors: damaged \(it does not match its checksum\); copy"):
            load_encoder(saved)
    save_file(weights, path)  # as earlier versions did
    assert load_encoder(saved).embedding_dim == 8


@pytest.mark.slow
def test_untrained_is_the_same_network_with_other_weights(saved: Path) -> None:
    trained, untrained = load_encoder(saved), load_encoder(f"untrained:{saved}")
    assert untrained.config == trained.config
    again = load_encoder(f"untrained:{saved}")
    for name, value in untrained.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    weight = "backbone.model.fc.conv.weight"
    assert not torch.equal(untrained.state_dict()[weight], trained.state_dict()[weight])
