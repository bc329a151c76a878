"""The SLURM script of the recipes: its shell, its options, and what it does near the limit."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from dino_speech.cli.main import build_parser
from dino_speech.cli.options import split_words
from dino_speech.training.state import load_state

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "recipes" / "YourSpeech" / "dino" / "cluster.sbatch"
PAGE = ROOT / "docs" / "pages" / "clusters.md"

SLURM = {
    # One node: the step runs here, and its process is noted for scancel.
    "srun": 'echo $$ > "$STAND_IN/step"; exec "$@"',
    "scancel": 'echo "$@" >> "$STAND_IN/scancelled"; kill -TERM "$(cat "$STAND_IN/step")"',
    "scontrol": 'if [ "$1" = show ]; then echo localhost; else echo "$@" >> "$STAND_IN/requeued"; fi',
}
TINY = [
    *("--crops.long_s=0.6", "--crops.short_s=0.3", "--encoder.embedding_dim=8", "--encoder.channels=16"),
    *("--encoder.attention_channels=8", "--encoder.se_channels=8", "--trainer.head.num_prototypes=16"),
    *(
        "--trainer.head.hidden_dim=8",
        "--trainer.head.bottleneck_dim=4",
        "--trainer.schedule.batch_size=8",
        "--monitor=null",
    ),
    *("--trainer.schedule.length=100000", "--trainer.run.save_every_steps=5", "--trainer.run.num_workers=0"),
    *("--trainer.run.precision=fp32", "--trainer.run.log_every=5"),
]


def test_the_shell_is_sound() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)


def test_torchrun_and_our_command_know_the_options() -> None:
    command = re.search(r"^srun torchrun (.*?) &$", SCRIPT.read_text().replace("\\\n", " "), re.MULTILINE)
    assert command
    for_torchrun, _, ours = command[1].partition(" -m -- dino_speech ")
    known = get_args_parser().format_help()
    options = re.findall(r"--[a-z-]+", for_torchrun)
    assert len(options) >= 6
    assert [option for option in options if option not in known] == []
    words, overrides = split_words(shlex.split(ours.replace('"$@"', "RECIPE.yaml --trainer.optimizer.lr=0.1")))
    assert build_parser().parse_args(words).recipe == "RECIPE.yaml"
    assert overrides == ["--trainer.optimizer.lr=0.1"]


def test_every_directive_is_explained() -> None:
    lines = re.findall(r"^#SBATCH (--[a-z-]+)", SCRIPT.read_text(), re.MULTILINE)
    text = PAGE.read_text()
    assert [option for option in lines if option not in ("--job-name", "--output") and option not in text] == []


@pytest.mark.slow
def test_near_the_limit_the_state_is_saved_and_the_job_queued_again(voices_folder: Path, tmp_path: Path) -> None:
    for name, body in SLURM.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    path = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "STAND_IN": str(tmp_path)}
    environment |= {
        "OMP_NUM_THREADS": "1",
        "SLURM_JOB_ID": "4242",
        "SLURM_JOB_NODELIST": "here",
        "SLURM_JOB_NUM_NODES": "1",
    }
    environment |= {"PROCESSES_PER_NODE": "2", "CUDA_VISIBLE_DEVICES": ""}
    output = tmp_path / "out"
    options = [f"--train_manifest={voices_folder / 'manifest.csv'}", f"--output_folder={output}", *TINY]
    with (tmp_path / "log").open("w") as log:
        job = subprocess.Popen(
            ["bash", str(SCRIPT), str(SCRIPT.parent / "hparams" / "cpu.yaml"), *options],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            end = time.monotonic() + 140
            while not (output / "state" / "last.pt").exists():
                assert job.poll() is None, (tmp_path / "log").read_text()[-3000:]
                assert time.monotonic() < end
                time.sleep(0.1)
            job.send_signal(signal.SIGUSR1)
            code = job.wait(140)
        finally:
            job.kill()
    said = (tmp_path / "log").read_text()
    assert code != 0
    assert "SIGTERM: finishing this step, then saving" in said
    assert (tmp_path / "scancelled").read_text() == "--signal=TERM 4242\n"
    assert (tmp_path / "requeued").read_text() == "requeue 4242\n"
    saved = load_state(output / "state" / "last.pt")
    rows = [json.loads(line) for line in (output / "history.jsonl").read_text().splitlines()]
    assert len(saved.rng) == 2  # both processes
    assert 0 <= saved.step - rows[-1]["step"] < 5  # nothing was computed after what was saved
    assert "stopped by SIGTERM after step" in said
