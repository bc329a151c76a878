"""Whether the installed torch and torchaudio work together, and what to do if they do not.

PyPI's torch and torchaudio must come from the same release and the same CUDA build: otherwise `import torchaudio`
fails with a missing shared library, which says nothing to a person. Everything that needs torchaudio (or
speechbrain, which imports it) calls `require_torchaudio` first.
"""

import functools
import importlib
import importlib.metadata
import platform
import sys
from typing import Any

from dino_speech.errors import InputError

CURE = 'pip install "torch<2.12" "torchaudio<2.12"'
PACKAGES = (
    "torch",
    "torchaudio",
    "speechbrain",
    "hyperpyyaml",
    "numpy",
    "scipy",
    "soundfile",
    "soxr",
    "audiomentations",
    "safetensors",
)


def installed_version(package: str) -> str | None:
    """Version of an installed package, or None where it is absent."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def mismatch(torch_version: str | None, torchaudio_version: str | None) -> str | None:
    """Why this pair of versions does not work together, or None where nothing speaks against it."""
    if torch_version is None or torchaudio_version is None:
        absent = "torch" if torch_version is None else "torchaudio"
        return f"{absent} is not installed"
    release, audio_release = (".".join(v.split("+")[0].split(".")[:2]) for v in (torch_version, torchaudio_version))
    if release != audio_release:
        return f"torch {torch_version} and torchaudio {torchaudio_version} are of different releases"
    return None


@functools.cache
def require_torchaudio() -> None:
    """Import torchaudio, or say in one line why that cannot work here and what to type.

    Raises:
        InputError: torch and torchaudio do not import together; the message names both versions and the cure.
    """
    versions = installed_version("torch"), installed_version("torchaudio")
    reason = mismatch(*versions)
    if reason is None:
        try:
            importlib.import_module("torchaudio")
            return
        except (ImportError, OSError) as error:
            reason = f"torch {versions[0]} and torchaudio {versions[1]} do not import together ({error})"
    raise InputError(f"{reason}; they must be one matching pair. Cure: {CURE}")


def report() -> list[dict[str, Any]]:
    """Rows for `dino-speech doctor`: what is installed, whether it works, and the cure where it does not.

    Returns:
        One dict per row with keys `name`, `found`, `ok` (bool) and `cure` (str or None).
    """
    python_ok, python_cure = sys.version_info >= (3, 10), "make a virtual environment with Python 3.10 to 3.13"
    rows: list[dict[str, Any]] = [
        {"name": "python", "found": platform.python_version(), "ok": python_ok, "cure": python_cure}
    ]
    for package in PACKAGES:
        found = installed_version(package)
        cure = CURE if package in ("torch", "torchaudio") else f"pip install {package}"
        rows.append({"name": package, "found": found, "ok": found is not None, "cure": cure})
    rows += [_torchaudio_row(), *_device_rows()]
    for row in rows:
        row["cure"] = None if row["ok"] else row["cure"]
    return rows


def _torchaudio_row() -> dict[str, Any]:
    try:
        require_torchaudio()
        return {"name": "torch + torchaudio", "found": "import together", "ok": True, "cure": None}
    except InputError as error:
        return {"name": "torch + torchaudio", "found": str(error), "ok": False, "cure": CURE}


def _device_rows() -> list[dict[str, Any]]:
    try:
        import torch
    except (ImportError, OSError):  # the rows above say so already
        return []
    cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none (training runs on the CPU)"
    return [
        {"name": "CUDA device", "found": cuda, "ok": True, "cure": None},
        {"name": "CPU threads", "found": str(torch.get_num_threads()), "ok": True, "cure": None},
    ]
