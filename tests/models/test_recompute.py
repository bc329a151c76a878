"""Activation checkpointing changes the memory only: values, gradients and BatchNorm's statistics stay."""

import copy

import pytest
import torch
from torch import Tensor, nn

from dino_speech import build_encoder
from dino_speech.features import LogMel
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.encoder_config import EncoderConfig
from dino_speech.models.recompute import recompute_activations

SMALL = {
    "ecapa_tdnn": {"channels": 16, "attention_channels": 8, "se_channels": 8, "dropout": 0.3},
    "xvector": {"channels": (16, 16, 16, 16, 24)},
    "light_resnet34": {"channels": 2},
}


class MeanOfFrames(nn.Module):
    """A network of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = nn.Sequential(nn.Linear(80, 32), nn.Tanh(), nn.Dropout(0.2), nn.Linear(32, 8))
        self.norm = nn.BatchNorm1d(8)

    def forward(self, frames: Tensor, num_frames: Tensor | None = None) -> Tensor:
        return self.norm(self.frames(frames).mean(1))


def run(encoder: SpeechEncoder, *, recompute: bool) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor], int]:
    """Embeddings of two batches of two lengths, gradients, state afterwards, bytes that autograd holds in between."""
    encoder = copy.deepcopy(encoder).train()
    recompute_activations(encoder, recompute)
    generator = torch.Generator().manual_seed(1)
    batches = [torch.randn(6, num_frames, 80, generator=generator) for num_frames in (40, 25)]
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(2)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        embedding = torch.cat([encoder.embed_frames(frames) for frames in batches])
    embedding.square().sum().backward()
    gradients = {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}
    return embedding.detach(), gradients, encoder.state_dict(), sum(held.values())


@pytest.mark.parametrize("name", SMALL)
def test_values_gradients_and_statistics_stay_and_less_is_held(name: str) -> None:
    encoder = build_encoder(name, embedding_dim=8, seed=0, embedding_batchnorm=True, **SMALL[name])
    wanted, found = run(encoder, recompute=False), run(encoder, recompute=True)
    assert torch.equal(found[0], wanted[0])
    for number in (1, 2):
        assert found[number].keys() == wanted[number].keys()
        for key, value in wanted[number].items():
            assert torch.equal(found[number][key], value), key
    counts = [value for key, value in found[2].items() if key.endswith("num_batches_tracked")]
    assert counts
    assert all(count == 2 for count in counts), "once per batch, and not again in the backward pass"
    assert found[3] < 0.5 * wanted[3]


@pytest.mark.parametrize("name", ["ecapa_tdnn", "xvector"])
def test_synchronised_batchnorm_stays_as_well(name: str) -> None:
    """Its own forward, on one process, where it takes the batch of this process for all."""
    encoder = build_encoder(name, embedding_dim=8, seed=0, embedding_batchnorm=True, **SMALL[name])
    encoder = nn.SyncBatchNorm.convert_sync_batchnorm(encoder)
    assert sum(isinstance(module, nn.SyncBatchNorm) for module in encoder.modules()) > 4
    wanted, found = run(encoder, recompute=False), run(encoder, recompute=True)
    assert torch.equal(found[0], wanted[0])
    for number in (1, 2):
        assert all(torch.equal(found[number][key], value) for key, value in wanted[number].items())


def test_a_network_without_parts_is_one_part() -> None:
    encoder = SpeechEncoder(EncoderConfig("own", 8), LogMel(), MeanOfFrames())
    wanted, found = run(encoder, recompute=False), run(encoder, recompute=True)
    assert torch.equal(found[0], wanted[0])
    assert all(torch.equal(found[1][key], value) for key, value in wanted[1].items())
    assert all(torch.equal(found[2][key], value) for key, value in wanted[2].items())


def test_settings_of_batchnorm_come_back() -> None:
    encoder = build_encoder("ecapa_tdnn", embedding_dim=8, seed=0, **SMALL["ecapa_tdnn"]).train()
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm1d)]
    before = [norm.momentum for norm in norms]
    recompute_activations(encoder)
    encoder.embed_frames(torch.randn(4, 30, 80)).sum().backward()
    assert [norm.momentum for norm in norms] == before
    assert all(norm.num_batches_tracked == 1 for norm in norms)


def test_nothing_is_recomputed_where_no_gradient_is_wanted() -> None:
    encoder = build_encoder("ecapa_tdnn", embedding_dim=8, seed=0, **SMALL["ecapa_tdnn"]).eval()
    frames = torch.randn(2, 30, 80)
    with torch.no_grad():
        wanted = encoder.embed_frames(frames)
        recompute_activations(encoder)
        assert torch.equal(encoder.embed_frames(frames), wanted)
