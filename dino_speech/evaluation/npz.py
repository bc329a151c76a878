"""Embeddings of a person's files in one npz file, for whatever they want to do with them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dino_speech.audio.io import AudioError, audio_info
from dino_speech.data.manifest import read_manifest, scan_folder
from dino_speech.data.utterances import Manifest, Skipped, Utterance, list_some
from dino_speech.errors import InputError
from dino_speech.models.encoder import SpeechEncoder

NUM_READING_THREADS = 2
MANIFEST_SUFFIXES = (".csv", ".tsv")


@dataclass(frozen=True, slots=True)
class EmbedReport:
    """What `embed_to_file` did.

    Attributes:
        output: the npz file.
        num_embedded: rows in it.
        embedding_dim: columns.
        skipped: what could not be embedded, and why.
    """

    output: str
    num_embedded: int
    embedding_dim: int
    skipped: tuple[Skipped, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "output": self.output,
            "num_embedded": self.num_embedded,
            "embedding_dim": self.embedding_dim,
            "num_skipped": len(self.skipped),
            "skipped": [item.to_dict() for item in self.skipped],
        }


def collect(inputs: Sequence[str | Path]) -> Manifest:
    """Files, folders and manifests as one manifest.

    The ID of a file in a folder is its path relative to the folder, that of a single file is its path as given.
    Files whose header cannot be read are in `.skipped`.

    Raises:
        InputError: an input does not exist, or two utterances have one ID.
    """
    utterances: list[Utterance] = []
    skipped: list[Skipped] = []
    for name in [os.fspath(given) for given in inputs]:
        path = Path(name)
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; give audio files, folders or manifests (CSV)")
        if path.is_dir():
            folder = scan_folder(path)
            skipped += folder.skipped
            utterances += folder
        elif path.suffix.lower() in MANIFEST_SUFFIXES:
            utterances += read_manifest(path)
        else:
            try:
                duration_s = audio_info(path).duration_s
            except AudioError as error:
                skipped.append(Skipped(name, str(error)))
                continue
            utterances.append(Utterance(name, os.path.abspath(path), duration_s, origin=name))  # noqa: PTH100
    return Manifest(utterances, skipped=skipped)


def embed_to_file(
    inputs: Sequence[str | Path], encoder: SpeechEncoder, output: str | Path, *, progress: bool = False
) -> EmbedReport:
    """Embed files, folders and manifests; what cannot be read is listed and left out.

    Args:
        inputs: audio files, folders, manifests (CSV).
        encoder: embeds them, on the device that it is on.
        output: the npz file, replaced at once; it holds `ids` (N,) text and `embeddings` (N, D) float32.
        progress: show a bar.

    Raises:
        InputError: nothing could be embedded, an input does not exist, or two have one ID.
    """
    manifest = collect(inputs)
    target = Path(output)
    target.parent.mkdir(parents=True, exist_ok=True)  # now, not after an hour of embedding
    skipped = list(manifest.skipped)
    if manifest:
        found = encoder.embed_files(list(manifest), num_workers=NUM_READING_THREADS, on_error="skip", progress=progress)
        skipped += found.failures
    if not manifest or not found.ids:
        reasons = list_some([f"{item.name}: {item.reason}" for item in skipped])
        raise InputError(f"none of {len(skipped)} files could be embedded ({reasons})")
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, ids=np.array(found.ids), embeddings=found.embeddings)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return EmbedReport(str(output), len(found.ids), found.embeddings.shape[1], tuple(skipped))
