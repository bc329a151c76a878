"""`import dino_speech` costs next to nothing; every public name is there once it is asked for."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import dino_speech

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "torchaudio", "speechbrain", "numpy", "scipy", "sklearn", "matplotlib", "transformers")
PROBE = f"""
import sys, time
start = time.perf_counter()
import dino_speech
seconds = time.perf_counter() - start
print(seconds, *[name for name in {HEAVY} if name in sys.modules])
"""


def _in_a_fresh_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.strip()


def test_import_is_quick_and_pulls_in_nothing_heavy() -> None:
    answers = [_in_a_fresh_process(PROBE).split() for _ in range(3)]
    assert all(len(answer) == 1 for answer in answers), answers
    assert min(float(answer[0]) for answer in answers) < 0.3


def test_the_command_line_shows_its_help_without_torch() -> None:
    code = f"import sys, dino_speech.cli.main; print([name for name in {HEAVY} if name in sys.modules])"
    assert _in_a_fresh_process(code) == "[]"


@pytest.mark.parametrize("name", dino_speech.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(dino_speech, name) is not None
    assert name in dir(dino_speech)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'load_encodr'; public names: "):
        _ = dino_speech.load_encodr
    with pytest.raises(ImportError):
        importlib.import_module("dino_speech.utils")


@pytest.mark.slow
def test_encoders_need_torchaudio_only_when_they_are_built() -> None:
    heavy = ("torchaudio", "speechbrain")
    code = f"import sys, dino_speech; dino_speech.build_encoder; print([n for n in {heavy} if n in sys.modules])"
    assert _in_a_fresh_process(code) == "[]"
