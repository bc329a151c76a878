"""Frame-level encoders against transformers itself, and against their own embeddings of one utterance at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dino_speech.errors import InputError
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.registry import build_encoder

Config = Callable[..., dict[str, Any]]
LENGTHS = torch.tensor([16_000, 9_111, 12_345, 1_600])
ALL = [(name, variant) for name in ("wav2vec2", "hubert", "wavlm") for variant in ("group", "layer")]


@pytest.fixture
def waves() -> Tensor:
    """(4, 16000); beyond each true end stands noise, which nothing may hear."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([0.1, 0.5, 0.02, 1.0])[:, None]
    return scale * torch.randn(4, 16_000, generator=generator) + 0.05


def small(name: str, config: dict[str, Any], **options: Any) -> SpeechEncoder:
    return build_encoder(name, config=config, seed=0, **options).eval()


@pytest.mark.parametrize(("name", "variant"), ALL)
def test_an_utterance_alone_is_what_transformers_says(
    name: str, variant: str, small_config: Config, waves: Tensor
) -> None:
    encoder = small(name, small_config(variant))
    normalized = (waves - waves.mean(1, keepdim=True)) / (waves.var(1, unbiased=False, keepdim=True) + 1e-7).sqrt()
    with torch.no_grad():
        expected = encoder.backbone.model(normalized, output_hidden_states=True)
        torch.testing.assert_close(encoder(waves), expected.last_hidden_state.mean(1), atol=1e-4, rtol=0)
        layers = encoder.embed_layers(waves)
        assert list(layers) == ["conv", "layer_0", "layer_1", "layer_2", "layer_3", "embedding"]
        for number in range(3):
            inner = expected.hidden_states[number].mean(1)
            torch.testing.assert_close(layers[f"layer_{number}"], inner, atol=1e-4, rtol=0)
        assert torch.equal(layers["layer_3"], layers["embedding"])
        conv = encoder.backbone.model.feature_extractor(normalized).mean(2)
        torch.testing.assert_close(layers["conv"], conv, atol=1e-4, rtol=0)


@pytest.mark.parametrize("pooling", ["mean", "mean_std", "attention"])
@pytest.mark.parametrize(("name", "variant"), ALL)
def test_no_embedding_depends_on_its_batch(
    name: str, variant: str, pooling: str, small_config: Config, waves: Tensor
) -> None:
    encoder = small(name, small_config(variant), pooling=pooling, layer="mean")
    with torch.no_grad():
        together = encoder.embed_layers(waves, LENGTHS)
        alone = [encoder.embed_layers(wave[None, :n]) for wave, n in zip(waves, LENGTHS.tolist(), strict=True)]
    for layer, rows in together.items():
        expected = torch.cat([found[layer] for found in alone])
        assert expected.std(0).max() > 1e-2  # the utterances differ: there is something to get wrong
        torch.testing.assert_close(rows, expected, atol=1e-4, rtol=0)


def test_a_plain_forward_pass_of_transformers_would_depend_on_it(small_config: Config, waves: Tensor) -> None:
    """What the normalisation of the base models does to a padded batch: the reason for `convolve`."""
    encoder = small("wav2vec2", small_config("group"))
    frames, lengths = encoder.extract_features(waves, LENGTHS)
    assert lengths is not None
    mask = (torch.arange(16_000) < LENGTHS[:, None]).long()
    with torch.no_grad():
        padded = encoder.backbone.model(frames.squeeze(2), attention_mask=mask).last_hidden_state[3, :4]
        alone = encoder.backbone.model(frames[3:, :1_600].squeeze(2)).last_hidden_state[0]
        ours = encoder.backbone.transform(*_conv(encoder, frames, lengths))[-1][3, :4]
    assert (padded - alone).abs().max() > 0.05
    torch.testing.assert_close(ours, alone, atol=1e-4, rtol=0)


def _conv(encoder: SpeechEncoder, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    conv, counts = encoder.backbone.convolve(frames, lengths)
    return conv, (torch.arange(conv.shape[1]) < counts[:, None])[:, :, None]


def test_batch_norm_before_the_positions_hears_no_padding(small_config: Config, waves: Tensor) -> None:
    encoder = small("hubert", small_config("group", conv_pos_batch_norm=True))
    norm = encoder.backbone.model.encoder.pos_conv_embed.batch_norm
    torch.nn.init.normal_(norm.bias)
    torch.nn.init.normal_(norm.running_mean)
    with torch.no_grad():
        alone = torch.cat([encoder(wave[None, :n]) for wave, n in zip(waves, LENGTHS.tolist(), strict=True)])
        torch.testing.assert_close(encoder(waves, LENGTHS), alone, atol=1e-4, rtol=0)


def test_gain_and_offset_are_not_heard(small_config: Config, waves: Tensor) -> None:
    encoder = small("wavlm", small_config())
    with torch.no_grad():
        torch.testing.assert_close(encoder(0.3 * waves - 0.1), encoder(waves), atol=1e-4, rtol=0)
        bare = small("wavlm", small_config(), normalize=False)
        frames, _ = bare.extract_features(waves)
    assert torch.equal(frames.squeeze(2), waves)


def test_layers_and_poolings(small_config: Config, waves: Tensor) -> None:
    config = small_config("layer")
    layers = small("hubert", config).embed_layers(waves)
    stacked = torch.stack([layers[f"layer_{number}"] for number in range(4)])
    for number in range(4):
        encoder = small("hubert", config, layer=number)
        assert len(encoder.backbone.model.encoder.layers) == number  # what lies beyond is not there
        torch.testing.assert_close(encoder(waves), stacked[number], atol=1e-4, rtol=0)
    torch.testing.assert_close(small("hubert", config, layer="mean")(waves), stacked.mean(0), atol=1e-4, rtol=0)
    weighted = small("hubert", config, layer="weighted")
    torch.testing.assert_close(weighted(waves), stacked.mean(0), atol=1e-4, rtol=0)
    weighted.backbone.mixture.logits.data[2] = 50.0
    torch.testing.assert_close(weighted(waves), stacked[2], atol=1e-4, rtol=0)
    both = small("hubert", config, pooling="mean_std")
    assert both.embedding_dim == 64
    torch.testing.assert_close(both(waves)[:, :32], stacked[3], atol=1e-4, rtol=0)


def test_gradients_reach_the_layers_in_use(small_config: Config, waves: Tensor) -> None:
    encoder = build_encoder("wav2vec2", config=small_config("layer", layerdrop=0.9), layer="weighted", seed=0)
    torch.manual_seed(0)
    encoder.train()(waves, LENGTHS).square().sum().backward()  # most layers are dropped, and stand in for the next
    encoder.eval()
    encoder.zero_grad()
    encoder(waves, LENGTHS).square().sum().backward()
    idle = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    # The keys' biases add the same to all scores of a softmax: no gradient but rounding.
    assert [name for name in idle if not name.endswith("k_proj.bias")] == ["backbone.model.masked_spec_embed"]


def test_parts_have_names_for_staged_training(small_config: Config) -> None:
    plain = small("wavlm", small_config(), layer=2)
    assert plain.affine_modules == ()
    assert plain.depth_modules[-1] == ("backbone.model.encoder.layers.1",)
    learnt = small("wavlm", small_config(), layer="weighted", pooling="attention")
    assert learnt.affine_modules == ("backbone.mixture", "backbone.pooling")
    parts = {part for level in learnt.depth_modules for part in level}
    homeless = [name for name, _ in learnt.named_parameters() if not any(name.startswith(part) for part in parts)]
    assert homeless == ["backbone.model.masked_spec_embed"]


@pytest.mark.slow
def test_dino_trains_it_like_any_other(small_config: Config, voices_folder: Path, tmp_path: Path) -> None:
    from dino_speech import DINOPretrainer, MultiCrop, load_encoder

    encoder = build_encoder("wav2vec2", config=small_config(), layer="weighted", seed=0)
    crops = MultiCrop(num_long=2, long_s=0.6, num_short=1, short_s=0.3)
    options: dict[str, Any] = {"head": {"num_prototypes": 8, "hidden_dim": 8}}
    options |= {"schedule": {"length": 2, "batch_size": 4, "warmup": 1}, "run": {"num_workers": 0, "log_every": 1}}
    trainer = DINOPretrainer(encoder, crops, **options)
    trainer.fit(voices_folder / "manifest.csv", output_folder=tmp_path / "run", seed=1)
    assert [row["step"] for row in trainer.history_ if "loss" in row] == [1, 2]
    assert load_encoder(tmp_path / "run").config.name == "wav2vec2"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": 4}, "layer=4: expected 0 to 3, 'last', 'mean' or 'weighted'"),
        ({"layer": True}, "layer=True"),
        ({"pooling": "max"}, "pooling='max': expected one of mean, mean_std, attention"),
        ({"embedding_dim": 64}, "embedding_dim=64: this model pooled by 'mean' gives 32"),
        ({"num_mels": 40}, "no option 'num_mels'"),
        ({"statistics_shortcut": True}, "no option 'statistics_shortcut'"),
        ({"config": {"hiden_size": 3}}, "no option 'hiden_size'; did you mean 'hidden_size'"),
        ({"config": {"hidden_size": 30}}, "config of 'wav2vec2'"),
        ({"config": {"conv_dim": [16]}}, "config of 'wav2vec2'"),
        ({"config": {"model_type": "hubert"}}, "config is of a 'hubert' model"),
        ({"config": 3}, "config=3: expected a mapping"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str, small_config: Config) -> None:
    with pytest.raises(InputError, match=message):
        build_encoder("wav2vec2", **{"config": small_config(), **options})


def test_short_utterances_are_refused(small_config: Config, tmp_path: Path) -> None:
    encoder = small("wav2vec2", small_config())
    assert encoder.min_samples == 1_600
    assert encoder.backbone.min_frames == 400
    encoder(torch.randn(1, 400))
    with pytest.raises(InputError, match="399 samples is too short; the first frame of this model reaches over 400"):
        encoder(torch.randn(2, 800), torch.tensor([800, 399]))
    with pytest.raises(InputError, match="num_samples up to 900"):
        encoder(torch.randn(2, 800), torch.tensor([900, 500]))
    deep = small("wav2vec2", small_config(conv_kernel=[10, 3, 3, 3, 3, 2, 20], conv_stride=[5, 2, 2, 2, 2, 2, 4]))
    assert deep.min_samples == deep.backbone.min_frames == 400 + 18 * 160


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("name", "variant"), ALL)
def test_a_gpu_gives_the_same_embeddings(name: str, variant: str, small_config: Config, waves: Tensor) -> None:
    encoder = small(name, small_config(variant), layer="mean", pooling="mean_std")
    with torch.no_grad():
        expected = encoder(waves, LENGTHS)
        found = encoder.to("cuda")(waves.cuda(), LENGTHS.cuda()).cpu()
    assert encoder.device.type == "cuda"
    torch.testing.assert_close(found, expected, atol=1e-2 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("layer", ["mean", "weighted"])
@pytest.mark.parametrize(("name", "variant"), ALL)
def test_half_precision_is_near(name: str, variant: str, layer: str, small_config: Config, waves: Tensor) -> None:
    """In bfloat16 some layers come out in float32 and others not."""
    encoder = small(name, small_config(variant), layer=layer)
    with torch.no_grad():
        expected = encoder(waves, LENGTHS)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = encoder(waves, LENGTHS)
    assert found.dtype == torch.float32
    assert (found - expected).abs().mean() < 0.1 * expected.abs().mean()
