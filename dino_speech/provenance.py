"""Where a result comes from: versions, seed, command, commit and the hash of its manifest.

This dict goes into every checkpoint, report and JSON answer, so that a number can be traced and made again.
"""

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

from dino_speech import __version__
from dino_speech.compatibility import installed_version

ON_TOP = ("recipe", "quickstart", "cli", "__main__.py")  # they only ask, and show; see `tests/test_layers.py`
PACKAGES = ("torch", "torchaudio", "speechbrain", "numpy", "scipy", "scikit-learn", "soundfile")


def provenance(
    *,
    seed: int | None = None,
    manifest: str | Path | Sequence[str | Path] | None = None,
    command: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Plain data that says what made a result.

    `seed` is what the result depends on, `manifest` a file or several, `command` its words (None: this process's own).
    Keys: `dino_speech`, `python`, one per package of `PACKAGES` (None: not installed), `platform`, `device`,
    `git_commit` (None outside a checkout; `-dirty` is added where tracked files differ from it), `command`, `seed`,
    `manifests` (a list of {path, sha256}; the hash of one that is gone is None) and `time` (UTC, ISO 8601).
    """
    manifests = [manifest] if isinstance(manifest, (str, Path)) else list(manifest or [])
    return {
        "dino_speech": __version__,
        "python": platform.python_version(),
        **{package: installed_version(package) for package in PACKAGES},
        "platform": platform.platform(),
        "device": _device_name(),
        "git_commit": _git_commit(),
        "command": list(sys.argv if command is None else command),
        "seed": seed,
        "manifests": [{"path": str(path), "sha256": sha256(path)} for path in manifests],
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def sha256(path: str | Path) -> str | None:
    """Hexadecimal SHA-256 of a file's bytes, or None where there is no such file."""
    try:
        digest = hashlib.sha256()
        with Path(path).open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
        return digest.hexdigest()
    except OSError:
        return None


@cache
def code_digest(package: Path = Path(__file__).parent) -> str:
    """A hash of the code that computes results, by which what is kept is told from what another code made.

    Of all source files of the package, because a figure rests on most of them (reading, features, network, folds,
    statistics) and a shorter list would miss one some day; but not of `ON_TOP`, which nothing else imports.
    """
    digest = hashlib.sha256(__version__.encode())
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package)
        if name.parts[0] not in ON_TOP:
            digest.update(f"{name.as_posix()}\x1f{sha256(path)}\n".encode())
    return digest.hexdigest()


def _device_name() -> str:
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)"


def _git_commit() -> str | None:
    """Commit of the checkout that the process was started in; None where git or a checkout is missing.

    The folder may be a stranger's, and its configuration may name commands: none of them is run.
    """
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return None
    filters = _git("config", "--name-only", "--get-regexp", r"^filter\..*\.(clean|process|required)$") or ""
    switched_off = [word for name in filters.split("\n") if name for word in ("-c", f"{name}=")]
    changes = _git(*switched_off, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all")
    return commit if changes == "" else f"{commit}-dirty"


def _git(*arguments: str) -> str | None:
    quiet = ["-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}", "-c", "protocol.allow=never"]
    environment = {**os.environ, "GIT_NO_LAZY_FETCH": "1", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    command = ["git", "--no-pager", *quiet, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
