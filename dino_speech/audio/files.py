"""Sound files in folders: which suffixes are known, and walks that end also where links lead round in a circle."""

import os
from collections.abc import Iterator
from pathlib import Path

from dino_speech.audio.decoding import FFMPEG_FORMATS, AudioError, StrPath

AUDIO_SUFFIXES = (
    *(".aif", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".sph", ".w64", ".wav"),
    *FFMPEG_FORMATS,
)


def walk_files(folder: StrPath) -> Iterator[Path]:
    """Every file below a folder, folder by folder: links are followed, hidden files and folders passed over."""
    visited: set[str] = set()
    for parent, subfolders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:  # a link that leads back to a folder already seen would be walked for ever
            subfolders.clear()
            continue
        visited.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(files) if not name.startswith("."))


def is_audio(file: Path) -> bool:
    """Whether a file's suffix is one of `AUDIO_SUFFIXES`."""
    return file.name.lower().endswith(AUDIO_SUFFIXES)


def find_audio(folder: StrPath) -> list[Path]:
    """Every audio file below a folder (see `walk_files`), sorted by path.

    Raises:
        AudioError: the folder is missing, or holds no file with one of `AUDIO_SUFFIXES`.
    """
    if not Path(folder).is_dir():
        raise AudioError(f"{folder}: no such folder; give the folder that holds the audio files")
    found = sorted(filter(is_audio, walk_files(folder)))
    if not found:
        raise AudioError(f"{folder}: no audio found; expected files ending in {' '.join(AUDIO_SUFFIXES)}")
    return found
