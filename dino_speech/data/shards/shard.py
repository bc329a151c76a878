"""One shard on its way to the disk: a tar whose members' places are known while it is written."""

import hashlib
import io
import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from dino_speech.audio.decoding import needs_ffmpeg
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

    `copy_files`: take the bytes of a file as they are, where libsndfile reads it and the utterance is the whole of it.
    """
    whole = utterance.start is None and utterance.stop is None
    try:
        # ffmpeg reads files, not members of a tar.
        if copy_files and whole and is_plain_file(utterance.wav) and not needs_ffmpeg(utterance.wav):
            num_samples = audio_info(utterance.wav).num_samples_at()
            with open_bytes(utterance.wav) as file:
                return Encoded(file.read(), Path(utterance.wav).suffix[1:].lower() or "bin", num_samples)
        wave = load_audio(utterance.wav, start=utterance.start or 0, stop=utterance.stop).numpy()
    except (InputError, OSError) as error:
        return str(error)
    # Not as floats: libsndfile scales them by 32,767 on writing but by 32,768 on reading.
    samples = np.clip(np.round(wave * 32_768.0), -32_768, 32_767).astype(np.int16)
    flac = io.BytesIO()
    soundfile.write(flac, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return Encoded(flac.getvalue(), "flac", len(wave))


class Failed(NamedTuple):
    """An utterance that could not be read."""

    position: int
    reason: str


class Member(NamedTuple):
    """An utterance of a shard: the place of its audio."""

    position: int
    offset: int
    size: int
    num_samples: int


class _HashedFile(io.BufferedWriter):
    """A new file whose bytes are hashed as they are written."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "w"))
        self.digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return super().write(data)


class Shard:
    """The utterances of one tar, which has another name until `close`; the same utterances make the same bytes.

    `members` are the utterances in it, `failures` those that were tried meanwhile and could not be read.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self.number = number
        self.members: list[Member] = []
        self.failures: list[Failed] = []
        self._path = folder / f"shard-{number:06d}.tar"
        self._partial = folder / f".{self._path.name}.partial"
        self._file = _HashedFile(self._partial)
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def has_room(self, encoded: Encoded, num_bytes: int) -> bool:
        """Whether the audio fits into a tar of `num_bytes`; into an empty one any audio does."""
        size = tarfile.BLOCKSIZE + len(encoded.audio) + -len(encoded.audio) % tarfile.BLOCKSIZE
        return not self.members or self._tar.offset + size <= num_bytes

    def add(self, key: str, position: int, encoded: Encoded, utterance: Utterance) -> None:
        """Add the audio of an utterance, and what is known of it."""
        offset = self._add(f"{key}.{encoded.suffix}", encoded.audio)
        facts = {"ID": utterance.id, "duration": encoded.num_samples / SAMPLE_RATE} | utterance.labels
        self._add(f"{key}.json", json.dumps(facts, ensure_ascii=False).encode())
        self.members.append(Member(position, offset, len(encoded.audio), encoded.num_samples))

    def _add(self, name: str, data: bytes) -> int:
        """Add a member; where its bytes begin, behind one block of header."""
        offset = self._tar.offset + tarfile.BLOCKSIZE
        member = tarfile.TarInfo(name)
        member.size = len(data)
        self._tar.addfile(member, io.BytesIO(data))
        return offset

    def close(self) -> dict[str, Any]:
        """End the archive, give it its name, and say what the index says of it."""
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._partial.replace(self._path)
        return {
            "file": self._path.name,
            "num_utterances": len(self.members),
            "duration_s": round(sum(member.num_samples for member in self.members) / SAMPLE_RATE, 3),
            "num_bytes": self._path.stat().st_size,
            "sha256": self._file.digest.hexdigest(),
        }
