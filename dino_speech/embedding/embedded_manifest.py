"""A manifest whose utterances are embedded once, for all that is asked. Letters: `N` utterances, `D` embedding."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.utterances import Manifest, Skipped, Utterance, list_some
from dino_speech.errors import InputError
from dino_speech.models.embed_files import Embeddings
from dino_speech.models.encoder import SpeechEncoder

Embedding = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class EmbeddedManifest:
    """A manifest with one embedding per utterance, to be used by several evaluations.

    Args:
        manifest: N utterances.
        embeddings: (N, D) float32; a row of NaN where the audio could not be embedded.
        skipped: those utterances, with the reason.
    """

    manifest: Manifest
    embeddings: Embedding
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """(N,) where there is an embedding."""
        return np.asarray(~np.isnan(self.embeddings).any(axis=1))


def embed_manifest(
    encoder: SpeechEncoder | None,
    manifest: Manifest,
    *,
    rows: NDArray[np.integer] | None = None,
    embedded: EmbeddedManifest | None = None,
    **options: Any,
) -> EmbeddedManifest:
    """Embed each utterance once; audio that cannot be read is skipped and listed.

    Args:
        encoder: put into eval mode by its own `embed_files`; None where `embedded` is given.
        manifest: what to embed.
        rows: positions of the utterances that are needed; the rows of the others are NaN. None: all.
        embedded: embeddings of this very manifest that exist already and are used instead of the encoder.
        options: passed to `embed_files` (`batch_s`, `num_workers`, `progress`).

    Raises:
        InputError: neither encoder nor embeddings, embeddings of something else, or nothing could be embedded.
    """
    if embedded is not None:
        if [utterance.id for utterance in embedded.manifest] != [utterance.id for utterance in manifest]:
            raise InputError(f"the embeddings given are of {embedded.manifest!r}; expected those of {manifest!r}")
        ids = {utterance.id for utterance in (manifest if rows is None else manifest.subset(rows.tolist()))}
        return EmbeddedManifest(manifest, embedded.embeddings, [item for item in embedded.skipped if item.name in ids])
    if encoder is None:
        raise InputError("give an encoder, or the embeddings that one made (embedded=embed_manifest(...))")
    return embed_rows(manifest, rows, lambda wanted: encoder.embed_files(wanted, on_error="skip", **options))


def embed_rows(
    manifest: Manifest, rows: NDArray[np.integer] | None, embed: Callable[[list[Utterance]], Embeddings]
) -> EmbeddedManifest:
    """What `embed` gives of the utterances at `rows` (None: all), each at its place in the manifest.

    Raises:
        InputError: nothing could be embedded.
    """
    wanted = [manifest[row] for row in (range(len(manifest)) if rows is None else rows.tolist())]
    found = embed(wanted)
    if not found.ids:
        reasons = list_some([f"{item.name}: {item.reason}" for item in found.failures])
        raise InputError(f"{manifest.name}: none of {len(wanted)} utterances could be embedded ({reasons})")
    positions = manifest.by_id()
    embeddings = np.full((len(manifest), found.embeddings.shape[1]), np.nan, dtype=np.float32)
    embeddings[[positions[name] for name in found.ids]] = found.embeddings
    return EmbeddedManifest(manifest, embeddings, found.failures)
