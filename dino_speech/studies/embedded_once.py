"""An encoder that several tasks or lists ask for the same utterances, and that embeds each of them once."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.utterances import Skipped
from dino_speech.models.embed_files import Embeddings, Transform
from dino_speech.models.encoder import SpeechEncoder


class EmbeddedOnce:
    """Embeds each span of a file once under a transform, in however many tasks and manifests it stands.

    Args:
        load: gives the encoder when the first utterance is embedded.
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
