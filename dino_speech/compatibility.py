"""Whether the installed torch and torchaudio work together, and what to do if they do not.

They must come from the same release and the same CUDA build: otherwise `import torchaudio` fails with a missing shared
library, which says nothing to a person. What needs torchaudio, or speechbrain, calls `require_torchaudio` first.
"""

import functools
import importlib
import importlib.metadata
import platform
import sys
from contextlib import suppress
from typing import Any

from dino_speech.errors import InputError

CURE = 'pip install "torch<2.12" "torchaudio<2.12"'
PACKAGES = (
    *("torch", "torchaudio", "speechbrain", "hyperpyyaml", "numpy", "scipy"),
    *("soundfile", "soxr", "audiomentations", "safetensors"),
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
        return f"{'torch' if torch_version is None else 'torchaudio'} is not installed"
    release, audio_release = (".".join(v.split("+")[0].split(".")[:2]) for v in (torch_version, torchaudio_version))
    if release != audio_release:
        return f"torch {torch_version} and torchaudio {torchaudio_version} are of different releases"
    return None


@functools.cache
def require_torchaudio() -> None:
    """Import torchaudio, or an `InputError` says in one line why that cannot work here and what to type."""
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
    """Rows for `dino-speech doctor`, each with `name`, `found`, `ok` (bool) and `cure` (str, None where it is ok)."""
    python_ok, python_cure = sys.version_info >= (3, 10), "make a virtual environment with Python 3.10 to 3.13"
    rows = [_row("python", platform.python_version(), python_ok, python_cure)]
    for package in PACKAGES:
        found = installed_version(package)
        cure = CURE if package in ("torch", "torchaudio") else f"pip install {package}"
        rows.append(_row(package, found, found is not None, cure))
    try:
        require_torchaudio()
        rows.append(_row("torch + torchaudio", "import together"))
    except InputError as error:
        rows.append(_row("torch + torchaudio", str(error), False, CURE))
    with suppress(ImportError, OSError):  # the rows above say so already
        import torch

        cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none (training runs on the CPU)"
        rows += [_row("CUDA device", cuda), _row("CPU threads", str(torch.get_num_threads()))]
    return rows


def _row(name: str, found: str | None, ok: bool = True, cure: str | None = None) -> dict[str, Any]:
    return {"name": name, "found": found, "ok": ok, "cure": None if ok else cure}
