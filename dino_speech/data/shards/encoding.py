"""One utterance as the bytes of a file of its own, for a shard."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from dino_speech.audio.io import SAMPLE_RATE, audio_info, load_audio
from dino_speech.audio.sources import is_plain_file, open_bytes
from dino_speech.data.utterances import Utterance
from dino_speech.errors import InputError

CODECS = ("flac", "as-found")


@dataclass(frozen=True)
class Encoded:
    """The bytes of a sound file, its name's suffix, and how many samples it gives at 16 kHz."""

    audio: bytes
    suffix: str
    num_samples: int


def encode(utterance: Utterance, *, copy_files: bool) -> Encoded | str:
    """The utterance as flac (mono, 16 kHz, 16 bits), or the reason why it cannot be read.

    Args:
        utterance: whose span is cut out.
        copy_files: take the bytes of a file as they are, where the utterance is the whole of it.
    """
    whole = utterance.start is None and utterance.stop is None
    try:
        if copy_files and whole and is_plain_file(utterance.wav):
            num_samples = audio_info(utterance.wav).num_samples_at()
            with open_bytes(utterance.wav) as file:
                return Encoded(file.read(), Path(utterance.wav).suffix[1:].lower() or "bin", num_samples)
        wave = load_audio(utterance.wav, start=utterance.start or 0, stop=utterance.stop).numpy()
    except (InputError, OSError) as error:
        return str(error)
    return Encoded(_as_flac(wave), "flac", len(wave))


def _as_flac(wave: np.ndarray) -> bytes:
    # Not as floats: libsndfile scales them by 32,767 on writing but by 32,768 on reading.
    samples = np.clip(np.round(wave * 32_768.0), -32_768, 32_767).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue()
