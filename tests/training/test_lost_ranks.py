"""A process that is killed or stopped in the middle of a step: the other ends and says so, and nothing is lost.

Two real processes over gloo, forked by one program, since it is importing that takes the time. What more of them do
when one is lost: tests/test_roll_call.py.
"""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from dino_speech.training.state import load_state

ROOT = Path(__file__).parents[2]
NUM_STEPS = 10
PATIENCE_S = 8.0
SPARE_S = 60.0  # on a busy machine even the end of a Python takes its time

PROGRAM = """
    import json, os, signal, socket, sys, time
    from pathlib import Path
    import torch
    from dino_speech import DINOPretrainer, MultiCrop, build_encoder
    import dino_speech.dino.pretrain, dino_speech.training.loop

    torch.set_num_threads(1)
    manifest, folder = sys.argv[1], Path(sys.argv[2])
    phases, fault = json.loads(sys.argv[3]), {}
    steps = 0

    def augment(waves, *, generator, groups):
        "Where the fault happens: in the middle of a step, between two forward passes."
        global steps
        steps += waves.shape[1] > 8_000  # the long crops come first
        if fault.get("step") == steps and os.environ["RANK"] == str(fault["rank"]):
            (folder / "at").write_text(str(time.time()))
            os.kill(os.getpid(), getattr(signal, fault["how"]))
        return waves

    def train(output):
        torch.manual_seed(0)
        encoder = build_encoder("xvector", embedding_dim=4, channels=(8, 8, 8, 8, 16), seed=0)
        DINOPretrainer(
            encoder, MultiCrop(num_long=2, long_s=0.6, num_short=1, short_s=0.4), augment=augment,
            head={"num_prototypes": 16, "hidden_dim": 8, "bottleneck_dim": 8},
            schedule={"length": NUM_STEPS, "batch_size": 6}, whitening={"shrinkage": 0.1},
            run={"log_every": 1, "save_every_steps": 2, "num_workers": 0, "precision": "fp32"},
        ).fit(manifest, output_folder=output, device="cpu")

    report = []
    for number, (output, fault) in enumerate(phases):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        pids = []
        for rank in range(2):
            pids.append(os.fork())
            if not pids[-1]:  # a process of its own, which ends as any other does
                os.environ |= {**world, "RANK": str(rank), "LOCAL_RANK": str(rank)}
                log = os.open(folder / f"{number}-{rank}.log", os.O_WRONLY | os.O_CREAT)
                os.dup2(log, 1), os.dup2(log, 2)
                train(folder / output)
                sys.exit()
        ends, codes = {}, {}
        while len(codes) < len(pids):
            pid, status = os.wait()
            codes[pid], ends[pid] = os.waitstatus_to_exitcode(status), time.time()
            stopped = {pids[fault["rank"]]} if fault and fault["how"] == "SIGSTOP" else set()
            if set(pids) - set(codes) == stopped and stopped:
                os.kill(*stopped, signal.SIGKILL)
        at = float((folder / "at").read_text()) if fault else 0.0
        report.append({"codes": [codes[pid] for pid in pids], "seconds": [ends[pid] - at for pid in pids]})
    print(json.dumps(report))
"""


@pytest.mark.slow
def test_the_other_ends_says_which_was_lost_and_the_run_goes_on_to_the_same_numbers(
    voices_folder: Path, tmp_path: Path
) -> None:
    phases: list[tuple[str, dict[str, Any]]] = [
        ("whole", {}),
        ("broken", {"how": "SIGKILL", "rank": 1, "step": 4}),  # in its fourth step: two are saved
        ("broken", {"how": "SIGSTOP", "rank": 1, "step": 4}),
        ("broken", {}),
    ]
    program = textwrap.dedent(PROGRAM).replace("NUM_STEPS", str(NUM_STEPS))
    patience = {"DINO_SPEECH_PATIENCE_MINUTES": str(PATIENCE_S / 60)}
    command = [sys.executable, "-c", program, str(voices_folder / "manifest.csv"), str(tmp_path), json.dumps(phases)]
    found = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)} | patience, capture_output=True, text=True, timeout=280
    )
    assert found.returncode == 0, found.stderr[-3000:]
    whole, killed, stopped, last = json.loads(found.stdout.splitlines()[-1])
    logs = {path.name: path.read_text() for path in tmp_path.glob("*.log")}
    assert whole["codes"] == last["codes"] == [0, 0], logs
    for phase, outcome, bound_s in ((1, killed, SPARE_S), (2, stopped, PATIENCE_S + SPARE_S)):
        assert outcome["codes"] == [1, -9]
        assert outcome["seconds"][0] < bound_s
        end = logs[f"{phase}-0.log"].splitlines()[-1]
        assert "lost rank 1 (" in end
        assert "the same command goes on" in end
        print(f"ended after {outcome['seconds'][0]:.1f} s")
    one, other = (load_state(tmp_path / name / "state" / "last.pt") for name in ("whole", "broken"))
    assert one.step == other.step == NUM_STEPS
    for name in ("student", "teacher", "center"):
        for key, value in one.modules[name].items():
            assert torch.equal(other.modules[name][key], value), key
    history = [(tmp_path / name / "history.jsonl").read_text().splitlines() for name in ("whole", "broken")]
    losses = [[json.loads(line)["loss"] for line in lines] for lines in history]
    assert losses[0] == losses[1]
    encoders = [(tmp_path / name / "encoder" / "model.safetensors").read_bytes() for name in ("whole", "broken")]
    assert encoders[0] == encoders[1], "whitened by the same map"
