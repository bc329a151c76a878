"""Killed at random moments, a few times; `kill.py` says how to try it for as long as you like."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("what", [["pretrain"], ["finetune", "pseudo-labels"], ["embed", "shard"]])
def test_killed_and_begun_again_it_comes_to_the_same_numbers(what: list[str]) -> None:
    command = [sys.executable, str(Path(__file__).with_name("kill.py")), "--num-kills", "3", "--what", *what]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.count("3 kills") == done.stdout.count("difference 0  ") == len(what)
