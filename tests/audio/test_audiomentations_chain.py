"""audiomentations transforms from plain data: reproducible, per crop, with errors that say what was meant."""

import pickle
import random

import numpy as np
import pytest
import torch

from dino_speech.audio.audiomentations_chain import WaveformTransforms, transform_names
from dino_speech.errors import InputError

CHAIN = [
    {"name": "SevenBandParametricEQ", "p": 0.8},
    {"name": "AddGaussianSNR", "p": 0.5, "min_snr_db": 5, "max_snr_db": 20},
    {"name": "ClippingDistortion", "p": 0.5},
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_same_generator_same_output() -> None:
    waves = 0.1 * torch.randn(4, 8_000)
    transforms = WaveformTransforms(CHAIN)
    first, again, other = (transforms(waves, generator=generator(seed)) for seed in (3, 3, 4))
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_global_generators_are_left_as_they_were() -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    expected = random.random(), np.random.rand()  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    WaveformTransforms(CHAIN)(torch.randn(2, 4_000), generator=generator())
    assert (random.random(), np.random.rand()) == expected  # noqa: NPY002


def test_the_state_of_global_generators_does_not_matter() -> None:
    waves, transforms = 0.1 * torch.randn(3, 4_000), WaveformTransforms(CHAIN)
    first = transforms(waves, generator=generator())
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002
    assert torch.equal(first, transforms(waves, generator=generator()))


def test_each_crop_is_drawn_by_itself() -> None:
    waves = (0.1 * torch.randn(1, 4_000)).expand(6, -1)
    transformed = WaveformTransforms([{"name": "Gain", "p": 1.0}])(waves, generator=generator())
    levels = (transformed / waves)[:, 0]
    assert len(set(levels.tolist())) == 6


def test_a_single_wave_and_the_input_is_untouched() -> None:
    wave = 0.1 * torch.randn(4_000)
    before = wave.clone()
    inverted = WaveformTransforms([{"name": "PolarityInversion", "p": 1.0}])(wave, generator=generator())
    assert torch.equal(inverted, -before)
    assert torch.equal(wave, before)


def test_it_is_what_audiomentations_does() -> None:
    audiomentations = pytest.importorskip("audiomentations")
    wave = 0.1 * torch.randn(4_000)
    ours = WaveformTransforms([{"name": "Gain", "min_gain_db": -6.0, "max_gain_db": -6.0, "p": 1.0}])
    theirs = audiomentations.Gain(min_gain_db=-6.0, max_gain_db=-6.0, p=1.0)(wave.numpy(), 16_000)
    np.testing.assert_array_equal(ours(wave, generator=generator()).numpy(), theirs)


def test_workers_can_have_it() -> None:
    transforms = pickle.loads(pickle.dumps(WaveformTransforms(CHAIN)))
    wave = 0.1 * torch.randn(4_000)
    expected = WaveformTransforms(CHAIN)(wave, generator=generator())
    assert torch.equal(transforms(wave, generator=generator()), expected)


def test_an_empty_chain_changes_nothing() -> None:
    wave = torch.randn(100)
    assert torch.equal(WaveformTransforms([])(wave, generator=generator()), wave)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "SevenBandParametricEq"}, "transform 1: .* did you mean SevenBandParametricEQ"),
        ({"name": "Lambda"}, "'Lambda' is not a transform"),
        ({"p": 0.5}, "transform 1: 'None' is not a transform"),
        ({"name": "Gain", "min_gain_dB": 3}, "Gain: no argument 'min_gain_dB'; did you mean min_gain_db"),
        ({"name": "Gain", "p": 2.0}, "Gain: a value is out of its range"),
        ({"name": "Gain", "min_gain_db": 6, "max_gain_db": 1}, "Gain: min_gain_db cannot be greater"),
    ],
)
def test_a_wrong_transform_is_refused_with_the_cure(spec: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        WaveformTransforms([spec])


def test_a_change_of_length_is_refused() -> None:
    transforms = WaveformTransforms([{"name": "AdjustDuration", "duration_seconds": 0.1, "p": 1.0}])
    with pytest.raises(InputError, match="AdjustDuration: made 4000 samples into 1600"):
        transforms(torch.randn(4_000), generator=generator())


def test_names_are_those_of_audiomentations() -> None:
    assert {"SevenBandParametricEQ", "ApplyImpulseResponse", "Mp3Compression"} <= set(transform_names())
    assert not {"Lambda", "Compose", "BaseWaveformTransform"} & set(transform_names())
