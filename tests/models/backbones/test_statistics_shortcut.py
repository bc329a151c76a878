"""The shortcut from the features' statistics to the embedding."""

import pytest
import torch

from dino_speech import build_encoder
from dino_speech.models.backbones.pooling import StatisticsShortcut


def test_the_shortcut_is_the_affine_map_of_normalised_mean_and_deviation() -> None:
    torch.manual_seed(0)
    shortcut = StatisticsShortcut(4, 3).train()
    frames = torch.randn(6, 20, 4) * torch.tensor([1.0, 2.0, 3.0, 4.0]) + 5
    statistics = torch.cat([frames.mean(1), frames.std(1, correction=0)], dim=1)
    normalised = (statistics - statistics.mean(0)) / (statistics.var(0, correction=0) + 1e-5).sqrt()
    expected = normalised @ shortcut.affine.weight.T + shortcut.affine.bias
    torch.testing.assert_close(shortcut(frames), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["ecapa_tdnn", "xvector", "light_resnet34"])
def test_with_a_shortcut_the_embedding_still_does_not_depend_on_the_batch(name: str) -> None:
    channels = {} if name == "xvector" else {"channels": 16}
    encoder = build_encoder(
        name, embedding_dim=8, mean_norm="none", statistics_shortcut=True, seed=0, **channels
    ).eval()
    lengths = torch.tensor([16_000, 9_000, 12_345])
    waves = torch.randn(3, 16_000, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        together = encoder(waves, lengths)
        alone = torch.cat([encoder(wave[None, :length]) for wave, length in zip(waves, lengths, strict=True)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_the_shortcut_reaches_the_embedding_and_learns() -> None:
    encoder = build_encoder("ecapa_tdnn", embedding_dim=8, channels=16, statistics_shortcut=True, seed=0)
    encoder(torch.randn(4, 16_000)).square().sum().backward()
    assert encoder.shortcut.affine.weight.grad.abs().sum() > 0
