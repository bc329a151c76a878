"""The utterances that a labelled evaluation may use: those with all labels, a speaker, and audio that can be read.

What is left out is listed. Used by `classification.py` and `regression.py`. Letters: `N` utterances, `L` columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.folds import Fold, speaker_folds
from dino_speech.data.utterances import Manifest, Skipped
from dino_speech.embedding.embedded_manifest import EmbeddedManifest, Embedding, embed_manifest
from dino_speech.errors import InputError
from dino_speech.models.encoder import SpeechEncoder

NUM_FOLDS = 5


@dataclass(frozen=True, eq=False)
class LabelledSpeech:
    """N utterances with their labels, in the order of the manifest.

    Args:
        rows: (N,) positions in the manifest.
        values: (N, L) cells of the label columns, none blank.
        speakers: (N,), none blank.
        embeddings: (N, D), all finite.
        skipped: utterances left out, and why.
    """

    rows: NDArray[np.int64]
    values: NDArray[np.str_]
    speakers: NDArray[np.str_]
    embeddings: Embedding
    skipped: list[Skipped]

    @property
    def num_speakers(self) -> int:
        """How many different speakers there are."""
        return int(np.unique(self.speakers).size)

    def num_folds(self, wanted: int | None) -> int:
        """The wanted number of folds; None: 5, or the number of speakers where that is smaller, but 2 at least."""
        return max(2, min(NUM_FOLDS, self.num_speakers)) if wanted is None else wanted

    def folds(self, wanted: int | None, *, seed: int, stratified: bool) -> list[Fold]:
        """Folds that no speaker crosses; `stratified`: the classes of the first column spread as evenly as can be."""
        classes = self.values[:, 0].tolist() if stratified else None
        return speaker_folds(self.speakers.tolist(), classes, num_folds=self.num_folds(wanted), seed=seed)


def labelled_speech(
    encoder: SpeechEncoder | None,
    manifest: Manifest,
    *,
    labels: Sequence[str],
    speaker: str,
    embedded: EmbeddedManifest | None = None,
    **options: Any,
) -> LabelledSpeech:
    """Embed the utterances that have all labels (L columns) and a speaker; the arguments are those of the evaluations.

    Raises:
        InputError: no such column, no row has all of them, or nothing could be embedded.
    """
    columns = [*labels, speaker]
    cells = np.array([manifest.label(column) for column in columns]).T  # (M, L + 1)
    blank = cells == ""
    named = ~blank.any(axis=1)
    skipped = [
        Skipped(manifest[i].id, f"column {columns[int(blank[i].argmax())]!r} is blank")
        for i in np.flatnonzero(~named).tolist()
    ]
    if not named.any():
        what = " and ".join(map(repr, columns))
        raise InputError(
            f"{manifest.name}: no row has {'both' if len(columns) == 2 else 'all of'} {what}; fill these columns in"
        )
    found = embed_manifest(encoder, manifest, rows=np.flatnonzero(named), embedded=embedded, **options)
    kept = np.flatnonzero(named & found.usable)
    return LabelledSpeech(kept, cells[kept, :-1], cells[kept, -1], found.embeddings[kept], skipped + found.skipped)
