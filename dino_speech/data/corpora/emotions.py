"""The names of emotions that all corpora share, so that a system trained on one can be tested on another.

Each corpus's module holds its own map, `EMOTIONS`: the corpus's label -> one of `CANONICAL`, or `UNLABELLED` where the
corpus means no single emotion by it (no agreement, other) or where common usage leaves the class out. What a corpus
wrote stays in the column `original_label`.
"""

from collections.abc import Mapping

from dino_speech.errors import InputError

CANONICAL = (
    "angry",
    "bored",
    "calm",
    "contemptuous",
    "disgusted",
    "fearful",
    "happy",
    "neutral",
    "sad",
    "surprised",
)
UNLABELLED = ""


def canonical_emotion(emotions: Mapping[str, str], label: str, place: str) -> str:
    """The shared name of a corpus's label.

    Args:
        emotions: the corpus's map.
        label: what the corpus wrote.
        place: file, and row if there is one, for the message.

    Returns:
        One of `CANONICAL`, or `UNLABELLED`.

    Raises:
        InputError: the corpus has no such label.

    Example:
        >>> canonical_emotion({"W": "angry", "F": "happy"}, "F", "wav/03a01Fa.wav")
        'happy'
    """
    if label not in emotions:
        raise InputError(
            f"{place}: emotion {label!r} is none of this corpus ({', '.join(emotions)}); correct the label or the"
            " file's name, or take the file out"
        )
    return emotions[label]
