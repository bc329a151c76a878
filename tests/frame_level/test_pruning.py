"""Top layers left out: what is left is the very first layers, and costs what they cost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dino_speech import FineTuneStage, build_encoder, load_encoder, measure_efficiency
from dino_speech.errors import InputError
from dino_speech.frame_level.distillation import first_layers
from dino_speech.transfer.stages import freeze_for

Config = Callable[..., dict[str, Any]]
LENGTHS = torch.tensor([8_000, 5_000])
ALL = [(name, variant) for name in ("wav2vec2", "hubert", "wavlm") for variant in ("group", "layer")]


@pytest.mark.parametrize(("name", "variant"), ALL)
def test_what_is_left_is_the_first_layers(
    name: str, variant: str, checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    source, waves = checkpoint(name, variant), torch.randn(2, 8_000, generator=torch.Generator().manual_seed(0))
    whole = build_encoder(name, source=source).eval()
    kept = build_encoder(name, source=source, num_layers=2).eval()
    weights = whole.state_dict()
    dropped = {key for key in weights if key.startswith("backbone.model.encoder.layers.2.")}
    assert dropped
    assert set(kept.state_dict()) == set(weights) - dropped
    assert all(torch.equal(value, weights[key]) for key, value in kept.state_dict().items())
    with torch.no_grad():
        expected, found = whole.embed_layers(waves, LENGTHS), kept.embed_layers(waves, LENGTHS)
        assert list(found) == ["conv", "layer_0", "layer_1", "layer_2", "embedding"]
        for layer in ("conv", "layer_0", "layer_1"):
            assert torch.equal(found[layer], expected[layer])
        last = build_encoder(name, source=source, layer=2).eval()
        if variant == "group":
            assert torch.equal(found["layer_2"], expected["layer_2"])
            assert torch.equal(kept(waves, LENGTHS), last(waves, LENGTHS))
        else:  # the last normalisation stands behind the last layer that is there
            frames, lengths = last.extract_features(waves[:1])
            conv, _ = last.backbone.convolve(frames, lengths)
            inner = last.backbone.model.encoder.layer_norm(last.backbone.transform(conv, None)[2])
            torch.testing.assert_close(kept(waves[:1]), inner.mean(1), atol=1e-5, rtol=0)
    kept.save(tmp_path / "encoder")
    again = load_encoder(tmp_path / "encoder")
    assert again.config.backbone["num_layers"] == 2
    assert torch.equal(again(waves), kept(waves))


def test_parameters_and_multiply_adds_are_those_of_a_shallower_model(small_config: Config) -> None:
    whole, kept, shallow = (
        build_encoder("hubert", config=small_config(num_hidden_layers=depth), num_layers=n, seed=0).eval()
        for depth, n in ((4, None), (4, 2), (2, None))
    )
    costs = [measure_efficiency(encoder, seconds=1.0, num_rounds=1) for encoder in (whole, kept, shallow)]
    assert costs[0].num_parameters > costs[1].num_parameters == costs[2].num_parameters
    assert costs[0].macs_per_s > costs[1].macs_per_s == costs[2].macs_per_s


def test_gradients_reach_what_is_left_and_not_the_front(small_config: Config) -> None:
    encoder = build_encoder("wav2vec2", config=small_config(layerdrop=0.0), num_layers=2, layer="weighted", seed=0)
    freeze_for(encoder, FineTuneStage(["backbone.model.encoder", "backbone.mixture"]))
    encoder(torch.randn(2, 8_000)).square().sum().backward()
    reached = {name for name, value in encoder.named_parameters() if value.grad is not None}
    prefixes = ("backbone.model.encoder.", "backbone.mixture.")
    assert reached == {name for name, _ in encoder.named_parameters() if name.startswith(prefixes)}
    assert encoder.backbone.mixture.logits.shape == (3,)


def test_a_pruned_model_is_truncated_and_copied_further(small_config: Config) -> None:
    pruned = build_encoder("wavlm", config=small_config(), num_layers=2, seed=0)
    assert len(build_encoder("wavlm", config=small_config(), num_layers=2, layer=1).backbone.model.encoder.layers) == 1
    student = first_layers(pruned, 1)
    assert len(student.backbone.model.encoder.layers) == 1
    with pytest.raises(InputError, match=r"num_layers = 2: expected fewer than the 2 layers"):
        first_layers(pruned, 2)


@pytest.mark.parametrize("num_layers", [0, 4, -1, 2.0, True, "2"])
def test_a_wrong_number_is_refused(num_layers: Any, small_config: Config) -> None:
    with pytest.raises(InputError, match=r"num_layers=.*: expected 1 to 3, the layers of this model"):
        build_encoder("wav2vec2", config=small_config(), num_layers=num_layers)


def test_a_layer_that_was_pruned_away_is_refused(small_config: Config) -> None:
    with pytest.raises(InputError, match="layer=3: expected 0 to 2"):
        build_encoder("wav2vec2", config=small_config(), num_layers=2, layer=3)
