"""What training with labels hears of an utterance: one segment, elsewhere each time."""

from dino_speech.argument_checks import require
from dino_speech.audio.crops import MultiCrop


class RandomChunk(MultiCrop):
    """A `MultiCrop` of one view of `chunk_s` seconds, for training with labels; `min_s` and short utterances as there.

    Raises:
        InputError: a number is out of its range.
    """

    min_views = 1

    def __init__(self, chunk_s: float, *, min_s: float = 0.4) -> None:
        require("chunk_s", chunk_s, "a positive number of seconds", lambda seconds: seconds > 0)
        super().__init__(num_long=1, long_s=chunk_s, num_short=0, short_s=chunk_s, min_s=min_s)
