"""Encoders from where they are kept: a folder, or one of the untrained floors that results are compared with."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from dino_speech.errors import InputError
from dino_speech.models.bounded_memory import bounded_for
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.encoder_config import EncoderConfig
from dino_speech.models.encoder_folder import CONFIG_FILE, WEIGHTS_FILE, read_folder
from dino_speech.models.registry import build_encoder, encoder_from_config, list_encoders

RANDOM = "random:"
UNTRAINED = "untrained:"
UNTRAINED_SEED = 0
NUM_LISTED = 3


def load_encoder(source: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> SpeechEncoder:
    """An encoder in evaluation mode.

    Args:
        source: an encoder's folder; or the output folder of a pretraining, which has one inside as `encoder`; or
            "random:NAME", an untrained encoder (seed 0, default options); or "untrained:FOLDER", the encoder in a
            folder with random weights in place of its own (seed 0, no whitening); or "fbank_stats", mean and deviation
            of level-normalised log-mel frames; or "egemaps", "compare2016" (with opensmile, for research only).
        device: where to put it.

    Raises:
        InputError: there is no such folder or name, or the folder is incomplete, damaged, of another format version,
            or its weights do not fit its configuration.

    Example:
        >>> load_encoder("fbank_stats").embedding_dim
        160
    """
    text = os.fspath(source)
    if text.startswith(RANDOM):
        name = text.removeprefix(RANDOM)
        if name not in (trainable := list_encoders(trainable_only=True)):
            raise InputError(f"{text}: expected {RANDOM}NAME with one of {', '.join(trainable)}")
        encoder = build_encoder(name, seed=UNTRAINED_SEED)
    elif text.startswith(UNTRAINED):
        trained = _from_folder(_find_folder(text.removeprefix(UNTRAINED)))
        encoder = encoder_from_config(replace(trained.config, whitening=False), seed=UNTRAINED_SEED)
    elif text in list_encoders() and text not in list_encoders(trainable_only=True):
        encoder = build_encoder(text)
    else:
        encoder = _from_folder(_find_folder(text))
    return encoder.eval().to(device)


def _find_folder(text: str) -> Path:
    folder = Path(text)
    if (folder / CONFIG_FILE).is_file():
        return folder
    if (folder / "encoder" / CONFIG_FILE).is_file():
        return folder / "encoder"
    floors = f"'{RANDOM}NAME', or 'fbank_stats', 'egemaps', 'compare2016'"
    if folder.is_dir():
        raise InputError(f"{folder}: holds no {CONFIG_FILE}; expected an encoder's folder, {floors}")
    hint = f"; for an untrained one write '{RANDOM}{text}'" if text in list_encoders() else ""
    raise InputError(f"{text}: no such folder; expected an encoder's folder, {floors}{hint}")


def _from_folder(folder: Path) -> SpeechEncoder:
    data, tensors = read_folder(folder)
    num_saved = sum(tensor.numel() for tensor in tensors.values())
    try:
        with bounded_for(num_saved):
            encoder = encoder_from_config(EncoderConfig.from_dict(data), seed=UNTRAINED_SEED)
    except Exception as error:  # whatever a value of the wrong kind or size leads a constructor to
        raise InputError(f"{folder / CONFIG_FILE}: {error or type(error).__name__}") from error
    reason = _misfit(encoder.state_dict(), tensors)
    if reason is not None:
        raise InputError(f"{folder / WEIGHTS_FILE} does not fit {CONFIG_FILE}: {reason}; copy the whole folder again")
    encoder.load_state_dict(tensors)
    return encoder


def _misfit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """How the names and shapes of two states differ, or None where they agree."""
    shapes = [
        f"{name} is {tuple(found[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in expected
        if name in found and found[name].shape != expected[name].shape
    ]
    missing = [f"{name} is missing" for name in expected if name not in found]
    unknown = [f"{name} is unknown" for name in found if name not in expected]
    reasons = shapes + missing + unknown
    if not reasons:
        return None
    more = f" (and {len(reasons) - NUM_LISTED} more)" if len(reasons) > NUM_LISTED else ""
    return "; ".join(reasons[:NUM_LISTED]) + more
