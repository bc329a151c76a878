"""P-TAPT: frames learn the label, their clusters are predicted where they are hidden; only what should train trains."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dino_speech import build_encoder, load_encoder, read_manifest
from dino_speech.errors import InputError
from dino_speech.frame_level.frame_states import FrameLabels, MaskedStates, cluster_frames, frames_of, nearest
from dino_speech.frame_level.ptapt import PTAPT

SMALL: dict[str, Any] = {
    "batch_size": 8,
    "chunk_s": 1.0,
    "num_workers": 0,
    "precision": "fp32",
    "warmup_steps": 2,
    "log_every": 5,
    "num_clusters": [4, 12],
    "mask_length": 4,
    "lr": 3e-3,
    "state_lr": 3e-3,
}


@pytest.fixture
def small_ptapt(small_config: Callable[..., dict[str, Any]]) -> Callable[..., PTAPT]:
    def make(name: str = "wav2vec2", **changes: Any) -> PTAPT:
        config = small_config(num_hidden_layers=2, hidden_dropout=0.0, layerdrop=0.0, initializer_range=0.05)
        return PTAPT(build_encoder(name, config=config, seed=1), **{**SMALL, **changes})

    return make


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wav2vec2", "hubert"])
def test_states_are_learnt_and_then_predicted(
    name: str, small_ptapt: Callable[..., PTAPT], melodies_folder: Path, tmp_path: Path
) -> None:
    ptapt = small_ptapt(name, state_steps=20, steps=40)
    ptapt.fit(melodies_folder / "manifest.csv", output_folder=tmp_path / "out")
    assert ptapt.states_history_[-1]["loss"] < ptapt.states_history_[0]["loss"]
    first, last = ptapt.history_[0], ptapt.history_[-1]
    assert last["loss"] < first["loss"] - 0.5
    assert last["accuracy_4"] > first["accuracy_4"]
    assert last["accuracy_12"] > 2 / 12
    before, after = ptapt.encoder.state_dict(), load_encoder(tmp_path / "out").state_dict()
    same = {key for key, value in before.items() if torch.equal(value, after[key])}
    assert same == {key for key in before if key.startswith("backbone.model.feature_extractor.")}


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_numbers(
    small_ptapt: Callable[..., PTAPT], melodies_folder: Path, tmp_path: Path
) -> None:
    manifest = read_manifest(melodies_folder / "manifest.csv")
    sizes = {"state_steps": 3, "steps": 3}
    whole = small_ptapt(**sizes).fit(manifest, output_folder=tmp_path / "whole")
    for _ in range(6):  # a step at a time
        stopped = small_ptapt(**sizes, max_minutes=1e-9).fit(manifest, output_folder=tmp_path / "parts")
    assert stopped.stop_reason_ is None
    for key, value in whole.encoder_.state_dict().items():
        assert torch.equal(value, stopped.encoder_.state_dict()[key]), key
    assert len(list((tmp_path / "parts").glob("clusters_*.safetensors"))) == 1
    with pytest.raises(InputError, match="of another run: lr"):
        small_ptapt(**sizes, lr=1e-5).fit(manifest, output_folder=tmp_path / "parts")


def test_gradients_reach_what_should_train(small_ptapt: Callable[..., PTAPT]) -> None:
    ptapt = small_ptapt()
    extractor = build_encoder("wav2vec2", config=ptapt.encoder.config.backbone["config"], seed=2)
    waves, index = torch.randn(4, 16_000), torch.arange(4)
    labels = FrameLabels(extractor, torch.tensor([0, 1, 0, 1]))
    labels.losses(waves, index, 0)["loss"].backward()
    centers = {"4": torch.randn(4, 32), "12": torch.randn(12, 32)}
    extractor.zero_grad()
    states = MaskedStates(ptapt.encoder, extractor, centers, ptapt, seed=0)
    states.losses(waves, index, 0)["loss"].backward()
    reached = {name for name, value in states.named_parameters() if value.grad is not None}
    assert not any("feature_extractor" in name for name in reached)
    expected = {name for name, _ in states.named_parameters() if "feature_extractor" not in name}
    assert reached == expected
    assert all(value.grad is None for value in extractor.parameters())
    assert not any(name.startswith("fixed") for name in states.state_dict())


def test_a_masked_frame_is_not_heard(small_ptapt: Callable[..., PTAPT]) -> None:
    """What stands in a masked span of the convolutions' output changes nothing."""
    from dino_speech.frame_level.masking import masked_states

    network: Any = small_ptapt().encoder.eval().backbone
    conv, mask = torch.randn(2, 30, 16), torch.zeros(2, 30, dtype=torch.bool)
    mask[:, 10:15] = True
    other = torch.where(mask[:, :, None], torch.randn(2, 30, 16), conv)
    filler = torch.randn(32)
    torch.testing.assert_close(masked_states(network, conv, mask, filler), masked_states(network, other, mask, filler))
    torch.testing.assert_close(
        masked_states(network, conv, torch.zeros_like(mask), filler), network.transform(conv, None)[-1]
    )


def test_clusters_are_those_of_scikit_learn() -> None:
    from sklearn.cluster import KMeans

    frames = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
    centers = cluster_frames(frames, [3, 20], seed=4)
    model = KMeans(20, init="random", n_init=1, max_iter=20, random_state=4).fit(frames)
    found = nearest(torch.from_numpy(frames)[None], centers["20"])[0].numpy()
    np.testing.assert_array_equal(found, model.predict(frames))
    with pytest.raises(InputError, match="300 frames for num_clusters = 301"):
        cluster_frames(frames, [301], seed=0)


def test_what_is_refused(small_ptapt: Callable[..., PTAPT], melodies_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"num_clusters = \[4, 4\]"):
        small_ptapt(num_clusters=[4, 4])
    manifest = read_manifest(melodies_folder / "manifest.csv")
    with pytest.raises(InputError, match="no column 'feeling'"):
        small_ptapt(label="feeling").fit(manifest, output_folder=tmp_path)
    with pytest.raises(InputError, match="holds the one class 'happy'"):
        small_ptapt().fit(manifest.select(emotion="happy"), output_folder=tmp_path)
    ecapa = build_encoder("ecapa_tdnn", channels=8, attention_channels=8, se_channels=8)
    with pytest.raises(InputError, match="the encoder is 'ecapa_tdnn'; expected 'wav2vec2' or 'hubert' or 'wavlm'"):
        PTAPT(ecapa).fit(manifest, output_folder=tmp_path)


def test_frames_of_a_truncated_model(small_config: Callable[..., dict[str, Any]]) -> None:
    encoder = build_encoder("wavlm", config=small_config(), layer=1)
    assert frames_of(encoder, torch.randn(2, 8_000)).shape == (2, 24, 32)
