"""Utterances embedded once, for all that is asked of them. Letters: `N` utterances, `D` embedding."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.utterances import Manifest, Skipped, Utterance, list_some
from dino_speech.errors import InputError
from dino_speech.models.embed_files import Embeddings, Transform
from dino_speech.models.encoder import SpeechEncoder

Embedding = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class EmbeddedManifest:
    """N utterances and their embeddings (N, D), a row of NaN where the audio could not be embedded (see `skipped`)."""

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

    `rows` are the positions that are needed, None: all; the others' rows are NaN. `embedded`, of this very manifest, is
    used instead of the encoder; `options` are passed to `embed_files` (`batch_s`, `num_workers`, `progress`).

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
    """What `embed` gives of the utterances at `rows` (None: all), each at its place; InputError: it gives nothing."""
    wanted = [manifest[row] for row in (range(len(manifest)) if rows is None else rows.tolist())]
    found = embed(wanted)
    if not found.ids:
        reasons = list_some([f"{item.name}: {item.reason}" for item in found.failures])
        raise InputError(f"{manifest.name}: none of {len(wanted)} utterances could be embedded ({reasons})")
    positions = manifest.by_id()
    embeddings = np.full((len(manifest), found.embeddings.shape[1]), np.nan, dtype=np.float32)
    embeddings[[positions[name] for name in found.ids]] = found.embeddings
    return EmbeddedManifest(manifest, embeddings, found.failures)


class EmbeddedOnce:
    """Embeds each span of a file once under a transform, in however many tasks and manifests it stands.

    `load` gives the encoder when the first utterance is embedded.
    """

    def __init__(self, load: Callable[[], SpeechEncoder]) -> None:
        self._load = load
        self.release()

    def release(self) -> None:
        """Forget the encoder and what it embedded; it is loaded again when it is needed."""
        self._encoder: SpeechEncoder | None = None
        self._transform: Transform | None = None
        self._known: dict[Any, NDArray[np.float32] | str] = {}  # by span: the embedding, or why there is none

    def embed_files(self, items: Sequence[Any], *, transform: Transform | None = None, **options: Any) -> Embeddings:
        """As of `SpeechEncoder`; another transform makes it forget what it embedded under the former one."""
        if transform is not self._transform:
            self._transform, self._known = transform, {}
        self._encoder = encoder = self._load() if self._encoder is None else self._encoder
        # What a transform does may depend on the name.
        keys = {item.id: item.span if transform is None else (item.id, item.span) for item in items}
        if new := [item for item in items if keys[item.id] not in self._known]:
            found = encoder.embed_files(new, transform=transform, **options)
            self._known |= {keys[name]: row for name, row in zip(found.ids, found.embeddings, strict=True)}
            self._known |= {keys[item.name]: item.reason for item in found.failures}
        pairs = [(name, self._known[key]) for name, key in keys.items()]
        vectors = {name: one for name, one in pairs if not isinstance(one, str)}
        rows = np.array(list(vectors.values()), dtype=np.float32).reshape(-1, encoder.embedding_dim)
        return Embeddings(list(vectors), rows, [Skipped(name, one) for name, one in pairs if isinstance(one, str)])
