"""Any audio file -> mono float32 at 16 kHz, reading only the span that is asked for; what is wrong with a file.

Codecs are dealt with in `decoding.py`. Positions in these functions are sample indices at the *output* rate, and one
rule, `seconds_to_samples`, turns seconds into samples everywhere.
"""

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from dino_speech.audio import decoding
from dino_speech.audio.decoding import SAMPLE_RATE, AudioError, AudioInfo, StrPath, header_of, open_audio
from dino_speech.errors import InputError

SILENT_DBFS = -70.0  # ours: a quiet but usable recording of speech has -50 dBFS or more
CLIPPED_LEVEL = 0.999
CLIPPED_FRACTION = 1e-3  # ours: a peak-normalised file has one sample at full scale, a clipped one has many


def seconds_to_samples(seconds: float, sample_rate: int = SAMPLE_RATE) -> int:
    """The one rounding rule from seconds to samples: to the nearest, halves upward.

    Example:
        >>> seconds_to_samples(2.0), seconds_to_samples(1.5 / 16_000)
        (32000, 2)
    """
    if not math.isfinite(seconds) or seconds < 0:
        raise InputError(f"{seconds} seconds: expected a finite number that is not negative")
    return math.floor(seconds * sample_rate + 0.5)


def audio_info(path: StrPath) -> AudioInfo:
    """Length, rate and channels of a file, from its header; AudioError where it has none, or no samples."""
    with open_audio(path) as file:
        return header_of(file)


def load_audio(
    path: StrPath,
    *,
    start: int = 0,
    stop: int | None = None,
    sample_rate: int = SAMPLE_RATE,
    max_s: float = math.inf,
) -> Tensor:
    """Read a file, or a span of it, as a mono wave.

    Channels are averaged. Only the span is decoded (with a margin where the resampler or the codec needs one), so that
    `load_audio(path, start=a, stop=b)` equals `load_audio(path)[a:b]`: to the bit in wav and flac, and in Vorbis, Opus
    and mp3 within the first 20 s of a file; to 1e-5 after resampling. Beyond 20 s Opus may differ by some 1e-3.

    Args:
        path: an audio file of any rate and number of channels.
        start: first sample of the span, counted at `sample_rate`; at least 0.
        stop: end of the span, exclusive; None, or anything beyond the end, means the end of the file.
        sample_rate: rate of the result in Hz.
        max_s: a longer span is refused before it is decoded.

    Returns:
        (time,) float32; in [-1, 1], unless the file itself holds floats beyond.

    Raises:
        AudioError: the file is missing, empty or corrupt, has no samples in the span, or NaN or Inf there, or more
            than `max_s`.

    Example:
        >>> import soundfile, tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp(), "stereo.wav")
        >>> soundfile.write(path, np.zeros((8_000, 2)), 8_000)
        >>> load_audio(path).shape, load_audio(path, start=1_600, stop=4_800).shape
        (torch.Size([16000]), torch.Size([3200]))
    """
    with open_audio(path) as file:
        info = header_of(file)
        num_samples = info.num_samples_at(sample_rate)
        stop = num_samples if stop is None else min(stop, num_samples)
        if not 0 <= start < stop:
            raise AudioError(
                f"{path}: no samples in the span {start}..{stop}: the file has {num_samples} samples at"
                f" {sample_rate} Hz ({info.duration_s:.3f} s); check start, stop and duration in the manifest"
            )
        if stop - start > max_s * sample_rate:
            raise AudioError(
                f"{path}: {(stop - start) / sample_rate:.0f} s in one piece; expected at most {max_s:g} s: name parts"
                " of it by start and stop in a manifest (segment_manifest does), or allow more by max_s (--max-s)"
            )
        if info.sample_rate == sample_rate:
            wave = decoding.decode_mono(file, start, stop)
        else:
            wave = decoding.decode_resampled(file, start, stop, sample_rate)
    if not np.isfinite(wave).all():
        raise AudioError(f"{path}: holds NaN or Inf samples; write the file again, or leave it out of the manifest")
    return torch.from_numpy(wave)


@dataclass(frozen=True, slots=True)
class AudioJudgement:
    """What `judge_audio` found: whether the file can be trained on (a clipped one can), and why it is not fine.

    `verdict` is "fine", "clipped", "silent", "short", "non_finite" or "unreadable". `rms_dbfs` is the level without its
    constant offset, `clipped_fraction` the share of samples at full scale or above; what is unknown is None.
    """

    ok: bool
    verdict: str
    reason: str | None
    info: AudioInfo | None
    notes: tuple[str, ...] = ()
    rms_dbfs: float | None = None
    clipped_fraction: float | None = None


def judge_audio(path: StrPath, *, min_s: float = 0.4) -> AudioJudgement:
    """Decode a whole file and say whether it is fit to learn from, and if not, why. A bad file does not raise.

    Files of fewer than `min_s` seconds are "short".
    """
    info = None
    try:
        with open_audio(path) as file:
            info = header_of(file)
            notes = _notes(file)
            finite, rms, clipped = _level(decoding.decode_blocks(file, 0, info.num_samples))
    except AudioError as error:
        return AudioJudgement(False, "unreadable", str(error).removeprefix(f"{path}: "), info)
    if finite < 1:
        return AudioJudgement(False, "non_finite", f"{1 - finite:.2%} of the samples are NaN or Inf", info, notes)
    rms_dbfs = round(20 * math.log10(max(rms, 1e-10)), 2)
    ok, verdict, reason = _verdict(info.duration_s, min_s, rms_dbfs, clipped)
    return AudioJudgement(ok, verdict, reason, info, notes, rms_dbfs, clipped)


def _level(blocks: Iterable[np.ndarray]) -> tuple[float, float, float]:
    """Share of finite samples, root mean square of the loudest channel without its offset, share at full scale."""
    num, counts, sums = 0, np.zeros(2), np.zeros((2, 1))
    with np.errstate(invalid="ignore"):
        for block in blocks:  # (time, channels); together they may be larger than memory
            num += block.size
            counts = np.add(counts, [np.isfinite(block).sum(), (np.abs(block) >= CLIPPED_LEVEL).sum()])
            values = block.astype(np.float64)
            sums = np.add(sums, [values.sum(axis=0), np.square(values).sum(axis=0)])  # (2, channels)
        mean, square = sums * sums.shape[1] / num
        deviation = np.sqrt(np.maximum(square - np.square(mean), 0)).max()
    return float(counts[0] / num), float(deviation), float(counts[1] / num)


def _verdict(duration_s: float, min_s: float, rms_dbfs: float, clipped: float) -> tuple[bool, str, str | None]:
    if duration_s < min_s:
        return False, "short", f"{duration_s:.3f} s long; expected at least {min_s:g} s"
    if rms_dbfs < SILENT_DBFS:
        return False, "silent", f"level {rms_dbfs:.0f} dBFS; expected at least {SILENT_DBFS:.0f} dBFS"
    if clipped > CLIPPED_FRACTION:
        return True, "clipped", f"{clipped:.1%} of the samples are at full scale"
    return True, "fine", None


def _notes(file: soundfile.SoundFile) -> tuple[str, ...]:
    notes = [f"{file.channels} channels, averaged on reading"] if file.channels > 1 else []
    if file.samplerate < SAMPLE_RATE:
        notes.append(f"upsampled from {file.samplerate} Hz: holds nothing above {file.samplerate / 2000:g} kHz")
    elif file.samplerate > SAMPLE_RATE:
        notes.append(f"resampled from {file.samplerate} Hz")
    return tuple(notes)


AUDIO_SUFFIXES = (
    *(".aif", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".sph", ".w64", ".wav"),
    *decoding.FFMPEG_SUFFIXES,
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
    """Every audio file below a folder, sorted by path; AudioError where there is none, or no such folder."""
    if not Path(folder).is_dir():
        raise AudioError(f"{folder}: no such folder; give the folder that holds the audio files")
    found = sorted(filter(is_audio, walk_files(folder)))
    if not found:
        raise AudioError(f"{folder}: no audio found; expected files ending in {' '.join(AUDIO_SUFFIXES)}")
    return found
