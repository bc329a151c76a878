"""What each layer says: named, as wide as it is, independent of the batch, and nothing changed by asking."""

import pytest
import torch

from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.registry import build_encoder

LAYERS = {
    "ecapa_tdnn": {"tdnn": 16, "block_1": 16, "block_2": 16, "block_3": 16, "mfa": 48, "pooled": 96, "embedding": 12},
    "xvector": {"tdnn_1": 8, "tdnn_2": 8, "tdnn_3": 8, "tdnn_4": 8, "tdnn_5": 8, "pooled": 16, "embedding": 12},
    "resnet34": {
        "stem": 4 * 40,
        **{f"block_{number}": 4 * 40 for number in range(1, 17)},  # half the bands, twice the channels in each stage
        "pooled": 8 * 4 * 10,
        "embedding": 12,
    },
}
CHANNELS = {"ecapa_tdnn": 16, "xvector": [8] * 5, "resnet34": 4}


def small(name: str) -> SpeechEncoder:
    encoder = build_encoder(name, embedding_dim=12, channels=CHANNELS[name], num_mels=40, seed=0)
    for module in encoder.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # statistics of all that was heard: a layer says little by the initial ones
    encoder(torch.randn(8, 12_000))
    return encoder.eval()


@pytest.mark.parametrize("name", LAYERS)
def test_layers_do_not_depend_on_the_batch(name: str) -> None:
    encoder = small(name)
    lengths = torch.tensor([12_000, 8_000, 5_555])
    waves = torch.randn(3, 12_000, generator=torch.Generator().manual_seed(1))
    waves[0], waves[2] = waves[0].cumsum(0), waves[2] * torch.sin(torch.arange(12_000) / 3)  # three sorts of noise
    with torch.no_grad():
        together = encoder.embed_layers(waves, lengths)
        alone = [encoder.embed_layers(wave[None, :n]) for wave, n in zip(waves, lengths.tolist(), strict=True)]
        assert torch.equal(together["embedding"], encoder(waves, lengths))
    assert {layer: rows.shape[1] for layer, rows in together.items()} == LAYERS[name]
    for layer, rows in together.items():
        assert rows.dtype == torch.float32
        torch.testing.assert_close(rows, torch.cat([one[layer] for one in alone]), atol=1e-4, rtol=0)
        assert rows.std(0).max() > 1e-3, layer  # there is something to get wrong


def test_first_layer_is_the_mean_over_true_frames() -> None:
    encoder = small("resnet34")
    waves, lengths = torch.randn(2, 12_000), torch.tensor([12_000, 6_000])
    with torch.no_grad():
        frames, counts = encoder.extract_features(waves, lengths)
        assert counts is not None
        network = encoder.backbone
        stem = torch.relu(network.stem_norm(network.stem(frames[1:, None, : int(counts[1])])))
        expected = stem.mean(2).transpose(1, 2).flatten(1)  # (1, C, F) -> (1, F * C)
        torch.testing.assert_close(encoder.embed_layers(waves, lengths)["stem"][1:], expected, atol=1e-5, rtol=0)


def test_an_encoder_without_layers_has_its_embedding() -> None:
    encoder = build_encoder("fbank_stats").eval()
    wave = torch.randn(1, 8_000)
    assert list(encoder.embed_layers(wave)) == ["embedding"]
    assert torch.equal(encoder.embed_layers(wave)["embedding"], encoder(wave))
