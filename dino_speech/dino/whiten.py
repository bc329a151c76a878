"""The last touch to a pretrained encoder: its embeddings are whitened by those of its own training speech."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from dino_speech.argument_checks import Count, Share
from dino_speech.audio.io import seconds_to_samples
from dino_speech.data.manifest import Utterance
from dino_speech.data.seeds import seeded_generator
from dino_speech.data.utterances import Skipped
from dino_speech.distributed import rank, world_size
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.training.processes import Processes
from dino_speech.training.settings import Settings

logger = logging.getLogger(__name__)
MAX_S = 30.0  # ours: of one utterance is heard; so 2,000 take at most 17 hours of speech, whatever the recordings


@dataclass
class WhiteningSettings(Settings):
    """What is done to the finished encoder, anew if it is asked of a complete run."""

    shrinkage: Share | None = None  # see `Whitening`; None: embeddings stay as they are, as in the paper
    utterances: Count = 2_000  # of the training set, no labels needed; ours: ten times the usual dimensions


def whiten(
    encoder: SpeechEncoder, utterances: Sequence[Utterance], num_utterances: int, shrinkage: float, seed: int
) -> list[Skipped]:
    """Fit the encoder's whitening on unaugmented utterances, drawn without replacement; no labels are used.

    Of an utterance that is longer a random span of 30 s is heard. Each process embeds its part, and all get the map.

    Returns what this process could not embed.

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
        return []
    draw = seeded_generator(seed, "whitening")
    order = torch.randperm(len(utterances), generator=draw)
    chosen = [_at_most(MAX_S, utterances[index], draw) for index in order[:num_utterances].tolist()]
    processes = Processes()
    with processes.uneven():
        found = encoder.embed_files(chosen[rank() :: world_size()], on_error="skip", num_workers=1)
    encoder.fit_whitening(np.concatenate(processes.gather(found.embeddings)), shrinkage=shrinkage)
    return found.failures


def _at_most(seconds: float, utterance: Utterance, draw: torch.Generator) -> Utterance:
    """A random span of an utterance that is longer, else itself."""
    if utterance.duration <= seconds:
        return utterance
    start, num_samples = utterance.start or 0, seconds_to_samples(seconds)
    spare = max(1, seconds_to_samples(utterance.duration) - num_samples)
    start += int(torch.randint(spare, (), generator=draw))
    return replace(utterance, start=start, stop=start + num_samples, duration=seconds)
