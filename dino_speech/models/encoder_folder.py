"""The folder that an encoder is kept in: plain JSON and safetensors, nothing that could run.

    encoder.json        format version, architecture and features (EncoderConfig)
    model.safetensors   weights and buffers by name, with their SHA-256, which is compared on reading
    provenance.json     where it comes from: versions, seed, command, data

Building the modules from it is `checkpoint.py`'s work.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dino_speech.data.atomic import replace_folder
from dino_speech.errors import InputError
from dino_speech.models.fingerprint import digest_of
from dino_speech.received_files import MAX_JSON_BYTES, parse_json, read_bytes, require_plain_file

FORMAT = "dino_speech.encoder"
FORMAT_VERSION = 1
CHECKSUM = "sha256"
CONFIG_FILE, WEIGHTS_FILE, PROVENANCE_FILE = "encoder.json", "model.safetensors", "provenance.json"


def write_folder(
    folder: str | os.PathLike[str],
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    provenance: Mapping[str, Any],
) -> Path:
    """Write the three files into a new folder beside `folder`, then put it in its place, so that no half is ever read.

    An encoder that is there is replaced; InputError: `folder` is a file, or holds what is no part of an encoder, or
    cannot be written.
    """
    target = Path(folder).absolute()
    refuse_others(target, {CONFIG_FILE, WEIGHTS_FILE, PROVENANCE_FILE}, "encoder")

    def fill(partial: Path) -> None:
        write_weights(partial / WEIGHTS_FILE, tensors)
        head = {"format": FORMAT, "format_version": FORMAT_VERSION}
        (partial / CONFIG_FILE).write_text(json.dumps({**head, **config}, indent=2) + "\n", encoding="utf-8")
        (partial / PROVENANCE_FILE).write_text(json.dumps(dict(provenance), indent=2) + "\n", encoding="utf-8")

    replace_folder(target, fill)
    return target


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration (without the format's own keys) and tensors; InputError: as `read_header`, or damaged weights."""
    config = read_header(folder / CONFIG_FILE, format_name=FORMAT, version=FORMAT_VERSION, what="encoder")
    return config, read_weights(folder / WEIGHTS_FILE)


def write_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write safetensors with their checksum; OSError where there is no room."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(kept, path, metadata={CHECKSUM: digest_of(sorted(kept.items()))})
    except SafetensorError as error:
        raise OSError(str(error)) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """The inverse, of earlier versions without a checksum; InputError: the file cannot be read, or is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        require_plain_file(path)
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
            expected = (file.metadata() or {}).get(CHECKSUM)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); copy the whole folder again") from error
    except (SafetensorError, RuntimeError) as error:
        raise InputError(f"{path}: damaged ({error}); copy or save it again") from error
    if expected is not None and digest_of(sorted(tensors.items())) != expected:
        raise InputError(f"{path}: damaged (it does not match its checksum); copy or save it again")
    return tensors


def read_header(path: Path, *, format_name: str, version: int, what: str) -> dict[str, Any]:
    """The JSON object of a folder of ours (`what`: its kind, for messages), without the format's own keys.

    InputError: the file is missing or damaged, or the format is not one that this version reads.
    """
    try:
        content = parse_json(read_bytes(path, max_bytes=MAX_JSON_BYTES))
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


def refuse_others(target: Path, parts: set[str], what: str) -> None:
    """Refuse to save where a file is, or a folder with other things than the parts of what is saved."""
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(f"{target} is a file; expected a folder to save the {what} in")
    foreign = sorted({entry.name for entry in target.iterdir()} - parts)
    if foreign:
        raise InputError(
            f"{target} holds other things ({', '.join(foreign[:3])}), which saving would delete; choose a new folder"
        )
