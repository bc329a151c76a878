"""One training step of other people's DINO, put together from their own classes out of a checkout on this machine.

Each follows its project's own training loop, on one process and without what only a log needs. What a peer imports but
the step never calls (a tracker, a configuration reader) is replaced by an empty module, and package `__init__`s that
pull in a whole toolkit are passed by. Nothing of theirs is part of dino_speech.
"""

import copy
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import torch
import torch.distributed as dist
from torch import Tensor

PEERS = ("wespeaker", "sslsv", "lightly")


@dataclass(frozen=True)
class Sizes:
    """What all steps have in common."""

    batch: int = 4
    num_long: int = 2
    long_s: float = 3.0
    num_short: int = 4
    short_s: float = 1.5
    channels: int = 512
    embedding_dim: int = 512
    num_prototypes: int = 65_536
    num_mels: int = 80

    def frames(self, seconds: float) -> int:
        """Frames of 25 ms every 10 ms."""
        return 1 + (round(16_000 * seconds) - 400) // 160


def build_peer(name: str, path: str, sizes: Sizes) -> Callable[[], object]:
    """The peer's step, ready to call."""
    if not Path(path).is_dir():
        raise SystemExit(f"--peer {name}={path}: no such folder; give a checkout of the project")
    return {"wespeaker": _wespeaker, "sslsv": _sslsv, "lightly": _lightly}[name](path, sizes)


def _pass_by(path: str, *packages: str) -> None:
    """Make packages importable below `path` without running their `__init__`."""
    sys.path.insert(0, path)
    for package in packages:
        module = types.ModuleType(package)
        module.__path__ = [str(Path(path, *package.split(".")))]  # type: ignore[attr-defined]
        sys.modules[package] = module


def _stand_in(*names: str) -> None:
    """Empty modules for what a peer imports and its step never calls, where it is not installed."""
    for name in names:
        try:
            __import__(name)
        except ImportError:
            sys.modules[name] = MagicMock()


def _frames(sizes: Sizes) -> tuple[Tensor, Tensor]:
    """Long and short views as (V*B, T, F): their features cost them nothing here."""
    shapes = [(sizes.num_long, sizes.long_s), (sizes.num_short, sizes.short_s)]
    long, short = (torch.randn(num * sizes.batch, sizes.frames(s), sizes.num_mels) for num, s in shapes)
    return long, short


def _wespeaker(path: str, sizes: Sizes) -> Callable[[], object]:
    """`wespeaker/ssl/utils/dino_executor.py`, features given; SGD as in its recipe."""
    _pass_by(path, "wespeaker", "wespeaker.models", "wespeaker.ssl", "wespeaker.ssl.models", "wespeaker.ssl.utils")
    from wespeaker.models import ecapa_tdnn
    from wespeaker.ssl.models.dino_wrapper import DINO
    from wespeaker.ssl.utils.dino_utils import cancel_gradients_last_layer, clip_gradients, get_params_groups

    if sizes.channels not in (512, 1024):
        raise SystemExit("wespeaker has ECAPA with 512 and 1024 channels")
    if not dist.is_initialized():  # its loss calls all_reduce unconditionally
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    network = getattr(ecapa_tdnn, f"ECAPA_TDNN_GLOB_c{sizes.channels}")(
        sizes.num_mels, sizes.embedding_dim, emb_bn=True
    )
    model = DINO(
        network,
        {"in_dim": sizes.embedding_dim, "out_dim": sizes.num_prototypes, "use_bn": True},
        {
            **{"out_dim": sizes.num_prototypes, "n_scrops": sizes.num_long + sizes.num_short},
            **{"n_tcrops": sizes.num_long, "warmup_teacher_temp": 0.04, "teacher_temp": 0.04, "nepochs": 10},
        },
        sync_bn=False,
    ).train()
    optimizer = torch.optim.SGD(get_params_groups(model), lr=1e-3, momentum=0.9)
    long, short = _frames(sizes)

    def step() -> None:
        loss = model(short, long, 2)
        loss.item()
        optimizer.zero_grad()
        loss.backward()
        clip_gradients(model, 3.0)
        cancel_gradients_last_layer(2, model.s_model, 1)
        optimizer.step()
        model.ema_update(0.996)

    return step


def _sslsv(path: str, sizes: Sizes) -> Callable[[], object]:
    """`sslsv/trainer/Trainer.py::_train_step_loop`, from waves: its encoder makes the features, once per network."""
    sys.path.insert(0, path)
    _stand_in("wandb", "dacite", "prettyprinter", "pandas")
    from sslsv.encoders.ECAPATDNN import ECAPATDNN, ECAPATDNNConfig
    from sslsv.methods.DINO.DINO import DINO, DINOConfig

    if 2 * sizes.short_s != sizes.long_s:
        raise SystemExit("sslsv takes the first half of a long crop's length for its short crops")
    widths = [sizes.channels] * 4 + [3 * sizes.channels]
    encoder = ECAPATDNNConfig(encoder_dim=sizes.embedding_dim, mel_n_mels=sizes.num_mels, channels=widths)
    config = DINOConfig(
        global_count=sizes.num_long,
        local_count=sizes.num_short,
        head_output_dim=sizes.num_prototypes,
        freeze_last_layer=0,
    )
    model = DINO(config, lambda: ECAPATDNN(encoder)).train()
    optimizer = torch.optim.SGD(model.get_learnable_params(), lr=1e-3, momentum=0.9, weight_decay=5e-5)
    waves = torch.randn(sizes.batch, sizes.num_long + sizes.num_short, round(16_000 * sizes.long_s))

    def step() -> None:
        model.on_train_step_start(100, 1000)
        loss = model.train_step(model(waves, training=True), step=100, step_rel=100)
        optimizer.zero_grad(set_to_none=True)
        model.on_before_backward()
        loss.backward()
        model.on_after_backward()
        optimizer.step()
        model.on_train_step_end(100, 1000)

    return step


def _lightly(path: str, sizes: Sizes) -> Callable[[], object]:
    """Lightly's head, loss and teacher as in its DINO example, around SpeechBrain's ECAPA; features given."""
    _stand_in("torchvision", "torchvision.ops")
    _pass_by(path, "lightly", "lightly.loss", "lightly.models", "lightly.models.modules", "lightly.utils")
    from lightly.loss.dino_loss import DINOLoss
    from lightly.models.modules.heads import DINOProjectionHead
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

    widths = [sizes.channels] * 4 + [3 * sizes.channels]
    backbone: Any = ECAPA_TDNN(sizes.num_mels, lin_neurons=sizes.embedding_dim, channels=widths)
    student, teacher = (
        torch.nn.ModuleList([network, DINOProjectionHead(sizes.embedding_dim, 2048, 256, sizes.num_prototypes, True)])
        for network in (backbone, copy.deepcopy(backbone))
    )
    teacher.load_state_dict(student.state_dict())
    teacher.requires_grad_(False)
    criterion = DINOLoss(output_dim=sizes.num_prototypes)
    optimizer = torch.optim.SGD([p for p in student.parameters() if p.requires_grad], lr=1e-3, momentum=0.9)
    long, short = _frames(sizes)

    def run(network: torch.nn.ModuleList, frames: Tensor) -> list[Tensor]:
        return [network[1](network[0](view).squeeze(1)) for view in frames.split(sizes.batch)]

    def step() -> None:
        with torch.no_grad():
            for own, other in zip(teacher.parameters(), student.parameters(), strict=True):
                own.mul_(0.996).add_(other, alpha=0.004)
            targets = run(teacher, long)
        loss = criterion(targets, run(student, long) + run(student, short), epoch=0)
        loss.backward()
        student[1].cancel_last_layer_gradients(current_epoch=0)
        optimizer.step()
        optimizer.zero_grad()

    return step
