"""The training step against plain PyTorch written out, and against itself in parts."""

import copy
import math
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.testing._internal.distributed.fake_pg import FakeStore

from dino_speech.audio.crops import MultiCrop
from dino_speech.data.utterances import Manifest
from dino_speech.dino.centering import sinkhorn_targets
from dino_speech.dino.head import DINOHead, Network
from dino_speech.dino.hyperparameters import Hyperparameters
from dino_speech.dino.regularizers import coding_rate, koleo
from dino_speech.dino.self_distillation import SelfDistillation, synchronized
from dino_speech.errors import InputError
from dino_speech.features import LogMel
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.encoder_config import EncoderConfig
from dino_speech.models.precision import choose_precision, cpu_has_bf16
from dino_speech.models.registry import build_encoder
from dino_speech.training.loop import Loop, NonFiniteLoss
from dino_speech.training.operating_system import StopSignals
from dino_speech.training.optimizer import build_optimizer, clip_gradients, set_step_values
from dino_speech.training.processes import Processes
from dino_speech.training.settings import RunSettings

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


def make_training(*, crops=CROPS, device="cpu", **changes) -> SelfDistillation:
    settings = {"head": {"num_prototypes": 16, "hidden_dim": 24, "bottleneck_dim": 8, "batch_norm": False}}
    settings |= {"objective": {"centering": "mean", "koleo_weight": 0.0}, "teacher": {"momentum": 0.9}}
    settings["schedule"] = {"length": 10, "batch_size": 8, "warmup": 0, "freeze_last_layer": 0}
    for name, value in changes.items():
        settings[name] = {**settings.get(name, {}), **value} if isinstance(value, dict) else value
    hyper = Hyperparameters(settings.pop("encoder", None) or make_encoder(), crops, **settings)
    torch.manual_seed(1)
    network = Network(copy.deepcopy(hyper.encoder), DINOHead(12, **vars(hyper.head)))
    sampler, dataset = SimpleNamespace(seed=7, start_step=0), SimpleNamespace(manifest=Manifest([]), mates=None)
    return SelfDistillation(hyper, network, hyper.steps(800), sampler, dataset, device=torch.device(device))


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


def make_loop(training: SelfDistillation, precision: str = "fp32") -> Loop:
    folder = Path(tempfile.mkdtemp())
    loop = Loop(training, RunSettings(precision=precision), Processes(), StopSignals(), folder, {}, None)
    loop.scaler = torch.amp.GradScaler(training.device.type, enabled=False)
    training.loop = loop
    return loop


def take_steps(training: SelfDistillation, batches: list[dict[str, torch.Tensor]], **options) -> list[float]:
    """What the loop does with a loader, without the loader; the losses that were minimised."""
    loop = getattr(training, "loop", None) or make_loop(training, **options)
    training.network.train()
    left, losses = iter(batches), []
    for _ in range(len(batches) // training.accumulation_steps):
        loop._take_step(training.optimizer, left)
        losses.append(float(loop.log.means()["loss"]))
    return losses


def test_two_steps_equal_dino_written_out_with_loops():
    training = make_training(
        optimizer={"lr": 0.05, "name": "sgd", "momentum": 0.0, "clip_norm": 0.3, "weight_decay": 0.01}
    )
    student, teacher = copy.deepcopy(training.network), copy.deepcopy(training.network)
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
        values = training.hyper.at(step, training.steps)
        trained = [p for p in student.parameters() if p.requires_grad]
        nn.utils.clip_grad_norm_(trained, 0.3)
        with torch.no_grad():
            for p in trained:
                p -= values.lr * (p.grad + (0.01 * p if p.ndim > 1 else 0.0))
            for p, q in zip(teacher.parameters(), student.parameters(), strict=True):
                p.copy_(values.teacher_momentum * p + (1 - values.teacher_momentum) * q)
            center = 0.9 * center + 0.1 * torch.cat(of_teacher).mean(0)
    losses = take_steps(training, batches)
    assert losses == pytest.approx(wanted_losses, abs=1e-5)
    torch.testing.assert_close(training.center.value, center, atol=1e-6, rtol=0)
    for own, wanted in ((training.network, student), (training.teacher.module, teacher)):
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
        training = make_training(run={"activation_checkpointing": activation_checkpointing}, **changes)
        losses = take_steps(training, [make_batch(4, seed=seed) for seed in range(4)])
        ends.append((losses, training.network.state_dict() | training.teacher.state_dict()))
    assert ends[0][0] == ends[1][0]
    assert all(torch.equal(ends[1][1][name], value) for name, value in ends[0][1].items())
    assert any(name.endswith("running_mean") for name in ends[0][1])
    with pytest.raises(InputError, match="compile and activation_checkpointing"):
        make_training(run={"compile": True, "activation_checkpointing": True})


def test_batchnorm_is_synchronised_over_several_processes_with_gpus_only():
    network = make_training(head={"batch_norm": True}).network

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
    whole, parts = make_training(), make_training(schedule={"accumulation_steps": accumulation_steps})
    batches = [make_batch(seed=seed) for seed in range(3)]
    mean_loss = [take_steps(whole, batches)]
    mean_loss.append(
        take_steps(
            parts,
            [{k: v[m::accumulation_steps] for k, v in b.items()} for b in batches for m in range(accumulation_steps)],
        )
    )
    torch.testing.assert_close(parts.center.value, whole.center.value, atol=1e-6, rtol=0)
    assert whole.loop.step == parts.loop.step == 3
    assert mean_loss[0] == pytest.approx(mean_loss[1], abs=1e-5)
    for (name, p), q in zip(parts.network.named_parameters(), whole.network.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=2e-5, rtol=0, msg=name)
    for p, q in zip(parts.teacher.parameters(), whole.teacher.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=2e-6, rtol=0)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NEEDS_GPU])])
def test_a_loss_that_is_not_finite_stops_before_the_optimizer(device):
    training = make_training(device=device)
    take_steps(training, [make_batch()])
    before = copy.deepcopy(training.state_dicts())
    bad = make_batch(seed=1)
    bad["short"][3, 1, 50] = float("nan")
    with pytest.raises(NonFiniteLoss, match=r"step 2.*lower lr"):
        take_steps(training, [bad])
    after = training.state_dicts()
    for name in ("student", "teacher", "center"):
        assert all(torch.equal(v, after[name][k]) for k, v in before[name].items()), name
    assert training.loop.step == 1


def test_a_gradient_that_is_not_finite_stops_before_the_optimizer():
    training = make_training()
    take_steps(training, [make_batch()])
    before = copy.deepcopy(training.state_dicts())
    # The loss is finite, its gradient is not: the root of zero.
    losses = training.losses

    def with_a_root(heard, step):
        figures = losses(heard, step)
        return {**figures, "loss": figures["loss"] + (0.0 * figures["loss"]).sqrt()}

    training.losses = with_a_root
    with pytest.raises(NonFiniteLoss, match="the gradient is not finite at step 2"):
        take_steps(training, [make_batch(seed=1)])
    after = training.state_dicts()
    for name in ("student", "teacher", "center"):
        assert all(torch.equal(v, after[name][k]) for k, v in before[name].items()), name


def test_a_step_that_loss_scaling_skips_moves_nothing():
    """As float16 overflows: the scale is lowered, the run goes on, and neither teacher nor center moves."""
    training = make_training()
    loop = make_loop(training)
    loop.scaler = torch.amp.GradScaler("cpu", enabled=True, init_scale=2.0**127)
    before = copy.deepcopy(training.state_dicts())
    take_steps(training, [make_batch()])
    after = training.state_dicts()
    for name in ("student", "teacher", "center"):
        assert all(torch.equal(v, after[name][k]) for k, v in before[name].items()), name
    assert loop.scaler.get_scale() == 2.0**126
    assert loop.step == 1
    loop.scaler = torch.amp.GradScaler("cpu", enabled=True, init_scale=4.0)
    take_steps(training, [make_batch()])
    assert not torch.equal(training.state_dicts()["center"]["value"], before["center"]["value"])


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
    training = make_training(schedule={"freeze_last_layer": 2})
    weights = [training.network.head.last_layer.weight.detach().clone()]
    mlp = training.network.head.mlp[0].weight.detach().clone()
    for seed in range(3):
        take_steps(training, [make_batch(seed=seed)])
        weights.append(training.network.head.last_layer.weight.detach().clone())
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[2], weights[3])
    assert not torch.equal(training.network.head.mlp[0].weight, mlp)


def test_augmentation_is_drawn_from_seed_step_and_micro_batch_for_whole_utterances():
    calls = []

    def augment(waves, *, generator, groups):
        calls.append((waves.shape, groups.tolist(), torch.rand((), generator=generator).item()))
        return waves

    training = make_training(augment=augment, teacher_augment=augment, schedule={"accumulation_steps": 2})
    batch = make_batch(4)
    take_steps(training, [batch, batch, batch, batch])
    shapes = [tuple(shape) for shape, _, _ in calls[:3]]
    assert shapes == [(2 * 4, 4_800), (3 * 4, 3_200), (2 * 4, 4_800)]  # student long, student short, teacher long
    assert calls[0][1] == [0, 1, 2, 3, 0, 1, 2, 3], "the views of an utterance share its number"
    draws = [draw for _, _, draw in calls]
    assert len(set(draws)) == len(draws) == 12
    again = make_training(augment=augment, teacher_augment=augment, schedule={"accumulation_steps": 2})
    again.hear(batch, 1, 0)
    assert [draw for _, _, draw in calls[12:]] == draws[6:9]


def test_teacher_hears_its_own_augmentation_and_no_masks():
    def louder_noise(waves, *, generator, groups):
        return waves + 0.5 * torch.randn(waves.shape, generator=generator)

    def mask(frames, *, generator):
        return torch.zeros_like(frames)

    batch = make_batch()
    plain = make_training()
    views = plain.hear(batch, 0, 0)
    student, teacher = views.student, views.teacher
    assert len(student) == 2
    assert torch.equal(student[0], teacher), "without options both hear the same"
    view = plain.network.encoder.extract_features(batch["long"][:, 1])[0]
    assert torch.equal(teacher[8:], view), "first all first views, then all second ones"
    views = make_training(spec_augment=mask).hear(batch, 0, 0)
    masked, teacher_frames = views.student, views.teacher
    assert float(masked[0].abs().max()) == float(masked[1].abs().max()) == 0.0
    assert torch.equal(teacher_frames, teacher)
    views = make_training(augment=louder_noise, teacher_augment=lambda w, **_: w).hear(batch, 0, 0)
    noisy, clean = views.student, views.teacher
    assert torch.equal(clean, teacher)
    assert not torch.equal(noisy[0], teacher)


@pytest.mark.parametrize("centering", ["mean", "sinkhorn"])
def test_options_learn_and_no_short_crops_are_needed(centering):
    crops = MultiCrop(num_long=2, long_s=0.3, num_short=0, short_s=0.2)
    training = make_training(
        objective={"centering": centering, "koleo_weight": 0.1},
        head={"batch_norm": True},
        optimizer={"lr": 0.02},
        schedule={"length": 30},
        crops=crops,
    )
    batch = make_batch(16)
    batch["short"] = batch["short"][:, :0]
    losses = take_steps(training, [batch] * 30)
    assert sum(losses[-5:]) < sum(losses[:5])
    views = training.hear(batch, 0, 0)
    assert training.losses(views, 0)["koleo"] != 0


def test_contrast_alone_learns_and_asks_neither_head_nor_teacher():
    changes = {"loss_weight": 0.0, "contrast_weight": 1.0, "contrast_temperature": 0.1}
    training = make_training(
        objective=changes, teacher={"batchnorm": "ema"}, optimizer={"lr": 0.01}, schedule={"length": 30}
    )
    head = copy.deepcopy(training.network.head.state_dict())
    training.teacher.forward = None  # would fail if it were called
    losses = take_steps(training, [make_batch(16)] * 30)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert all(torch.equal(value, head[name]) for name, value in training.network.head.state_dict().items())
    found = training.losses(training.hear(make_batch(8), 0, 0), 0)
    assert set(found) == {"loss", "contrast"}
    assert training.seen.targets is None
    student, teacher = (dict(part.encoder.named_parameters()) for part in (training.network, training.teacher.module))
    assert all(not torch.equal(student[name], teacher[name]) for name in student), "the teacher follows as its mean"


def test_the_objective_is_the_sum_of_its_weighted_terms():
    changes = {"loss_weight": 0.5, "contrast_weight": 2.0, "koleo_weight": 0.1, "frobenius_weight": 0.3}
    training = make_training(objective=changes)
    found = {name: value.item() for name, value in training.losses(training.hear(make_batch(), 0, 0), 0).items()}
    plain = make_training(objective={"koleo_weight": 0.1})
    same = plain.losses(plain.hear(make_batch(), 0, 0), 0)
    assert found["dino"] == same["dino"].item()
    assert found["koleo"] == same["koleo"].item()
    expected = 0.5 * found["dino"] + 2 * found["contrast"] + 0.1 * found["koleo"] + 0.3 * found["frobenius"]
    assert found["loss"] == pytest.approx(expected, rel=1e-6)


def test_sdpn_is_put_together_from_its_parts():
    """Student on short views, teacher on long ones, one bank of prototypes, mean entropy: written out with loops."""
    objective = {"student_views": "short", "mean_entropy_weight": 1.0, "centering": "sinkhorn", "koleo_weight": 0.1}
    objective |= {"teacher_temperature": 0.025}
    training = make_training(
        objective=objective, teacher={"shared_prototypes": True}, optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.0}
    )
    batch, student = make_batch(), training.network
    short = torch.stack([student.encoder(view) for view in batch["short"].unbind(1)])
    with torch.no_grad():
        of_teacher = [student.head(student.encoder(view)) for view in batch["long"].unbind(1)]  # a copy as yet
        targets = sinkhorn_targets(torch.stack(of_teacher), 0.025)
    chosen = F.softmax(student.head(short) / 0.1, dim=-1)
    crossed = torch.stack([-(t * p.log()).sum(-1).mean() for t in targets for p in chosen]).mean()
    mean = chosen.mean((0, 1))
    entropy = math.log(16) + (mean * mean.log()).sum()
    found = training.losses(training.hear(batch, 0, 0), 0)
    assert set(found) == {"loss", "dino", "koleo", "mean_entropy"}
    torch.testing.assert_close(found["dino"], crossed, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["mean_entropy"], entropy, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["koleo"], koleo(short))
    torch.testing.assert_close(found["loss"], crossed + entropy + 0.1 * koleo(short), rtol=1e-4, atol=1e-5)
    before = student.head.last_layer.weight.detach().clone()
    take_steps(training, [batch])
    ours, theirs = training.teacher.module.head, student.head
    assert torch.equal(ours.last_layer.weight, theirs.last_layer.weight)
    assert not torch.equal(theirs.last_layer.weight, before)
    assert not torch.equal(ours.mlp[0].weight, theirs.mlp[0].weight)


def test_simdino_compares_points_and_spreads_them():
    objective = {"loss": "cosine", "coding_rate_weight": 1.0}
    training = make_training(objective=objective)
    batch, student = make_batch(16), training.network
    points = [
        student.head.bottleneck(student.encoder(v)) for v in (*batch["long"].unbind(1), *batch["short"].unbind(1))
    ]
    pairs = [(points[t].detach(), p) for t in range(2) for v, p in enumerate(points) if v != t]
    aligned = torch.stack([(t - p).square().sum(-1).mean() / 2 for t, p in pairs]).mean()
    spread = coding_rate(torch.stack(points[:2]), 0.5)
    found = training.losses(training.hear(batch, 0, 0), 0)
    torch.testing.assert_close(found["dino"], aligned, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["loss"], aligned + spread, rtol=1e-4, atol=1e-5)
    assert "points_spread" in training.row(1, {}, 0.0)
    assert training.seen.targets is None


def test_an_objective_without_anything_to_learn_is_refused():
    with pytest.raises(InputError, match="loss_weight and contrast_weight are both 0"):
        make_training(objective={"loss_weight": 0.0})
    for term in ("mean_entropy_weight", "coding_rate_weight"):
        with pytest.raises(InputError, match="look at the head"):
            make_training(objective={"loss_weight": 0.0, "contrast_weight": 1.0, term: 1.0})
    with pytest.raises(InputError, match="loss: cosine has none"):
        make_training(objective={"loss": "cosine", "mean_entropy_weight": 1.0})


def test_bf16_step_is_close_to_fp32():
    plain, half = make_training(), make_training()
    made = zip((plain, half), ("fp32", "bf16"), strict=True)
    losses = [take_steps(training, [make_batch(seed=0)], precision=precision)[0] for training, precision in made]
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
    hyper = make_training(
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
