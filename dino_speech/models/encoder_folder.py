"""The folder that an encoder is kept in: plain JSON and safetensors, nothing that could run.

    encoder.json        format version, architecture and features (EncoderConfig)
    model.safetensors   weights and buffers by name
    provenance.json     where it comes from: versions, seed, command, data

Building the modules from it is `checkpoint.py`'s work.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dino_speech.errors import InputError

FORMAT = "dino_speech.encoder"
FORMAT_VERSION = 1
CONFIG_FILE, WEIGHTS_FILE, PROVENANCE_FILE = "encoder.json", "model.safetensors", "provenance.json"


def write_folder(
    folder: str | os.PathLike[str],
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    provenance: Mapping[str, Any],
) -> Path:
    """Write the three files into a new folder beside `folder`, then put it in its place, so that no half is ever read.

    An encoder that is there is replaced; InputError: `folder` is a file, or holds what is no part of an encoder.
    """
    from safetensors.torch import save_file

    target = Path(folder).absolute()
    _check_replaceable(target)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial / WEIGHTS_FILE)
    head = {"format": FORMAT, "format_version": FORMAT_VERSION}
    (partial / CONFIG_FILE).write_text(json.dumps({**head, **config}, indent=2) + "\n", encoding="utf-8")
    (partial / PROVENANCE_FILE).write_text(json.dumps(dict(provenance), indent=2) + "\n", encoding="utf-8")
    if target.exists():
        # A folder that is not empty cannot be replaced in one step: the old one steps aside for the moment.
        aside = target.with_name(f".{target.name}.{os.getpid()}.old")
        target.replace(aside)
        partial.replace(target)
        shutil.rmtree(aside)
    else:
        partial.replace(target)
    return target


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration (without the format's own keys) and tensors; InputError: as `read_header`, or damaged weights."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = read_header(folder / CONFIG_FILE, format_name=FORMAT, version=FORMAT_VERSION, what="encoder")
    path = folder / WEIGHTS_FILE
    try:
        return config, load_file(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); copy the whole folder again") from error
    except SafetensorError as error:
        raise InputError(f"{path}: damaged ({error}); copy or save it again") from error


def read_header(path: Path, *, format_name: str, version: int, what: str) -> dict[str, Any]:
    """The JSON object of a folder of ours (`what`: its kind, for messages), without the format's own keys.

    InputError: the file is missing or damaged, or the format is not one that this version reads.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        expected = f"expected {'an' if what[0] in 'aeiou' else 'a'} {what}'s folder"
        raise InputError(f"{path}: cannot be read ({error.strerror}); {expected}") from error
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); save the {what} again") from error
    if not isinstance(content, dict) or content.pop("format", None) != format_name:
        raise InputError(f'{path}: expected a JSON object with "format": "{format_name}"; this is no {what} of ours')
    found = content.pop("format_version", None)
    if found != version:
        raise InputError(
            f"{path}: format version {found!r}, but this dino_speech reads version {version};"
            " install the dino_speech that wrote it (see its provenance)"
        )
    return content


def _check_replaceable(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(f"{target} is a file; expected a folder to save the encoder in")
    foreign = sorted({entry.name for entry in target.iterdir()} - {CONFIG_FILE, WEIGHTS_FILE, PROVENANCE_FILE})
    if foreign:
        raise InputError(
            f"{target} holds other things ({', '.join(foreign[:3])}), which saving would delete; choose a new folder"
        )
