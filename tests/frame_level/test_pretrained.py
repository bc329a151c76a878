"""Checkpoints from folders that transformers wrote, and folders that this library writes; no network."""

import json
import logging
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dino_speech import Verifier, evaluate_classification, load_encoder, read_manifest
from dino_speech.errors import InputError
from dino_speech.models.encoder_folder import WEIGHTS_FILE
from dino_speech.models.registry import build_encoder, encoder_options, list_encoders

Checkpoint = Callable[..., Path]
Config = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("name", ["wav2vec2", "hubert", "wavlm"])
@pytest.mark.parametrize("variant", ["group", "layer"])
def test_a_checkpoint_gives_its_own_embeddings(name: str, variant: str, checkpoint: Checkpoint) -> None:
    import transformers

    folder = checkpoint(name, variant)
    encoder = build_encoder(name, source=folder, seed=0).eval()
    wave = torch.randn(1, 8_000)
    prepared = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder)
    inputs = prepared(wave[0].numpy(), sampling_rate=16_000, return_tensors="pt").input_values
    with torch.no_grad():
        expected = transformers.AutoModel.from_pretrained(folder).eval()(inputs).last_hidden_state.mean(1)
        torch.testing.assert_close(encoder(wave), expected, atol=1e-4, rtol=0)
    assert encoder.config.backbone["source"] == str(folder)
    assert encoder.config.features == {"normalize": True}


def test_a_saved_encoder_needs_neither_source_nor_network(checkpoint: Checkpoint, tmp_path: Path) -> None:
    source = checkpoint("hubert", "layer", normalize=False)
    encoder = build_encoder("hubert", source=source, layer=2, pooling="mean_std").eval()
    encoder.save(tmp_path / "encoder")
    for path in source.iterdir():
        path.unlink()
    again = load_encoder(tmp_path / "encoder")
    assert again.config == encoder.config
    assert again.config.features == {"normalize": False}
    waves, lengths = torch.randn(2, 8_000), torch.tensor([8_000, 5_000])
    with torch.no_grad():
        assert torch.equal(again(waves, lengths), encoder(waves, lengths))
        untrained = load_encoder(f"untrained:{tmp_path / 'encoder'}")
        assert not torch.allclose(untrained(waves, lengths), encoder(waves, lengths), atol=0.1)
    text = (tmp_path / "encoder" / "encoder.json").read_text()
    assert json.loads(text)["backbone"]["config"]["hidden_size"] == 32
    assert (tmp_path / "encoder" / WEIGHTS_FILE).is_file()


@pytest.mark.slow
def test_it_verifies_and_evaluates_like_any_other(checkpoint: Checkpoint, voices_folder: Path) -> None:
    encoder = build_encoder("wav2vec2", source=checkpoint()).eval()
    manifest = read_manifest(voices_folder / "manifest.csv")
    together = encoder.embed_files(manifest)
    alone = np.stack([encoder.embed_file(utterance.wav).numpy() for utterance in manifest])
    np.testing.assert_allclose(together.embeddings, alone, atol=1e-4)
    file = manifest[0].wav
    assert Verifier(encoder).compare_files(file, file).score == pytest.approx(1.0, abs=1e-5)
    report = evaluate_classification(encoder, manifest, label="emotion", num_folds=2, num_resamples=20)
    assert report.num_utterances == 16


def test_a_model_with_a_head_gives_its_encoder(tmp_path: Path, small_config: Config) -> None:
    import transformers

    config = transformers.Wav2Vec2Config(**small_config(add_adapter=False), num_codevectors_per_group=8)
    model = transformers.Wav2Vec2ForCTC(config).eval()
    model.save_pretrained(tmp_path / "ctc")
    encoder = build_encoder("wav2vec2", source=tmp_path / "ctc")
    for name, value in model.wav2vec2.state_dict().items():
        assert torch.equal(encoder.backbone.model.state_dict()[name], value), name


def test_pickled_weights_are_never_opened(checkpoint: Checkpoint) -> None:
    folder = checkpoint()

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (folder.joinpath("sprung").touch, ())

    torch.save({"a": Trap()}, folder / "pytorch_model.bin")
    build_encoder("wav2vec2", source=folder)  # safetensors stand beside it
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"holds no model.safetensors; pickled weights are never read"):
        build_encoder("wav2vec2", source=folder)
    assert not (folder / "sprung").exists()


def test_code_in_a_checkpoint_is_not_run(checkpoint: Checkpoint) -> None:
    folder = checkpoint()
    (folder / "evil.py").write_text(f"open({str(folder / 'sprung')!r}, 'w')")
    data = json.loads((folder / "config.json").read_text())
    data |= {"auto_map": {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}}
    data |= {"quantization_config": {"quant_method": "no_such_method"}}
    (folder / "config.json").write_text(json.dumps(data))
    build_encoder("wav2vec2", source=folder)
    assert not (folder / "sprung").exists()


def test_wrong_checkpoints_are_refused(
    checkpoint: Checkpoint, tmp_path: Path, small_config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    folder = checkpoint("hubert")
    with pytest.raises(InputError, match=r"model_type 'hubert', expected 'wav2vec2': build_encoder\('hubert'"):
        build_encoder("wav2vec2", source=folder)
    with pytest.raises(InputError, match="not both"):
        build_encoder("hubert", source=folder, config=small_config())
    preprocessor = folder / "preprocessor_config.json"
    preprocessor.write_text(preprocessor.read_text().replace("16000", "8000"))
    with pytest.raises(InputError, match="made for 8000 Hz, but waves here have 16000 Hz"):
        build_encoder("hubert", source=folder)
    preprocessor.unlink()
    with caplog.at_level(logging.WARNING):
        assert build_encoder("hubert", source=folder, normalize=False).config.features["normalize"] is False
        assert caplog.messages == []
        assert build_encoder("hubert", source=folder).config.features["normalize"] is True
    assert "no preprocessor_config.json says whether waves are normalised; they are" in caplog.messages[0]
    assert "give normalize: true or false" in caplog.messages[0]
    (folder / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        build_encoder("hubert", source=folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"no config.json names its model_type; expected a folder that transformers"):
        build_encoder("hubert", source=folder)


def test_missing_weights_are_refused(checkpoint: Checkpoint) -> None:
    from safetensors.torch import load_file, save_file

    folder = checkpoint("wavlm")
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("encoder.layers.1.feed_forward.output_dense.weight")
    tensors.pop("masked_spec_embed", None)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"no weights for encoder.layers.1.feed_forward.output_dense.weight"):
        build_encoder("wavlm", source=folder)


def test_the_extra_is_named_where_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"pip install 'dino-speech\[ssl\]'"):
        build_encoder("wavlm")
    assert {"wav2vec2", "hubert", "wavlm"} <= set(list_encoders())
    assert {"source", "config", "layer", "pooling", "normalize"} <= set(encoder_options("hubert"))


def test_weights_under_their_old_names_are_found(checkpoint: Checkpoint) -> None:
    """The published checkpoints are older than torch's parametrizations, and half of them in half precision."""
    from safetensors.torch import load_file, save_file

    folder = checkpoint("hubert")
    expected = build_encoder("hubert", source=folder).state_dict()
    place, old = "encoder.pos_conv_embed.conv.", {}
    for name, value in load_file(folder / "model.safetensors").items():
        name = name.replace(f"{place}parametrizations.weight.original0", f"{place}weight_g")
        old[name.replace(f"{place}parametrizations.weight.original1", f"{place}weight_v")] = value.half()
    assert f"{place}weight_g" in old
    save_file(old, folder / "model.safetensors", metadata={"format": "pt"})
    found = build_encoder("hubert", source=folder).state_dict()
    for name, value in found.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name], atol=1e-3, rtol=1e-3)


def test_an_id_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"nobody/nothing: .*expected a folder that transformers' save_pretrained"):
        build_encoder("wav2vec2", source="nobody/nothing")


def test_what_leads_out_of_a_checkpoint_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = checkpoint()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/else"}')
    with pytest.raises(InputError, match=r"adapter_config.json: an adapter, which may name a model elsewhere"):
        build_encoder("wav2vec2", source=folder)
    (folder / "adapter_config.json").unlink()
    for name in ("../other.safetensors", "pytorch_model-00001-of-00002.bin"):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(InputError, match=r"expected files \*.safetensors of this folder; found"):
            build_encoder("wav2vec2", source=folder)
    (folder / "model.safetensors.index.json").unlink()
    (folder / "config.json").rename(tmp_path / "config.json")
    os.mkfifo(folder / "config.json")
    with pytest.raises(InputError, match="a pipe or a device"):
        build_encoder("wav2vec2", source=folder)
