"""The folder that a system is kept in, whatever its kind: a header, an encoder, and the weights of what sits on it.

Nothing in it can run.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from dino_speech.data.atomic import write_atomically, write_text_atomically
from dino_speech.errors import InputError
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.provenance import provenance as new_provenance

SYSTEM_FILE, ENCODER_FOLDER = "system.json", "encoder"


def write_system(
    folder: str | os.PathLike[str],
    header: Mapping[str, Any],
    encoder: SpeechEncoder,
    module: nn.Module,
    weights_file: str,
    provenance: Mapping[str, Any],
) -> Path:
    """Write a system's folder; one that is there is replaced.

    Raises:
        InputError: the folder holds an encoder's folder with other things in it.
    """
    from safetensors.torch import save

    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    record = dict(provenance) or new_provenance()
    # Taken away first and written last: a folder with it is complete.
    (target / SYSTEM_FILE).unlink(missing_ok=True)
    encoder.save(target / ENCODER_FOLDER, provenance=record)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    write_atomically(target / weights_file, lambda file: file.write(save(tensors)))
    write_text_atomically(target / SYSTEM_FILE, json.dumps({**header, "provenance": record}, indent=2) + "\n")
    return target


def system_folder(folder: str | os.PathLike[str]) -> Path:
    """The folder itself, or the `system` inside it."""
    found, inside = Path(folder), Path(folder) / "system"
    return inside if not (found / SYSTEM_FILE).is_file() and (inside / SYSTEM_FILE).is_file() else found


@contextmanager
def refusing_damage(folder: Path) -> Iterator[None]:
    """What goes wrong inside, as the file's fault.

    Raises:
        InputError: something is missing, or does not fit.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (KeyError, TypeError, RuntimeError, OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{folder}: incomplete or damaged ({reason}); copy the whole folder again") from error
