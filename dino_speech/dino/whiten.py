"""The last touch to a pretrained encoder: its embeddings are whitened by those of its own training speech."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dino_speech.argument_checks import Count, Share
from dino_speech.data.manifest import Utterance
from dino_speech.data.seeds import seeded_generator
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.training.settings import Settings

logger = logging.getLogger(__name__)


@dataclass
class WhiteningSettings(Settings):
    """What is done to the finished encoder, anew if it is asked of a complete run."""

    shrinkage: Share | None = None  # see `Whitening`; None: embeddings stay as they are, as in the paper
    utterances: Count = 2_000  # of the training set, no labels needed; ours: ten times the usual dimensions


def whiten(
    encoder: SpeechEncoder, utterances: Sequence[Utterance], num_utterances: int, shrinkage: float, seed: int
) -> None:
    """Fit the encoder's whitening on whole, unaugmented utterances, drawn without replacement; no labels are used.

    With fewer utterances than twice the embedding's dimensions it only warns: the covariance would be mostly chance,
    and the directions that it misses would be blown up.

    Source: ours. What DINO learns in hours of speech lies in few directions, and cosine scoring hears only those.
    """
    if min(num_utterances, len(utterances)) < 2 * encoder.embedding_dim:
        logger.warning(
            "embeddings are not whitened: %d utterance(s) for %d dimensions, expected at least twice as many; give "
            "more speech, a smaller embedding_dim, or whitening.shrinkage: null",
            *(min(num_utterances, len(utterances)), encoder.embedding_dim),
        )
        return
    order = torch.randperm(len(utterances), generator=seeded_generator(seed, "whitening"))
    chosen = [utterances[index] for index in order[:num_utterances].tolist()]
    found = encoder.embed_files(chosen, on_error="skip", num_workers=1)
    encoder.fit_whitening(found.embeddings, shrinkage=shrinkage)
