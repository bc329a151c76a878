"""What learns from some people's segments and judges those of others: the protocol, and a probe on embeddings.

Letters: `N` segments.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.utterances import Manifest, Skipped, Utterance
from dino_speech.errors import InputError
from dino_speech.evaluation.clinical.subjects import TARGET
from dino_speech.evaluation.probing.probes import LogisticProbe
from dino_speech.models.encoder import SpeechEncoder


@dataclass(frozen=True, eq=False)
class SegmentOdds:
    """What a classifier says of segments.

    Args:
        log_odds: (N,) natural-log odds of the positive class where both are equally common; NaN: cannot be judged.
        skipped: segments, also of the training part, whose audio could not be used, and why.
    """

    log_odds: NDArray[np.float64]
    skipped: Sequence[Skipped] = ()


class SubjectClassifier(Protocol):
    """Anything that learns from some people's segments and judges those of others: a probe, a fine-tuned system.

    It is called once per fold. `train` has the column `is_positive` ("1" or "0"); `test` has neither that nor the
    column of the diagnosis. `run` names the fold and what it is of ("speech/fold1", "silence/fold1"): a folder's name.
    """

    def __call__(self, train: Manifest, test: Manifest, *, run: str) -> SegmentOdds:
        """Learn from `train`, judge `test`."""


class EmbeddingProbe:
    """A `SubjectClassifier`: `LogisticProbe` on frozen embeddings; each segment is embedded once, whatever the folds.

    Args:
        encoder: frozen.
        subject: column of the people, whom the probe's own inner folds keep apart.
        seed: of the inner folds.
        options: passed to `embed_files` (`batch_s`, `num_workers`, `progress`).
    """

    def __init__(self, encoder: SpeechEncoder, *, subject: str = "speaker", seed: int = 0, **options: Any) -> None:
        self.encoder, self.subject, self.seed, self.options = encoder, subject, seed, options
        self._vectors: dict[tuple[str, int | None, int | None], NDArray | Skipped] = {}

    def __call__(self, train: Manifest, test: Manifest, *, run: str) -> SegmentOdds:
        """Learn from `train`, judge `test`."""
        self._embed([*train, *test])
        known, unseen = self._rows(train), self._rows(test)
        learnt = train.subset(known.tolist())
        if len(set(learnt.label(TARGET))) < 2:
            raise InputError(f"{run}: no audio of one of the two classes can be embedded; see dino-speech check")
        probe = LogisticProbe(seed=self.seed)
        probe.fit(self._matrix(learnt), np.array(learnt.label(TARGET)), np.array(learnt.label(self.subject)))
        log_odds = np.full(len(test), np.nan)
        if unseen.size:
            log_odds[unseen] = probe.log_odds(self._matrix(test.subset(unseen.tolist())))
        found = (self._vectors[row.span] for row in [*train, *test])
        return SegmentOdds(log_odds, [answer for answer in found if isinstance(answer, Skipped)])

    def _embed(self, rows: Sequence[Utterance]) -> None:
        new = [row for row in rows if row.span not in self._vectors]
        if not new:
            return
        found = self.encoder.embed_files(new, on_error="skip", **self.options)
        spans = {row.id: row.span for row in new}
        self._vectors |= {spans[name]: vector for name, vector in zip(found.ids, found.embeddings, strict=True)}
        self._vectors |= {spans[item.name]: item for item in found.failures}

    def _rows(self, manifest: Manifest) -> NDArray[np.int64]:
        """Positions of the segments that have an embedding."""
        return np.array([i for i, row in enumerate(manifest) if not isinstance(self._vectors[row.span], Skipped)], int)

    def _matrix(self, manifest: Manifest) -> NDArray:
        return np.stack([np.asarray(self._vectors[row.span]) for row in manifest])
