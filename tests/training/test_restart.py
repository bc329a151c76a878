"""A worker that is killed in the middle of a run under torchrun: all start again from the last saved state."""

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from dino_speech.training.state import load_state

ROOT = Path(__file__).parents[2]
NUM_STEPS = 60

TRAINING = """
    import os, sys
    from pathlib import Path
    import torch
    from dino_speech import DINOPretrainer, MultiCrop, build_encoder

    torch.set_num_threads(1)
    manifest, output, pids = sys.argv[1:]
    name = f"{os.environ['RANK']}-{os.environ['TORCHELASTIC_RESTART_COUNT']}"
    Path(pids, name).write_text(str(os.getpid()))
    encoder = build_encoder("ecapa_tdnn", embedding_dim=16, channels=16, attention_channels=8, se_channels=8, seed=0)
    trainer = DINOPretrainer(
        encoder, MultiCrop(num_long=2, long_s=0.6, num_short=2, short_s=0.4), optimizer={"lr": 0.01},
        head={"num_prototypes": 64, "hidden_dim": 32, "bottleneck_dim": 16},
        schedule={"length": NUM_STEPS, "batch_size": 8, "freeze_last_layer": 0},
        run={"log_every": 5, "save_every_steps": 5, "num_workers": 0, "precision": "fp32"},
    )
    trainer.fit(manifest, output_folder=output, device="cpu")
"""


@pytest.mark.slow
def test_a_killed_worker_is_restarted_and_the_run_ends_as_it_should(voices_folder: Path, tmp_path: Path) -> None:
    script, output, pids = tmp_path / "train.py", tmp_path / "run", tmp_path / "pids"
    script.write_text(textwrap.dedent(TRAINING).replace("NUM_STEPS", str(NUM_STEPS)))
    pids.mkdir()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with (tmp_path / "log").open("w") as log:
        run = subprocess.Popen(
            [*torchrun, str(script), str(voices_folder / "manifest.csv"), str(output), str(pids)],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            state = output / "state" / "last.pt"
            wait_until(state.exists, run)
            os.kill(int((pids / "1-0").read_text()), signal.SIGKILL)
            assert run.wait(90) == 0, (tmp_path / "log").read_text()[-3000:]
        finally:
            run.kill()
    assert {path.name for path in pids.iterdir()} == {"0-0", "1-0", "0-1", "1-1"}  # it was killed, and once
    assert load_state(state).step == NUM_STEPS
    rows = [json.loads(line) for line in (output / "history.jsonl").read_text().splitlines()]
    losses = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    assert [step for step, _ in losses] == list(range(5, NUM_STEPS + 1, 5))  # none twice, none lost
    assert all(math.isfinite(loss) for _, loss in losses)
    assert losses[-1][1] < losses[0][1] - 0.1
    assert (output / "encoder" / "encoder.json").exists()


def wait_until(condition, run: subprocess.Popen, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert run.poll() is None, "torchrun ended before anything was saved"
        assert time.monotonic() < end
        time.sleep(0.02)
