"""A process that is killed or stopped in the middle of a step: the other ends and says so, and nothing is lost.

Two real processes over gloo. What more of them do when one is lost: tests/test_roll_call.py.
"""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import processes
import pytest
import torch

from dino_speech import DINOPretrainer, MultiCrop, build_encoder
from dino_speech.training.state import load_state

NUM_STEPS = 10
PATIENCE_S = 10.0  # no step takes longer, however busy the machine is
SPARE_S = 60.0  # on a busy machine even the end of a Python takes its time


def train(manifest: Path, output: Path, at: Path, fault: dict[str, Any]) -> None:
    """Ten steps; the fault happens in the middle of one, between two forward passes, and leaves its time in a file."""
    steps = 0

    def augment(waves: torch.Tensor, *, generator: object, groups: object) -> torch.Tensor:
        nonlocal steps
        steps += waves.shape[1] > 8_000  # the long crops come first
        if fault.get("step") == steps and os.environ["RANK"] == str(fault["rank"]):
            at.write_text(str(time.time()))
            os.kill(os.getpid(), fault["how"])
        return waves

    torch.manual_seed(0)
    encoder = build_encoder("xvector", embedding_dim=4, channels=(8, 8, 8, 8, 16), seed=0)
    DINOPretrainer(
        encoder,
        MultiCrop(num_long=2, long_s=0.6, num_short=1, short_s=0.4),
        augment=augment,
        head={"num_prototypes": 16, "hidden_dim": 8, "bottleneck_dim": 8},
        schedule={"length": NUM_STEPS, "batch_size": 6},
        whitening={"shrinkage": 0.1},
        run={"log_every": 1, "save_every_steps": 2, "num_workers": 0, "precision": "fp32"},
    ).fit(manifest, output_folder=output, device="cpu")


def run(folder: Path, name: str, output: str, fault: dict[str, Any]) -> tuple[list[int | None], float]:
    """The exit codes of the two, and how long after the fault the first of them, which met none, had ended."""
    patience, at = {"DINO_SPEECH_PATIENCE_MINUTES": PATIENCE_S / 60}, folder / f"{name}.at"
    manifest = folder / "voices" / "manifest.csv"
    group = processes.begin_together(2, folder / name, train, manifest, folder / output, at, fault, **patience)
    (code,) = processes.ends(group[0])
    seconds = time.time() - float(at.read_text()) if fault else 0.0
    if fault:
        group[1].kill()
    return [code, *processes.ends(group[1])], seconds


@pytest.mark.slow
def test_the_other_ends_says_which_was_lost_and_the_run_goes_on_to_the_same_numbers(
    voices_folder: Path, tmp_path: Path
) -> None:
    assert voices_folder == tmp_path / "voices"
    assert run(tmp_path, "whole", "whole", {})[0] == [0, 0], (tmp_path / "whole" / "0.log").read_text()
    for how, bound_s in ((signal.SIGKILL, SPARE_S), (signal.SIGSTOP, PATIENCE_S + SPARE_S)):
        # in the fourth step of the run that was begun or is gone on with: some are saved
        codes, seconds = run(tmp_path, how.name, "broken", {"how": how, "rank": 1, "step": 4})
        assert codes == [1, -signal.SIGKILL]
        assert seconds < bound_s
        end = (tmp_path / how.name / "0.log").read_text().splitlines()[-1]
        assert "lost rank 1 (" in end
        assert "the same command goes on" in end
        print(f"ended after {seconds:.1f} s")
    assert run(tmp_path, "last", "broken", {})[0] == [0, 0], (tmp_path / "last" / "0.log").read_text()
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
