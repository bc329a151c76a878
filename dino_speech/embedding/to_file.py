"""Embeddings of a person's files in one npz file, for whatever they want to do with them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dino_speech.data.utterances import Skipped, list_some
from dino_speech.embedding.inputs import collect
from dino_speech.errors import InputError
from dino_speech.models.encoder import SpeechEncoder

NUM_READING_THREADS = 2


@dataclass(frozen=True, slots=True)
class EmbedReport:
    """What `embed_to_file` or `embed_to_folder` did.

    Attributes:
        output: the npz file or the folder.
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


def embed_to_file(
    inputs: Sequence[str | Path],
    encoder: SpeechEncoder,
    output: str | Path,
    *,
    num_workers: int = NUM_READING_THREADS,
    progress: bool = False,
    precision: str = "fp32",
) -> EmbedReport:
    """Embed files, folders, manifests and shards; what cannot be read is listed and left out.

    For more than fits into memory, or takes long, see `embed_to_folder`.

    Args:
        inputs: audio files, folders, manifests (CSV), shards.
        encoder: embeds them, on the device that it is on.
        output: the npz file, replaced at once; it holds `ids` (N,) text and `embeddings` (N, D) float32.
        num_workers: threads that read ahead.
        progress: show a bar.
        precision: of the network, as `SpeechEncoder.embed_files` takes it.

    Raises:
        InputError: nothing could be embedded, an input does not exist, or two have one ID.
    """
    manifest = collect(inputs)
    target = Path(output)
    target.parent.mkdir(parents=True, exist_ok=True)  # now, not after an hour of embedding
    skipped = list(manifest.skipped)
    if manifest:
        found = encoder.embed_files(
            list(manifest), num_workers=num_workers, on_error="skip", progress=progress, precision=precision
        )
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
