"""A worker that is killed in the middle of a run under torchrun's agent: all start again from the last saved state."""

import json
import math
import os
import signal
from pathlib import Path

import processes
import pytest
import torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from dino_speech import DINOPretrainer, MultiCrop, build_encoder
from dino_speech.training.state import load_state

NUM_STEPS = 20


def train(manifest: Path, output: Path, pids: Path) -> None:
    """One worker; the second is killed in the eighth step when it does them for the first time."""
    name, steps = f"{os.environ['RANK']}-{os.environ['TORCHELASTIC_RESTART_COUNT']}", 0
    (pids / name).write_text(str(os.getpid()))

    def augment(waves: torch.Tensor, *, generator: object, groups: object) -> torch.Tensor:
        nonlocal steps
        steps += waves.shape[1] > 8_000  # the long crops come first
        if name == "1-0" and steps == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return waves

    encoder = build_encoder("ecapa_tdnn", embedding_dim=16, channels=16, attention_channels=8, se_channels=8, seed=0)
    trainer = DINOPretrainer(
        encoder,
        MultiCrop(num_long=2, long_s=0.6, num_short=2, short_s=0.4),
        augment=augment,
        optimizer={"lr": 0.01},
        head={"num_prototypes": 64, "hidden_dim": 32, "bottleneck_dim": 16},
        schedule={"length": NUM_STEPS, "batch_size": 8, "freeze_last_layer": 0},
        run={"log_every": 5, "save_every_steps": 5, "num_workers": 0, "precision": "fp32"},
    )
    trainer.fit(manifest, output_folder=output, device="cpu")


def launch(*arguments: Path) -> None:
    """What torchrun calls with its options, `--standalone --nproc-per-node=2 --max-restarts=1`."""
    rendezvous = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "run_id": "restart"}
    config = LaunchConfig(1, 1, nproc_per_node=2, max_restarts=1, start_method="fork", **rendezvous)
    elastic_launch(config, train)(*arguments)


@pytest.mark.slow
def test_a_killed_worker_is_restarted_and_the_run_ends_as_it_should(voices_folder: Path, tmp_path: Path) -> None:
    output, pids, log = tmp_path / "run", tmp_path / "pids", tmp_path / "log"
    pids.mkdir()
    agent = processes.begin(log, launch, voices_folder / "manifest.csv", output, pids)
    assert processes.ends(agent) == [0], log.read_text()[-3000:]
    assert {path.name for path in pids.iterdir()} == {"0-0", "1-0", "0-1", "1-1"}  # it was killed, and once
    assert load_state(output / "state" / "last.pt").step == NUM_STEPS
    rows = [json.loads(line) for line in (output / "history.jsonl").read_text().splitlines()]
    losses = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    assert [step for step, _ in losses] == list(range(5, NUM_STEPS + 1, 5))  # none twice, none lost
    assert all(math.isfinite(loss) for _, loss in losses)
    assert losses[-1][1] < losses[0][1] - 0.1
    assert (output / "encoder" / "encoder.json").exists()
