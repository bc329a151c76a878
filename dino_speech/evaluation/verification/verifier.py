"""Two recordings compared: the score, and a decision where a threshold is given."""

from dataclasses import dataclass
from os import PathLike

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dino_speech.evaluation.verification.scoring import cosine_scores
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.plain_data import PlainData


@dataclass(frozen=True, slots=True)
class VerificationDecision(PlainData):
    """Cosine score in [-1, 1], and whether it reaches the threshold (None where no threshold was given)."""

    score: float
    same_speaker: bool | None


class Verifier:
    """Compares two files or waves, which `encoder` embeds.

    Args:
        threshold: accept where score >= threshold. There is no default: it depends on the encoder and on what a wrong
            decision costs; `VerificationReport.eer_threshold` on the person's own trials is a start.
        mean: (D,) subtracted from both embeddings, as in `evaluate_verification`.
    """

    def __init__(self, encoder: SpeechEncoder, threshold: float | None = None, *, mean: NDArray | None = None) -> None:
        self.encoder = encoder
        self.threshold = threshold
        self.mean = mean

    def compare_files(self, first: str | PathLike[str], second: str | PathLike[str]) -> VerificationDecision:
        """Score two files; one that cannot be read raises an `AudioError`."""
        return self._compare(np.stack([self.encoder.embed_file(path).numpy() for path in (first, second)]))

    def compare_waves(self, first: ArrayLike, second: ArrayLike, sample_rate: float = 16_000) -> VerificationDecision:
        """Score two waves (time,) that are in memory, of one rate in Hz; see `SpeechEncoder.embed`."""
        return self._compare(np.stack([self.encoder.embed(wave, sample_rate).numpy() for wave in (first, second)]))

    def _compare(self, embeddings: NDArray) -> VerificationDecision:
        score = float(cosine_scores(embeddings, np.array([0]), np.array([1]), mean=self.mean)[0])
        return VerificationDecision(score, None if self.threshold is None else score >= self.threshold)
