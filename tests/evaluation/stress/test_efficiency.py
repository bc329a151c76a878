"""Efficiency: multiply-adds by hand, memory by hand, time that means what it says."""

import json

import pytest
import torch
from torch import Tensor, nn

from dino_speech.errors import InputError
from dino_speech.evaluation.stress.efficiency import _count_macs, _peak_memory, measure_efficiency
from dino_speech.models.registry import build_encoder
from dino_speech.transfer.heads import LinearHead
from dino_speech.transfer.system import FineTunedSystem
from dino_speech.transfer.targets import Classes

SMALL = {"embedding_dim": 16, "channels": 16, "attention_channels": 8, "se_channels": 8, "seed": 0}


class Attention(nn.Module):
    def forward(self, heads: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(heads, heads, heads)


def test_multiply_adds_by_hand() -> None:
    assert _count_macs(nn.Linear(30, 50), torch.randn(7, 30)) == 7 * 30 * 50
    convolution = nn.Conv1d(8, 16, 5, stride=2, groups=4)
    assert _count_macs(convolution, torch.randn(3, 8, 101)) == 3 * 16 * (8 / 4) * 5 * 49
    assert _count_macs(Attention(), torch.randn(2, 4, 10, 8)) == 2 * (2 * 4) * 10 * 10 * 8
    normed = nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 4, 3, padding=1), dim=2)
    assert _count_macs(normed, torch.randn(1, 4, 10)) == 4 * 4 * 3 * 10


@torch.inference_mode()
def test_peak_memory_by_hand() -> None:
    waves = torch.randn(1000, 1000)
    chain = nn.Sequential(nn.ReLU(), nn.ReLU(), nn.ReLU())  # two of 4 MB at a time
    assert _peak_memory(chain, waves) == pytest.approx(8e6, rel=0.01)
    assert _peak_memory(nn.Identity(), waves) < 1e5


def test_report_of_an_encoder() -> None:
    encoder = build_encoder("ecapa_tdnn", **SMALL).train()
    before = torch.get_num_threads()
    report = measure_efficiency(encoder, seconds=2.0, num_rounds=3, num_threads=1)
    assert report.num_parameters == sum(parameter.numel() for parameter in encoder.parameters())
    assert report.size_mb == pytest.approx(4e-6 * report.num_parameters, rel=0.2)  # and BatchNorm's statistics
    low, high = report.real_time_factor_range
    assert 0 < low <= report.real_time_factor <= high
    assert (report.num_threads, report.num_rounds, report.device) == (1, 3, "cpu")
    assert encoder.training
    assert torch.get_num_threads() == before
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert next(iter(plain)) == "num_parameters"
    assert report.row()["dimensions"] == 16


@pytest.mark.slow
def test_multiply_adds_and_memory_grow_as_the_speech_does() -> None:
    encoder = build_encoder("ecapa_tdnn", **SMALL)
    one, two = (measure_efficiency(encoder, seconds=s, num_rounds=1) for s in (3.0, 6.0))
    assert two.macs_per_s == pytest.approx(one.macs_per_s, rel=0.02)
    assert two.peak_memory_mb == pytest.approx(2 * one.peak_memory_mb, rel=0.1)
    pair = measure_efficiency(encoder, seconds=3.0, batch_size=2, num_rounds=1)
    assert pair.macs_per_s == pytest.approx(one.macs_per_s)
    wide = measure_efficiency(build_encoder("ecapa_tdnn", **{**SMALL, "channels": 64}), seconds=3.0, num_rounds=1)
    assert wide.macs_per_s > 2 * one.macs_per_s
    assert measure_efficiency(build_encoder("fbank_stats"), seconds=1.0, num_rounds=1).num_parameters == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wav2vec2", "hubert", "wavlm"])
def test_attention_grows_faster_than_the_speech(name: str) -> None:
    pytest.importorskip("transformers", reason="needs the extra dino-speech[ssl]")
    config = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
    config |= {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    encoder = build_encoder(name, config=config, seed=0)
    short, long = (measure_efficiency(encoder, seconds=s, num_rounds=1) for s in (1.0, 4.0))
    # Two products of all frames with all frames, in each layer: 49 frames at 1 s, 199 at 4 s.
    expected = 3 * 2 * 32 * (199**2 / 4 - 49**2)
    assert long.macs_per_s - short.macs_per_s == pytest.approx(expected, rel=0.35)


@pytest.mark.slow
def test_a_system_counts_its_head() -> None:
    encoder = build_encoder("ecapa_tdnn", **SMALL)
    system = FineTunedSystem(encoder, LinearHead(16, 5), Classes("emotion", tuple("abcde")), "cross_entropy")
    alone, whole = (measure_efficiency(model, seconds=1.0, num_rounds=1) for model in (encoder, system))
    assert whole.num_parameters - alone.num_parameters == 16 * 5 + 5
    assert whole.macs_per_s - alone.macs_per_s == pytest.approx(16 * 5)


def test_mistakes_are_named() -> None:
    encoder = build_encoder("fbank_stats")
    for wrong in ({"seconds": 0.01}, {"batch_size": 0}, {"num_rounds": 0}):
        with pytest.raises(InputError, match=r"expected at least 0\.1 s, 1 and 1"):
            measure_efficiency(encoder, **wrong)
