"""The package's metadata agrees with the code, and the README's two commands with what CI runs."""

import ast
import configparser
import os
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import dino_speech

ROOT = Path(__file__).resolve().parents[1]
QUICKSTART = 'python3 -m venv .venv && .venv/bin/pip install ".[plots]" && .venv/bin/dino-speech quickstart'
TESTS = 'python3 -m venv .venv && .venv/bin/pip install ".[test]" && .venv/bin/python -m pytest'
OPTIONAL = {
    "matplotlib": "plots",
    "transformers": "ssl",
    "opensmile": "descriptors",
    "pyarrow": "parquet",
    "imageio_ffmpeg": "ffmpeg",
}


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def _requirements(text: str) -> dict[str, str]:
    """Name in lower case with dashes -> bounds."""
    found = (re.match(r"([\w.\-]+)(?:\[.*\])?(.*)", line.strip()) for line in text.splitlines() if line.strip())
    return {match[1].lower().replace("_", "-").replace(".", "-"): match[2] for match in found if match}


def test_readme_has_the_two_commands_each_on_a_line() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert QUICKSTART in lines
    assert TESTS in lines


def test_ci_runs_the_second_command_of_the_readme() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = script.read_text(encoding="utf-8").splitlines()
    assert TESTS in lines
    for check in ("ruff check .", "ruff format --check .", "mypy dino_speech", "mkdocs build --strict", "pip check"):
        assert any(check in line for line in lines), check


@pytest.mark.slow
def test_every_imported_package_is_declared(setup: configparser.ConfigParser) -> None:
    declared = _requirements(setup["options"]["install_requires"])
    distributions = packages_distributions()
    imported = set()
    for path in (ROOT / "dino_speech").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            imported |= {name.partition(".")[0] for name in names}
    outside = imported - set(sys.stdlib_module_names) - {"dino_speech"} - OPTIONAL.keys()
    assert {"torch", "numpy", "soundfile"} <= outside
    # scikit-learn is imported as sklearn, pyyaml as yaml.
    owners = {
        name: {owner.lower().replace("_", "-").replace(".", "-") for owner in distributions[name]} for name in outside
    }
    undeclared = {name: owned for name, owned in owners.items() if not owned & declared.keys()}
    assert undeclared == {}


def test_optional_packages_stand_in_their_extra(setup: configparser.ConfigParser) -> None:
    extras = setup["options.extras_require"]
    for package, extra in OPTIONAL.items():
        assert package.replace("_", "-") in _requirements(extras[extra])
    for extra in ("plots", "ssl", "parquet"):  # opensmile's licence is for research only: nobody gets it unasked
        assert f"dino-speech[{extra}]" in extras["all"]
    assert "dino-speech[plots]" in extras["test"]
    assert "dino-speech[ssl]" in extras["test"]


def test_each_dependency_has_both_bounds_and_a_reason(setup: configparser.ConfigParser) -> None:
    lines = [line.strip() for line in (ROOT / "setup.cfg").read_text(encoding="utf-8").splitlines()]
    texts = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    packages = [line for text in texts for line in text.splitlines() if re.match(r"(?!dino-speech)\w", line.strip())]
    assert len(packages) > 25
    assert [line for line in packages if not re.fullmatch(r"[\w\[\]-]+>=[\d.]+,<[\d.]+", line)] == []
    # A reason may stand for several lines that follow it.
    above = {line: lines[: lines.index(line)][::-1] for line in packages}
    starts = {
        line: next(text for text in before if not re.match(r"[\w\[\]-]+>=", text)) for line, before in above.items()
    }
    assert [line for line, text in starts.items() if not text.startswith("# ")] == []


def test_torch_and_torchaudio_have_the_same_bounds_below_2_12(setup: configparser.ConfigParser) -> None:
    declared = _requirements(setup["options"]["install_requires"])
    assert declared["torch"] == declared["torchaudio"]
    assert "<2.12" in declared["torch"]


def test_version_has_one_home(setup: configparser.ConfigParser) -> None:
    assert setup["metadata"]["version"] == "attr: dino_speech.__version__"
    assert re.fullmatch(r"\d+\.\d+\.\d+", dino_speech.__version__)


def test_python_versions_and_typing(setup: configparser.ConfigParser) -> None:
    assert setup["options"]["python_requires"] == ">=3.10,<3.14"
    assert setup["options.package_data"]["dino_speech"] == "py.typed"
    assert (ROOT / "dino_speech" / "py.typed").exists()
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
