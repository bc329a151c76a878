"""Waves in memory: the same embedding as from their file, whatever holds them; and one clear line otherwise."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from dino_speech import build_encoder
from dino_speech.errors import InputError
from dino_speech.evaluation.verification.verifier import Verifier
from dino_speech.models.encoder import SpeechEncoder

Tone = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def encoder() -> SpeechEncoder:
    return build_encoder("ecapa_tdnn", channels=8, attention_channels=8, se_channels=8, embedding_dim=8, seed=0).eval()


@pytest.fixture
def waves(tone: Tone) -> list[np.ndarray]:
    return [
        tone(seconds, hz=hz, seed=int(hz)).astype(np.float32) for seconds, hz in ((0.9, 110), (0.5, 170), (0.7, 240))
    ]


def of_files(encoder: SpeechEncoder, waves: list[np.ndarray], rate: int, folder: Path, subtype: str) -> np.ndarray:
    paths = [folder / f"{number}.wav" for number in range(len(waves))]
    for path, wave in zip(paths, waves, strict=True):
        soundfile.write(path, wave, rate, subtype=subtype)
    return encoder.embed_files(paths).embeddings


def test_arrays_are_embedded_as_their_files_are(
    encoder: SpeechEncoder, waves: list[np.ndarray], tmp_path: Path
) -> None:
    found = encoder.embed(waves)
    assert found.shape == (3, 8)
    assert (found.numpy() == of_files(encoder, waves, 16_000, tmp_path, "FLOAT")).all()
    assert (encoder.embed([torch.from_numpy(wave) for wave in waves]) == found).all()
    np.testing.assert_allclose(encoder.embed(waves[1]), found[1], atol=1e-5)
    np.testing.assert_allclose(encoder.embed(waves[1].tolist()), found[1], atol=1e-5)
    assert encoder.embed(torch.from_numpy(waves[1]).double()).shape == (8,)
    score = Verifier(encoder).compare_waves(waves[0], waves[1]).score
    paths = [tmp_path / "0.wav", tmp_path / "1.wav"]
    assert score == pytest.approx(Verifier(encoder).compare_files(*paths).score, abs=1e-5)


@pytest.mark.parametrize(("dtype", "subtype"), [(np.int16, "PCM_16"), (np.int32, "PCM_32")])
def test_integers_at_another_rate_too(
    encoder: SpeechEncoder, waves: list[np.ndarray], tmp_path: Path, dtype: Any, subtype: str
) -> None:
    scaled = [np.round(wave * np.iinfo(dtype).max * 0.9).astype(dtype) for wave in waves]
    expected = of_files(encoder, scaled, 22_050, tmp_path, subtype)
    np.testing.assert_allclose(encoder.embed(scaled, 22_050), expected, atol=1e-5)


def test_padded_batches_with_lengths(encoder: SpeechEncoder, waves: list[np.ndarray]) -> None:
    sizes = np.array([len(wave) for wave in waves])
    padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(wave) for wave in waves], batch_first=True)
    expected = encoder.embed(waves)
    assert (encoder.embed(padded, lengths=sizes) == expected).all()
    assert (encoder.embed(padded, lengths=torch.from_numpy(sizes / sizes.max())) == expected).all()
    assert (encoder.embed(padded) - expected).abs().max() > 1e-3, (
        "the padding is heard where nobody says how long they are"
    )


ONE = np.full(8_000, 0.1, dtype=np.float32)


@pytest.mark.parametrize(
    ("waves", "options", "message"),
    [
        (ONE.reshape(1, 2, -1), {}, r"waves of shape \(1, 2, 4000\): expected \(time,\), \(batch, time\)"),
        ([ONE, ONE.reshape(2, -1)], {}, r"wave 2 has the shape \(2, 4000\)"),
        ([ONE, ONE[:0]], {}, r"wave 2 has the shape \(0,\)"),
        (ONE.astype(np.uint8), {}, "wave 1 is of type uint8; expected floats"),
        ([ONE, ONE * np.nan], {}, "wave 2 holds NaN or Inf"),
        ([ONE, ONE * 0], {}, r"wave 2: silent"),
        ([ONE[:200]], {}, r"wave 1: 0.0125 s long; this encoder needs at least 0.1 s"),
        ([ONE, ONE], {"max_s": 0.2}, r"wave 1: 0 s in one piece; expected at most 0.2 s"),
        (ONE, {"sample_rate": 0}, "sample_rate = 0: expected a positive whole number"),
        (ONE[None], {"lengths": [1, 2]}, r"lengths of shape \(2,\) for 1 wave"),
        (ONE[None], {"lengths": [9_000]}, r"lengths = \[9000\] of waves with \[8000\] samples"),
        (ONE[None], {"lengths": [1.5]}, r"lengths = \[1.5\]: expected samples as integers, or shares"),
    ],
)
def test_what_does_not_fit_is_named(encoder: SpeechEncoder, waves: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        encoder.embed(waves, **options)
