"""The training step against plain PyTorch written out, and against itself in parts."""

import copy

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.testing._internal.distributed.fake_pg import FakeStore

from dino_speech.audio.crops import MultiCrop
from dino_speech.dino.brain import DINOBrain, synchronized
from dino_speech.dino.head import DINOHead
from dino_speech.dino.hyperparameters import Hyperparameters
from dino_speech.dino.network import Network
from dino_speech.errors import InputError
from dino_speech.features.fbank import LogMel
from dino_speech.models.encoder import EncoderConfig, SpeechEncoder
from dino_speech.models.precision import choose_precision, cpu_has_bf16
from dino_speech.models.registry import build_encoder
from dino_speech.training.finite_guard import FiniteGuard, NonFiniteLoss
from dino_speech.training.optimizer import build_optimizer, clip_gradients, set_step_values

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CROPS = MultiCrop(num_long=2, long_s=0.3, num_short=3, short_s=0.2)


@pytest.fixture(autouse=True)
def _one_thread():
    """Such small tensors only wait for a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class MeanAndDeviation(nn.Module):
    """A network without BatchNorm, so that an utterance's embedding depends on nothing else in the batch."""

    min_frames = 2

    def __init__(self, num_mels: int, embedding_dim: int) -> None:
        super().__init__()
        self.frames = nn.Linear(num_mels, 24)
        self.embedding = nn.Linear(48, embedding_dim)

    def forward(self, frames, num_frames=None):
        hidden = torch.tanh(self.frames(frames))
        return self.embedding(torch.cat([hidden.mean(1), hidden.std(1)], dim=1))


def make_encoder(seed: int = 0) -> SpeechEncoder:
    torch.manual_seed(seed)
    return SpeechEncoder(EncoderConfig("mean", 12), LogMel(num_mels=20), MeanAndDeviation(20, 12))


def make_brain(*, crops=CROPS, device="cpu", **changes) -> DINOBrain:
    settings = {"head": {"num_prototypes": 16, "hidden_dim": 24, "bottleneck_dim": 8, "batch_norm": False}}
    settings |= {"objective": {"centering": "mean", "koleo_weight": 0.0}, "teacher": {"momentum": 0.9}}
    settings["schedule"] = {"length": 10, "batch_size": 8, "warmup": 0, "freeze_last_layer": 0}
    for name, value in changes.items():
        settings[name] = {**settings.get(name, {}), **value} if isinstance(value, dict) else value
    hyper = Hyperparameters(settings.pop("encoder", None) or make_encoder(), crops, **settings)
    torch.manual_seed(1)
    network = Network(copy.deepcopy(hyper.encoder), DINOHead(12, **vars(hyper.head)))
    return DINOBrain(hyper, network, hyper.steps(800), seed=7, device=device)


def make_batch(num_utterances: int = 8, *, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hz = 100 + 300 * torch.rand(num_utterances, 1, 1, generator=generator)

    def views(num: int, samples: int) -> torch.Tensor:
        time = torch.arange(samples) / 16_000 + torch.rand(num_utterances, num, 1, generator=generator)
        noise = torch.randn(num_utterances, num, samples, generator=generator)
        return torch.sin(2 * torch.pi * hz * time) + 0.05 * noise

    return {
        "long": views(CROPS.num_long, CROPS.long_samples),
        "short": views(CROPS.num_short, CROPS.short_samples),
        "index": torch.arange(num_utterances),
    }


def take_steps(brain: DINOBrain, batches: list[dict[str, torch.Tensor]]) -> list[float]:
    """What Brain.fit does with a loader, without the loader."""
    brain.modules.train()
    losses = []
    for brain.step, batch in enumerate(batches, start=1):
        losses.append(float(brain.fit_batch(batch)))
    return losses


def test_two_steps_equal_dino_written_out_with_loops():
    brain = make_brain(optimizer={"lr": 0.05, "name": "sgd", "momentum": 0.0, "clip_norm": 0.3, "weight_decay": 0.01})
    student, teacher = copy.deepcopy(brain.network), copy.deepcopy(brain.network)
    center, losses = torch.zeros(16), []
    batches = [make_batch(seed=0), make_batch(seed=1)]
    wanted_losses = []
    for step, batch in enumerate(batches):
        views = [*batch["long"].unbind(1), *batch["short"].unbind(1)]
        of_student = [student.head(student.encoder(view)) for view in views]
        with torch.no_grad():
            of_teacher = [teacher.head(teacher.encoder(view)) for view in views[:2]]
        terms = []
        for i, t in enumerate(of_teacher):
            target = F.softmax((t - center) / 0.04, dim=1)
            terms += [-(target * F.log_softmax(s / 0.1, 1)).sum(1).mean() for j, s in enumerate(of_student) if j != i]
        loss = sum(terms) / len(terms)
        wanted_losses.append(loss.item())
        student.zero_grad()
        loss.backward()
        values = brain.hyper.at(step, brain.steps)
        trained = [p for p in student.parameters() if p.requires_grad]
        nn.utils.clip_grad_norm_(trained, 0.3)
        with torch.no_grad():
            for p in trained:
                p -= values.lr * (p.grad + (0.01 * p if p.ndim > 1 else 0.0))
            for p, q in zip(teacher.parameters(), student.parameters(), strict=True):
                p.copy_(values.teacher_momentum * p + (1 - values.teacher_momentum) * q)
            center = 0.9 * center + 0.1 * torch.cat(of_teacher).mean(0)
    losses = take_steps(brain, batches)
    assert losses == pytest.approx(wanted_losses, abs=1e-5)
    torch.testing.assert_close(brain.center.value, center, atol=1e-6, rtol=0)
    for own, wanted in ((brain.network, student), (brain.teacher.module, teacher)):
        for (name, p), q in zip(own.named_parameters(), wanted.parameters(), strict=True):
            torch.testing.assert_close(p, q, atol=2e-6, rtol=0, msg=name)


@pytest.mark.slow
def test_activation_checkpointing_gives_the_same_steps():
    options = {"channels": 16, "attention_channels": 8, "se_channels": 8, "dropout": 0.2}
    ends = []
    for activation_checkpointing in (False, True):
        encoder = build_encoder("ecapa_tdnn", embedding_dim=12, seed=0, **options)
        changes = {
            "objective": {"koleo_weight": 0.1},
            "head": {"batch_norm": True},
            "schedule": {"accumulation_steps": 2},
            "encoder": encoder,
        }
        brain = make_brain(run={"activation_checkpointing": activation_checkpointing}, **changes)
        losses = take_steps(brain, [make_batch(4, seed=seed) for seed in range(4)])
        ends.append((losses, brain.network.state_dict() | brain.teacher.state_dict()))
    assert ends[0][0] == ends[1][0]
    assert all(torch.equal(ends[1][1][name], value) for name, value in ends[0][1].items())
    assert any(name.endswith("running_mean") for name in ends[0][1])
    with pytest.raises(InputError, match="compile and activation_checkpointing"):
        make_brain(run={"compile": True, "activation_checkpointing": True})


def test_batchnorm_is_synchronised_over_several_processes_with_gpus_only():
    network = make_brain(head={"batch_norm": True}).network

    def num_synchronised(device: str) -> int:
        found = synchronized(copy.deepcopy(network), device)
        assert found.state_dict().keys() == network.state_dict().keys()  # a state serves with any number of processes
        return sum(isinstance(module, nn.SyncBatchNorm) for module in found.modules())

    assert num_synchronised("cuda:0") == 0
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        assert (num_synchronised("cuda:0"), num_synchronised("cpu")) == (2, 0)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("accumulation_steps", [2, 4])
def test_micro_batches_equal_one_batch(accumulation_steps):
    whole, parts = make_brain(), make_brain(schedule={"accumulation_steps": accumulation_steps})
    batches = [make_batch(seed=seed) for seed in range(3)]
    take_steps(whole, batches)
    take_steps(
        parts, [{k: v[m::accumulation_steps] for k, v in b.items()} for b in batches for m in range(accumulation_steps)]
    )
    assert parts.optimizer_step == whole.optimizer_step == 3
    torch.testing.assert_close(parts.center.value, whole.center.value, atol=1e-6, rtol=0)
    mean_loss = [brain.loss_sums[0] / brain.num_micro_batches for brain in (whole, parts)]
    torch.testing.assert_close(*mean_loss, atol=1e-5, rtol=0)
    for (name, p), q in zip(parts.network.named_parameters(), whole.network.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=2e-5, rtol=0, msg=name)
    for p, q in zip(parts.teacher.parameters(), whole.teacher.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=2e-6, rtol=0)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NEEDS_GPU])])
def test_a_loss_that_is_not_finite_stops_before_the_optimizer(device):
    brain = make_brain(device=device)
    take_steps(brain, [make_batch()])
    before = copy.deepcopy(brain.state_dicts())
    bad = make_batch(seed=1)
    bad["short"][3, 1, 50] = float("nan")
    with pytest.raises(NonFiniteLoss, match=r"step 2.*lower lr"):
        take_steps(brain, [bad])
    after = brain.state_dicts()
    for name in ("student", "teacher", "center"):
        assert all(torch.equal(v, after[name][k]) for k, v in before[name].items()), name
    assert brain.optimizer_step == 1


def test_guard_remembers_any_bad_micro_batch_and_forgets_after_asking():
    guard = FiniteGuard(torch.device("cpu"))
    for loss in (1.0, float("inf"), 2.0):
        guard.watch(torch.tensor(loss))
    assert not guard.all_finite()
    guard.watch(torch.tensor(3.0))
    assert guard.all_finite()


def test_all_groups_are_clipped_by_one_norm():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    optimizer = build_optimizer("adamw", module, lr=0.1, weight_decay=0.3)
    decayed, plain = optimizer.param_groups
    assert [p.ndim for p in decayed["params"]] == [2, 2]
    assert [p.ndim for p in plain["params"]] == [1, 1, 1, 1]
    (100 * module(torch.randn(16, 4)).square().sum()).backward()
    norm = torch.cat([p.grad.flatten() for p in module.parameters()]).norm()
    assert clip_gradients(optimizer, 0.5).item() == pytest.approx(norm.item(), rel=1e-5)
    clipped = torch.cat([p.grad.flatten() for p in module.parameters()]).norm()
    assert clipped.item() == pytest.approx(0.5, rel=1e-4)
    set_step_values(optimizer, lr=0.2, weight_decay=0.1)
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [(0.2, 0.1), (0.2, 0.0)]
    with pytest.raises(InputError, match="adamw"):
        build_optimizer("lion", module, lr=0.1, weight_decay=0.0)


def test_last_layer_stands_still_at_first():
    brain = make_brain(schedule={"freeze_last_layer": 2})
    weights = [brain.network.head.last_layer.weight.detach().clone()]
    mlp = brain.network.head.mlp[0].weight.detach().clone()
    for seed in range(3):
        take_steps(brain, [make_batch(seed=seed)])
        weights.append(brain.network.head.last_layer.weight.detach().clone())
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[2], weights[3])
    assert not torch.equal(brain.network.head.mlp[0].weight, mlp)


def test_augmentation_is_drawn_from_seed_step_and_micro_batch_for_whole_utterances():
    calls = []

    def augment(waves, *, generator, groups):
        calls.append((waves.shape, groups.tolist(), torch.rand((), generator=generator).item()))
        return waves

    brain = make_brain(augment=augment, teacher_augment=augment, schedule={"accumulation_steps": 2})
    batch = make_batch(4)
    take_steps(brain, [batch, batch, batch, batch])
    shapes = [tuple(shape) for shape, _, _ in calls[:3]]
    assert shapes == [(2 * 4, 4_800), (3 * 4, 3_200), (2 * 4, 4_800)]  # student long, student short, teacher long
    assert calls[0][1] == [0, 1, 2, 3, 0, 1, 2, 3], "the views of an utterance share its number"
    draws = [draw for _, _, draw in calls]
    assert len(set(draws)) == len(draws) == 12
    again = make_brain(augment=augment, teacher_augment=augment, schedule={"accumulation_steps": 2})
    again.optimizer_step, again.step = 1, 3
    again.make_views(batch)
    assert [draw for _, _, draw in calls[12:]] == draws[6:9]


def test_teacher_hears_its_own_augmentation_and_no_masks():
    def louder_noise(waves, *, generator, groups):
        return waves + 0.5 * torch.randn(waves.shape, generator=generator)

    def mask(frames, *, generator):
        return torch.zeros_like(frames)

    batch = make_batch()
    plain = make_brain()
    student, teacher = plain.make_views(batch)
    assert len(student) == 2
    assert torch.equal(student[0], teacher), "without options both hear the same"
    view = plain.network.encoder.extract_features(batch["long"][:, 1])[0]
    assert torch.equal(teacher[8:], view), "first all first views, then all second ones"
    masked, teacher_frames = make_brain(spec_augment=mask).make_views(batch)
    assert float(masked[0].abs().max()) == float(masked[1].abs().max()) == 0.0
    assert torch.equal(teacher_frames, teacher)
    noisy, clean = make_brain(augment=louder_noise, teacher_augment=lambda w, **_: w).make_views(batch)
    assert torch.equal(clean, teacher)
    assert not torch.equal(noisy[0], teacher)


@pytest.mark.parametrize("centering", ["mean", "sinkhorn"])
def test_options_learn_and_no_short_crops_are_needed(centering):
    crops = MultiCrop(num_long=2, long_s=0.3, num_short=0, short_s=0.2)
    brain = make_brain(
        objective={"centering": centering, "koleo_weight": 0.1},
        head={"batch_norm": True},
        optimizer={"lr": 0.02},
        schedule={"length": 30},
        crops=crops,
    )
    batch = make_batch(16)
    batch["short"] = batch["short"][:, :0]
    losses = take_steps(brain, [batch] * 30)
    assert sum(losses[-5:]) < sum(losses[:5])
    assert brain.loss_parts[1] != 0


def test_bf16_step_is_close_to_fp32():
    plain, half = make_brain(), make_brain()
    half.training_ctx = torch.autocast("cpu", torch.bfloat16)
    losses = [take_steps(brain, [make_batch(seed=0)])[0] for brain in (plain, half)]
    assert losses[0] == pytest.approx(losses[1], abs=0.05)
    assert losses[0] != losses[1]
    assert all(p.dtype == torch.float32 for p in half.network.parameters())


def test_precision_follows_the_device():
    cpu = torch.device("cpu")
    assert choose_precision("auto", cpu) == ("bf16" if cpu_has_bf16() else "fp32")
    with pytest.raises(InputError, match="needs a GPU"):
        choose_precision("fp16", cpu)
    with pytest.raises(InputError, match="bf16, fp16, fp32"):
        choose_precision("int8", cpu)


def test_schedules_of_the_step():
    hyper = make_brain(
        optimizer={"lr": 1.0, "weight_decay": 0.1},
        schedule={"length": 100, "lr_end": 0.1, "warmup": "4 %", "weight_decay_end": 0.5, "freeze_last_layer": None},
        teacher={"momentum_end": 1.0},
        objective={"teacher_temperature_start": 0.02, "teacher_temperature_warmup": 10, "teacher_temperature": 0.06},
    ).hyper
    steps = hyper.steps(num_utterances=10_000)
    assert [round(hyper.at(s, steps).lr, 4) for s in (0, 2, 4, 52, 100)] == [0.25, 0.625, 1.0, 0.55, 0.1]
    assert hyper.at(50, steps).weight_decay == pytest.approx(0.3)
    assert hyper.at(100, steps).teacher_momentum == 1.0
    assert hyper.at(5, steps).teacher_temperature == pytest.approx(0.04)
    assert steps.freeze_last_layer == 5
    assert hyper.steps(num_utterances=3 * 8).freeze_last_layer == 3


def test_values_out_of_range_are_refused_by_name():
    for group, name, value, expected in [
        ("head", "num_prototypes", 0, "whole number, at least 1"),
        ("optimizer", "lr", -1.0, "positive"),
        ("objective", "center_momentum", 1.5, "0 to 1"),
        ("objective", "centering", "median", "mean, sinkhorn"),
        ("schedule", "warmup", 2.5, "steps .*a share of the run"),
        ("schedule", "batch_size", "64", "whole number"),
    ]:
        with pytest.raises(InputError, match=f"{group}: {name} = .*{expected}"):
            Hyperparameters(make_encoder(), CROPS, **{group: {name: value}})
