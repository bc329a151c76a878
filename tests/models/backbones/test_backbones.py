"""Every network: the embedding is the utterance's own, whatever it is batched with; training works in bfloat16."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dino_speech.errors import InputError
from dino_speech.models.backbones.pooling import FrameStatistics
from dino_speech.models.backbones.resnet import BasicBlock, ResNet34
from dino_speech.models.backbones.time_delay import ECAPA, XVector

BANDS, DIM = 20, 12
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "ecapa": lambda: ECAPA(BANDS, DIM, channels=16, attention_channels=8, se_channels=8),
    "ecapa grouped": lambda: ECAPA(BANDS, DIM, channels=16, groups=(1, 2, 2, 2, 2), kernel_sizes=(5, 3, 3, 3, 3)),
    "ecapa of three layers": lambda: ECAPA(
        BANDS, DIM, channels=[24, 16, 32], kernel_sizes=(3, 5, 1), dilations=(1, 2, 1), groups=(1, 1, 1)
    ),
    "xvector": lambda: XVector(BANDS, DIM, channels=(16, 16, 16, 16, 24)),
    "xvector attention": lambda: XVector(BANDS, DIM, channels=(16, 16, 16, 16, 24), pooling="attention"),
    "resnet34": lambda: ResNet34(BANDS, DIM, channels=4),
    "resnet34 attention": lambda: ResNet34(BANDS, DIM, channels=4, pooling="attention"),
    "frame statistics": lambda: FrameStatistics(BANDS, 2 * BANDS),
}
TRAINABLE = [name for name in NETWORKS if name != "frame statistics"]
LENGTHS = [40, 39, 38, 21, 9, 5]


def build(name: str) -> nn.Module:
    """The network with BatchNorm statistics as after training: with the initial ones padding would often stay zero."""
    torch.manual_seed(0)
    network = NETWORKS[name]()
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(module.running_mean, std=0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.5)
    return network.eval()


@pytest.fixture
def frames() -> Tensor:
    return torch.randn(len(LENGTHS), 40, BANDS, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", NETWORKS)
def test_an_embedding_does_not_depend_on_its_batch(name: str, frames: Tensor) -> None:
    network = build(name)
    alone = torch.cat([network(row[None, :length]) for row, length in zip(frames, LENGTHS, strict=True)])
    padded = frames.clone()
    for row, length in zip(padded, LENGTHS, strict=True):
        row[length:] = 5.0  # padding must not matter, even where it is not zero
    scale = alone.abs().max()
    with torch.no_grad():
        together = network(padded, torch.tensor(LENGTHS))
        longer = network(torch.cat([padded, padded[:, :13]], dim=1), torch.tensor(LENGTHS))
    assert (together - alone).abs().max() < 1e-5 * scale
    assert (longer - alone).abs().max() < 1e-5 * scale


@pytest.mark.parametrize("name", TRAINABLE)
def test_a_training_step_in_bfloat16(name: str, frames: Tensor) -> None:
    network = build(name).train()
    with torch.autocast("cpu", torch.bfloat16):
        embedding = network(frames)
    embedding.float().square().mean().backward()
    assert embedding.shape == (len(LENGTHS), DIM)
    unused = [n for n, p in network.named_parameters() if p.grad is None]
    assert not unused
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
    exact = build(name).train()(frames)
    assert (embedding.float() - exact).norm() < 0.15 * exact.norm()


@pytest.mark.parametrize("name", ["ecapa", "ecapa grouped", "ecapa of three layers"])
def test_ecapa_equals_speechbrain_on_single_files(name: str, frames: Tensor) -> None:
    network = build(name)
    for row, length in zip(frames, LENGTHS, strict=True):
        single = row[None, :length]
        torch.testing.assert_close(network(single), network.model(single).squeeze(1), rtol=0, atol=1e-5)


def test_ecapa_equals_speechbrain_in_training(frames: Tensor) -> None:
    ours = build("ecapa").train().double()  # in float32 rounding grows to 0.3 % of the first layer's gradient
    theirs, frames = copy.deepcopy(ours.model), frames.double()
    ours(frames).square().sum().backward()
    theirs(frames).squeeze(1).square().sum().backward()
    reference = dict(theirs.named_parameters())
    for name, parameter in ours.model.named_parameters():
        torch.testing.assert_close(parameter.grad, reference[name].grad, rtol=1e-4, atol=1e-4, msg=name)
    for (name, ours_buffer), theirs_buffer in zip(ours.model.named_buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(ours_buffer, theirs_buffer, msg=name)


def test_ecapa_default_is_speechbrains_architecture() -> None:
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

    reference = ECAPA_TDNN(80, lin_neurons=192)
    ours = ECAPA(80, 192)
    ours.model.load_state_dict(reference.state_dict())  # strict: the same names and shapes
    assert sum(p.numel() for p in ours.parameters()) == 6_194_048


def test_xvector_equals_speechbrain_but_for_its_noise(frames: Tensor) -> None:
    network = build("xvector")
    for row, length in zip(frames, LENGTHS, strict=True):
        single = row[None, :length]
        theirs = network.model(single).squeeze(1)
        assert (network(single) - theirs).abs().max() < 2e-3  # its pooling adds noise of up to 9e-5 per mean
        assert torch.equal(network(single), network(single))


def test_dropout_drops_whole_channels() -> None:
    torch.manual_seed(0)
    network = ECAPA(BANDS, DIM, channels=16, dropout=0.5)
    frames = torch.randn(4, 30, BANDS)
    assert not torch.equal(network(frames), network(frames))
    network.eval()
    assert torch.equal(network(frames), network(frames))


def test_resnet_block_equals_plain_convolutions() -> None:
    torch.manual_seed(0)
    block = BasicBlock(4, 8, 2).eval()
    x = torch.randn(2, 4, 11, 10)
    expected = torch.relu(
        block.norm2(block.conv2(torch.relu(block.norm1(block.conv1(x))))) + block.shortcut(x),
    )
    output, num_frames = block(x, torch.tensor([11, 11]))
    torch.testing.assert_close(output, expected)
    assert num_frames.tolist() == [6, 6]
    assert output.shape[2] == 6


@pytest.mark.parametrize(("channels", "millions"), [(32, 6.31), (16, 1.82)])
def test_resnet_sizes(channels: int, millions: float) -> None:
    num_parameters = sum(p.numel() for p in ResNet34(80, 192, channels=channels).parameters())
    assert num_parameters == pytest.approx(millions * 1e6, rel=0.01)


def test_frame_statistics_by_hand(frames: Tensor) -> None:
    mean, deviation = frames.mean(1), frames.std(1)
    expected = torch.cat([mean - mean.mean(1, keepdim=True), deviation], dim=1)
    torch.testing.assert_close(FrameStatistics(BANDS, 2 * BANDS)(frames), expected)
    louder = FrameStatistics(BANDS, 2 * BANDS)(frames + 3.0)  # a gain is a constant in the logarithm
    torch.testing.assert_close(louder, expected, rtol=0, atol=1e-5)
    with pytest.raises(InputError, match="20 bands are 40"):
        FrameStatistics(BANDS, 12)


@pytest.mark.parametrize("name", ["ecapa", "xvector"])
def test_shorter_than_the_mirror_is_refused(name: str) -> None:
    network = build(name)
    assert network(torch.randn(1, network.min_frames, BANDS)).isfinite().all()
    with pytest.raises(InputError, match=f"needs at least {network.min_frames}"):
        network(torch.randn(1, network.min_frames - 1, BANDS))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ECAPA(BANDS, DIM, channels=12), "multiple of res2net_scale=8"),
        (lambda: ECAPA(BANDS, DIM, channels=[16, 16, 24, 16, 48]), "of one width"),
        (lambda: ECAPA(BANDS, DIM, channels=[16, 16, 16]), "lists of one length"),
        (lambda: ECAPA(BANDS, DIM, channels=16, kernel_sizes=(5, 3, 4, 3, 1)), "odd"),
        (lambda: XVector(BANDS, DIM, channels=(16, 16)), "lists of one length"),
        (lambda: XVector(BANDS, DIM, kernel_sizes=(5, 3, 2, 1, 1)), "odd"),
        (lambda: ResNet34(BANDS, DIM, channels=0), "positive"),
        (lambda: ResNet34(BANDS, DIM, pooling="max"), "'statistics' or 'attention'"),
    ],
)
def test_impossible_options_are_refused(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
