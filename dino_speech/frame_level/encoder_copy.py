"""What is asked of an encoder before its frames are trained on."""

import copy

from dino_speech.errors import InputError
from dino_speech.frame_level.architecture import CLASSES
from dino_speech.frame_level.network import Wav2Vec2
from dino_speech.models.encoder import SpeechEncoder

CONVOLUTIONS = "feature_extractor"  # the front of a model of transformers


def frame_level_copy(encoder: SpeechEncoder, *, kinds: tuple[str, ...] = tuple(CLASSES)) -> SpeechEncoder:
    """A copy of a frame-level encoder, all of whose weights can be trained.

    Args:
        encoder: is left as it is.
        kinds: names of the registry that will do.

    Raises:
        InputError: it is another kind of encoder, or has no transformer layer left.
    """
    network = encoder.backbone
    if not isinstance(network, Wav2Vec2) or encoder.config.name not in kinds:
        raise InputError(
            f"the encoder is {encoder.config.name!r}; expected {' or '.join(map(repr, kinds))}, for instance"
            f" build_encoder({kinds[0]!r}, source=...)"
        )
    if not len(network.model.encoder.layers):
        raise InputError("the encoder has layer=0, and so no transformer to train; build it with layer='last'")
    found = copy.deepcopy(encoder)
    found.requires_grad_(True)
    return found


def network_of(encoder: SpeechEncoder) -> Wav2Vec2:
    """The network of a frame-level encoder, by its own type."""
    assert isinstance(encoder.backbone, Wav2Vec2)
    return encoder.backbone
