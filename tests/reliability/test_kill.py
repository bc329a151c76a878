"""Killed at random moments, a few times; `kill.py` says how to try it for as long as you like."""

import sys
from pathlib import Path

import processes
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import kill


@pytest.mark.slow
@pytest.mark.parametrize("what", [["pretrain"], ["finetune", "pseudo-labels"], ["embed", "shard"]])
def test_killed_and_begun_again_it_comes_to_the_same_numbers(what: list[str], tmp_path: Path) -> None:
    process = processes.begin(tmp_path / "log", kill.main, ["--num-kills", "2", "--what", *what])
    assert processes.ends(process) == [0], (tmp_path / "log").read_text()[-3000:]
    said = (tmp_path / "log").read_text()
    assert said.count("2 kills") == said.count("difference 0  ") == len(what)
