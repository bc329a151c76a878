"""Embeddings of a person's files in one npz file, for whatever they want to do with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dino_speech.data.resumable_store import write_arrays
from dino_speech.data.utterances import Skipped, Utterance, list_some
from dino_speech.embedding.inputs import Inputs, with_durations
from dino_speech.errors import InputError
from dino_speech.models.embed_files import Embeddings
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.plain_data import PlainData

NUM_READING_THREADS = 2


@dataclass(frozen=True)
class EmbedReport(PlainData):
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
        return {**super().to_dict(), "num_skipped": len(self.skipped)}


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
    given, target = Inputs(inputs), Path(output)
    given.survey()
    target.parent.mkdir(parents=True, exist_ok=True)  # now, not after an hour of embedding
    found = embed_readable(list(given), encoder, num_workers=num_workers, progress=progress, precision=precision)
    refuse_nothing(len(found.ids), found.failures)
    write_arrays(target, {"ids": np.array(found.ids), "embeddings": found.embeddings})
    return EmbedReport(str(output), len(found.ids), found.embeddings.shape[1], tuple(found.failures))


def embed_readable(utterances: Sequence[Utterance], encoder: SpeechEncoder, **options: Any) -> Embeddings:
    """Embed what can be embedded, also files whose headers were not read yet; the others are its `failures`."""
    known, skipped = with_durations(utterances)
    if not known:
        return Embeddings([], np.zeros((0, encoder.embedding_dim), np.float32), skipped)
    found = encoder.embed_files(known, on_error="skip", **options)
    return Embeddings(found.ids, found.embeddings, [*skipped, *found.failures])


def refuse_nothing(num_embedded: int, skipped: Sequence[Skipped]) -> None:
    """Refuse inputs of which nothing could be embedded.

    Raises:
        InputError: with the reasons.
    """
    if not num_embedded:
        reasons = list_some([f"{item.name}: {item.reason}" for item in skipped])
        raise InputError(f"none of {len(skipped)} files could be embedded ({reasons})")
