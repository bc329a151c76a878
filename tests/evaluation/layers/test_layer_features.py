"""Layers on disk: computed once, made again where anything that they depend on has changed."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from dino_speech.data.manifest import Manifest
from dino_speech.errors import InputError
from dino_speech.evaluation.layers.layer_features import layer_features
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.registry import build_encoder


@pytest.fixture
def network() -> SpeechEncoder:
    return build_encoder("ecapa_tdnn", embedding_dim=8, channels=16, seed=0).eval()


def test_layers_are_those_of_the_encoder(network: SpeechEncoder, voices: Manifest) -> None:
    found = layer_features(network, voices)
    assert next(iter(found.widths)) == "tdnn"
    np.testing.assert_allclose(found.layer("embedding"), network.embed_files(voices).embeddings, atol=1e-5)
    assert found.embedded("block_2").embeddings.shape == (16, 16)
    assert found.usable.all()
    part = layer_features(network, voices, rows=np.array([3, 5]), layers=["block_*"])
    assert list(part.widths) == ["block_1", "block_2", "block_3"]
    assert np.flatnonzero(part.usable).tolist() == [3, 5]
    np.testing.assert_allclose(part.layer("block_3")[5], found.layer("block_3")[5], atol=1e-5)
    with pytest.raises(InputError, match=r"no layer is called like \['conv'\]; this encoder has tdnn, block_1"):
        layer_features(network, voices, layers=["conv"])


def test_a_second_pass_reads_the_file(network: SpeechEncoder, voices: Manifest, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = layer_features(network, voices, cache=cache)
    (file,) = cache.iterdir()
    written = file.stat().st_mtime_ns
    again = layer_features(network, voices, cache=cache)
    assert file.stat().st_mtime_ns == written
    np.testing.assert_array_equal(again.embeddings, first.embeddings)
    file.write_bytes(b"half of it")
    np.testing.assert_allclose(layer_features(network, voices, cache=cache).embeddings, first.embeddings, atol=1e-6)


def test_whatever_changes_the_numbers_makes_a_new_file(
    network: SpeechEncoder, voices: Manifest, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"

    def files_after() -> int:
        layer_features(network, voices, cache=cache)
        return len(list(cache.iterdir()))

    assert files_after() == 1
    os.utime(voices[0].wav, ns=(1, 1))
    assert files_after() == 2
    layer_features(network, voices.subset(range(5)), cache=cache)
    assert files_after() == 3
    with torch.no_grad():
        network.backbone.model.fc.conv.bias[0] += 1e-3
    assert files_after() == 4
    layer_features(network, voices, cache=cache, layers=["mfa"])
    assert files_after() == 5


def test_bad_files_are_listed_also_from_the_cache(
    network: SpeechEncoder, broken_voices: Manifest, tmp_path: Path
) -> None:
    found = [layer_features(network, broken_voices, cache=tmp_path / "cache") for _ in range(2)]
    for one in found:
        assert {item.name for item in one.skipped} == {"spk0_0", "spk1_1", "spk2_2"}
        assert one.usable.sum() == 13
    only_bad = broken_voices.subset([0])
    with pytest.raises(InputError, match="none of 1 utterances could be embedded"):
        layer_features(network, only_bad)
