"""Encoders by name: options find their place, unknown ones are refused, a seed decides the weights alone."""

import pytest
import torch

from dino_speech.errors import InputError
from dino_speech.models.registry import build_encoder, encoder_from_config, encoder_options, list_encoders


def test_names() -> None:
    own = ["ecapa_tdnn", "xvector", "resnet34", "light_resnet34", "fbank_stats", "egemaps", "compare2016"]
    assert list_encoders() == [*own, "wav2vec2", "hubert", "wavlm"]
    assert "fbank_stats" not in list_encoders(trainable_only=True)


@pytest.mark.parametrize("name", ["ecapa_tdnn", "xvector", "resnet34", "light_resnet34", "fbank_stats"])
def test_every_encoder_embeds(name: str) -> None:
    encoder = build_encoder(name, seed=0).eval()
    embedding = encoder(torch.randn(2, 8_000), torch.tensor([8_000, 5_000]))
    assert embedding.shape == (2, encoder.embedding_dim)
    assert embedding.dtype == torch.float32
    assert encoder.embedding_dim == (160 if name == "fbank_stats" else 192)
    assert bool(list(encoder.parameters())) == (name != "fbank_stats")


def test_options_reach_their_part() -> None:
    encoder = build_encoder(
        "ecapa_tdnn",
        embedding_dim=24,
        channels=16,
        num_mels=40,
        hop_ms=12.5,
        mean_norm="window",
        embedding_batchnorm=True,
    )
    assert encoder.features.num_mels == 40
    assert encoder.features.hop_samples == 200
    assert encoder.features.mean_norm == "window"
    assert encoder.backbone.model.channels == [16, 16, 16, 16, 48]
    assert isinstance(encoder.embedding_norm, torch.nn.BatchNorm1d)
    embedding = encoder(torch.randn(8, 8_000))  # (B, D), each dimension with zero mean and unit variance over the batch
    assert embedding.mean(0).abs().max() < 1e-5
    assert (embedding.var(0, unbiased=False) - 1).abs().max() < 0.05


def test_the_configuration_spells_out_every_default() -> None:
    encoder = build_encoder("light_resnet34", channels=4)
    config = encoder.config
    assert config.backbone == {"channels": 4, "pooling": "statistics"}
    assert config.features["window_ms"] == 25.0
    own = {"embedding_batchnorm": False, "statistics_shortcut": False}
    assert {**config.features, **config.backbone, **own} == {**encoder_options("light_resnet34"), "channels": 4}
    again = encoder_from_config(config)
    assert {n: p.shape for n, p in again.named_parameters()} == {n: p.shape for n, p in encoder.named_parameters()}


def test_a_seed_decides_the_weights_and_touches_nothing_else() -> None:
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    first = build_encoder("xvector", channels=[8, 8, 8, 8, 8], seed=1)
    assert torch.equal(torch.randn(3), expected)
    second = build_encoder("xvector", channels=[8, 8, 8, 8, 8], seed=1)
    other = build_encoder("xvector", channels=[8, 8, 8, 8, 8], seed=2)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ecapa", {}, "no encoder is called 'ecapa'; did you mean 'ecapa_tdnn'"),
        ("wav2vec", {}, "there are ecapa_tdnn, xvector"),
        ("ecapa_tdnn", {"chanels": 64}, "no option 'chanels'; did you mean 'channels'"),
        ("ecapa_tdnn", {"sample_rate": 8_000}, "no option 'sample_rate'"),
        ("fbank_stats", {"num_mels": 40}, "no option 'num_mels'; it has none"),
        ("fbank_stats", {"embedding_dim": 192}, "80 bands are 160"),
        ("xvector", {"embedding_dim": 0}, "embedding_dim=0"),
    ],
)
def test_wrong_names_and_options_are_refused(name: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_encoder(name, **options)
