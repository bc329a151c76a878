"""Whitening: unit covariance, shrinkage, the encoder's own stage, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dino_speech.errors import InputError
from dino_speech.models.checkpoint import load_encoder
from dino_speech.models.registry import build_encoder
from dino_speech.models.whitening import Whitening


@pytest.fixture
def embeddings() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(500, 6, generator=generator) @ torch.randn(6, 6, generator=generator)
    return mixed + torch.arange(6)


def test_covariance_becomes_the_identity(embeddings: torch.Tensor) -> None:
    whitening = Whitening(6)
    whitening.fit(embeddings, shrinkage=0.0)
    white = whitening(embeddings)
    torch.testing.assert_close(torch.cov(white.T), torch.eye(6), rtol=0, atol=1e-4)
    assert white.mean(0).abs().max() < 1e-4
    assert torch.allclose(whitening.projection, whitening.projection.T, atol=1e-5)


def test_full_shrinkage_only_moves_and_scales(embeddings: torch.Tensor) -> None:
    whitening = Whitening(6)
    whitening.fit(embeddings, shrinkage=1.0)
    centred = embeddings - embeddings.mean(0)
    white = whitening(embeddings)
    torch.testing.assert_close(
        torch.nn.functional.normalize(white), torch.nn.functional.normalize(centred), rtol=0, atol=1e-4
    )


def test_the_stage_of_an_encoder(tmp_path: Path) -> None:
    encoder = build_encoder("ecapa_tdnn", embedding_dim=6, channels=16, seed=0).eval()
    waves = torch.randn(40, 4_000)
    with torch.no_grad():
        raw = encoder(waves)
        encoder.fit_whitening(raw.numpy(), shrinkage=0.0)
        torch.testing.assert_close(torch.cov(encoder(waves).T), torch.eye(6), rtol=0, atol=1e-3)
        encoder.save(tmp_path / "white")
        loaded = load_encoder(tmp_path / "white")
        assert loaded.config.whitening
        assert torch.equal(loaded(waves), encoder(waves))
        white = encoder(waves)
        encoder.train()
        encoder.backbone.eval()
        torch.testing.assert_close(encoder(waves), white)  # training begins with what was evaluated
        with torch.autocast("cpu", torch.bfloat16):
            half = encoder.whitening(raw)
        torch.testing.assert_close(half, white)  # float32 always
    encoder(waves).square().mean().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())
    with pytest.raises(InputError, match="whitens already"):
        encoder.fit_whitening(np.zeros((4, 6)))


@pytest.mark.parametrize(
    ("bad", "shrinkage", "message"),
    [
        (torch.zeros(5, 3), 0.1, r"expected \(N, 6\)"),
        (torch.zeros(1, 6), 0.1, "at least 2"),
        (torch.randn(4, 6), 0.0, "a larger shrinkage"),
        (torch.ones(9, 6), 0.5, "without variance"),
        (torch.full((9, 6), torch.nan), 0.5, "NaN"),
        (torch.randn(9, 6), 1.5, "expected 0 to 1"),
    ],
)
def test_impossible_embeddings_are_refused(bad: torch.Tensor, shrinkage: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Whitening(6).fit(bad, shrinkage=shrinkage)
