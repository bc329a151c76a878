"""Waves of zero mean and unit variance over their true samples, as transformers' feature extractor makes them."""

import numpy as np
import pytest
import torch

from dino_speech.errors import InputError
from dino_speech.features import NormalizedWave


@pytest.mark.slow
def test_it_is_the_feature_extractor_of_transformers() -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra dino-speech[ssl]")
    rng = np.random.default_rng(0)
    waves = [(0.1 * rng.standard_normal(size) + 0.3).astype(np.float32) for size in (900, 400)]
    reference = transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    expected = reference(waves, sampling_rate=16_000, padding=True, return_tensors="pt").input_values
    padded = torch.full((2, 900), 9.0)  # what lies beyond an end is not heard
    for row, wave in zip(padded, waves, strict=True):
        row[: len(wave)] = torch.from_numpy(wave)
    frames, counts = NormalizedWave()(padded, torch.tensor([900, 400]))
    torch.testing.assert_close(frames.squeeze(2), expected, atol=1e-5, rtol=0)
    assert counts is not None
    assert counts.tolist() == [900, 400]
    alone, none = NormalizedWave()(padded[1:, :400])
    torch.testing.assert_close(alone[0], frames[1, :400], atol=1e-5, rtol=0)
    assert none is None


def test_without_normalisation_only_the_padding_goes() -> None:
    waves = torch.randn(2, 50, dtype=torch.float64)
    frames, _ = NormalizedWave(normalize=False)(waves, torch.tensor([50, 20]))
    assert frames.dtype == torch.float32
    torch.testing.assert_close(frames[0, :, 0], waves[0].float())
    assert not frames[1, 20:].any()


def test_a_constant_wave_stays_finite() -> None:
    assert NormalizedWave()(torch.full((1, 400), 0.5))[0].isfinite().all()
    assert NormalizedWave().num_samples(400) == 400


def test_mistakes() -> None:
    with pytest.raises(InputError, match="expected \\(B, time\\)"):
        NormalizedWave()(torch.zeros(400))
    with pytest.raises(InputError, match="num_samples up to 500, but the waves have 400"):
        NormalizedWave()(torch.zeros(2, 400), torch.tensor([500, 400]))
