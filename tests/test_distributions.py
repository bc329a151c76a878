"""The wheel and the sdist: built, looked into, installed apart from the sources, and the quickstart run from there."""

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from dino_speech import __version__

ROOT = Path(__file__).resolve().parents[1]
AUDIO = {".wav", ".flac", ".mp3", ".ogg", ".opus", ".sph", ".npz", ".safetensors", ".pt"}
STEPS = """
import json, sys
from dino_speech.quickstart.run import quickstart
sizes = {"num_train": 12, "num_train_speakers": 6, "num_test_speakers": 4, "num_test_files": 4}
report = quickstart(output="out", num_steps=2, corpus_sizes=sizes)
print(json.dumps([sys.modules["dino_speech"].__file__, report.pretrained.eer]))
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and with the wheel that was built from it."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    source.mkdir()
    for name in ("dino_speech", "tests", "recipes", "docs"):  # not the sources themselves: a build writes beside them
        (source / name).symlink_to(ROOT / name)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    words = ["-m", "build", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    names = set(zipfile.ZipFile(next(built.glob("*.whl"))).namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "dino_speech").rglob("*.py")}
    about = {name for name in names if name.startswith(f"dino_speech-{__version__}.dist-info/")}
    assert names - about == modules | {"dino_speech/py.typed"}
    assert {name.rpartition("/")[2] for name in about} == {
        *("LICENSE", "METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt"),
    }


def test_the_sdist_holds_what_a_build_needs(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = [Path(name).relative_to(f"dino_speech-{__version__}") for name in archive.getnames()]
    files = {str(name) for name in names}
    assert files >= {"LICENSE", "README.md", "setup.cfg", "pyproject.toml", "PKG-INFO", "dino_speech/py.typed"}
    top = {name.parts[0] for name in names if len(name.parts) > 1}
    assert top - {"tests"} == {"dino_speech", "dino_speech.egg-info"}  # setuptools adds the test_*.py at their top
    assert not [name for name in names if name.suffix in AUDIO or "__pycache__" in name.parts]


def test_the_wheel_alone_runs_the_quickstart(built: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    venv.create(tmp_path / "env", symlinks=True)
    python, site = tmp_path / "env" / "bin" / "python", next((tmp_path / "env").rglob("site-packages"))
    install = ["-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([sys.executable, *install, str(next(built.glob("*.whl")))], env=environment, check=True)
    assert (python.parent / "dino-speech").exists()
    # The dependencies are this interpreter's; their folder comes after the wheel's.
    (site / "dependencies.pth").write_text("\n".join(path for path in sys.path if "site-packages" in path))
    done = subprocess.run([python, "-c", STEPS], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    file, eer = json.loads(done.stdout.splitlines()[-1])
    assert Path(file).is_relative_to(site)
    assert 0 <= eer <= 100
    assert (tmp_path / "out" / "report.md").exists()
