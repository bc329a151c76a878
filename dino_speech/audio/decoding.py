"""Open a file, decode a span of it, resample: what `io.py` is made of. Positions here are at the file's own rate.

Decoding is libsndfile's (wav, flac, Ogg Vorbis, Opus, mp3, aiff, ...), resampling is soxr's.
"""

import math
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from dino_speech.audio.sources import file_of, is_plain_file, open_bytes, printable
from dino_speech.audio.urls import UnusableURLError, is_url
from dino_speech.errors import InputError

SAMPLE_RATE = 16_000
StrPath = str | os.PathLike[str]

# libsndfile's seeks in these formats are not exact: Vorbis may land some blocks away near the end of a file (libsndfile
# issue 885), and Opus and mp3 decoders need to hear what came before. So decoding begins at the start of the file where
# that is cheap (Opus: 1.7 ms per second of speech), and otherwise some seconds ahead of the span. Measured on a file of
# 278 s: 2 s ahead make Vorbis and mp3 exact; 4 s ahead make Opus exact in 14 reads of 15, the rest within 1.5e-3.
INEXACT_SEEK_FORMATS = ("OGG", "MP3")
DECODE_FROM_START_S = 20.0
PREROLL_S = 4.0
FFMPEG_SUFFIXES = (".aac", ".m4a", ".mp4", ".wma")
# ffmpeg's names of what may lie under them: phones write any of it as any other, and some formats open further files.
FFMPEG_FORMATS = "aac,asf,mov,mp3,wav"
FFMPEG_TIMEOUT_S = 600.0  # ours: some hours of sound
# Of a wav: what its header promises beyond this is a copy that was cut off, below it an oddity of who wrote it. # ours
CUT_OFF_S = 0.1
STREAMED_BYTES = 0x7FFFF000  # from here on a length stands for "not known": what programs write that stream a wav
# Longer than the resampler's filter on either side: 0.02 s is where a span at 8 kHz comes out right.
RESAMPLER_MARGIN_S = 0.1

BLOCK = 1 << 23  # values, of all channels, decoded at a time: nine minutes at 16 kHz
LONGEST_S = 6 * 3600.0  # ours: of what is decoded at once, 1.4 GB at 16 kHz; a small file can decode to any length
MOST_SAMPLES = 48_000 * int(LONGEST_S)  # of a channel, at whatever rate: 4.1 GB
RATES_HZ = (1_000, 1_000_000)  # ours: beyond, no recording of speech, and a resampler that takes minutes and gigabytes


class AudioError(InputError):
    """A file that cannot give the samples asked of it; the message names the file, what was found and the cure."""


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What the header of a file says; `num_samples` counts samples per channel at the file's own `sample_rate`."""

    num_samples: int
    sample_rate: int
    num_channels: int
    duration_s: float

    def num_samples_at(self, sample_rate: int = SAMPLE_RATE) -> int:
        """Number of samples that `load_audio` gives for the whole file at `sample_rate` (Hz)."""
        return _rescale(self.num_samples, self.sample_rate, sample_rate)


@contextmanager
def open_audio(path: StrPath) -> Iterator[soundfile.SoundFile]:
    """Open a file, or another place of `sources.py`; whatever libsndfile complains of becomes an `AudioError`.

    What libsndfile does not know (`FFMPEG_SUFFIXES`) is first made into a wav by ffmpeg, each time anew.
    """
    place = os.fspath(path)
    if not is_url(place):
        _refuse_absent(place)
    try:
        with ExitStack() as stack:
            if needs_ffmpeg(place):
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                source: str | BinaryIO = _by_ffmpeg(Path(place), f"{folder}/sound.wav")
            else:
                source = place if is_plain_file(place) else open_bytes(place)
            yield stack.enter_context(_Sound(source, place))
    except FileNotFoundError as error:
        raise AudioError(f"{place}: no such file; check the path in the manifest") from error
    except UnusableURLError as error:
        raise AudioError(str(error)) from error
    except (soundfile.LibsndfileError, OSError) as error:
        if is_url(place) and isinstance(error, OSError):
            raise AudioError(f"{place}: cannot be fetched ({error}); check the address, and that it answers") from error
        found = str(error).rpartition(": ")[2].strip(" .")
        found = "no known audio format" if "does not exist" in found else found  # what mpg123 says of garbage
        raise AudioError(
            f"{place}: cannot be decoded: corrupt, or of another format ({found}); copy it again, or {_convert(place)}"
        ) from error


def needs_ffmpeg(place: str) -> bool:
    """Whether a place is a file of `FFMPEG_SUFFIXES`."""
    return is_plain_file(place) and Path(place).suffix.lower() in FFMPEG_SUFFIXES


class _Sound(soundfile.SoundFile):
    """A sound at a place; `name` is the place, also where libsndfile reads from a Python object."""

    def __init__(self, source: str | BinaryIO, place: str) -> None:
        self._place = place
        super().__init__(source)

    @property
    def name(self) -> str:
        return self._place


def _by_ffmpeg(path: Path, wave: str) -> str:
    """The sound of a file as a wav; only the file itself is read. AudioError: it is damaged, or cut off."""
    program = find_ffmpeg()
    if program is None:
        cure = f"install it, or pip install 'dino-speech[ffmpeg]', or {_convert(str(path))}"
        raise AudioError(f"{path}: {path.suffix.lower()[1:]} is decoded by ffmpeg, which is not installed; {cure}")
    source = ["-protocol_whitelist", "file", "-format_whitelist", FFMPEG_FORMATS, "-i", f"file:{path.absolute()}"]
    # xerror: else what is left of a half-copied file would count as whole.
    command = [program, "-nostdin", "-v", "error", "-xerror", *source, "-vn", "-c:a", "pcm_s16le", wave]
    try:
        done = subprocess.run(command, capture_output=True, timeout=FFMPEG_TIMEOUT_S, check=False)
        first = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0]  # the others follow from it
        reason = re.sub(r"^(\[[^\]]*\] )+", "", first)
    except subprocess.TimeoutExpired:
        reason = f"not done after {FFMPEG_TIMEOUT_S:.0f} s"
    if not Path(wave).is_file() or done.returncode:
        raise AudioError(f"{path}: ffmpeg does not decode it ({reason}); copy it again, or {_convert(str(path))}")
    return wave


def find_ffmpeg() -> str | None:
    """The program on the PATH, else the one that the extra `ffmpeg` brings."""
    found = shutil.which("ffmpeg")
    if found is None:
        with suppress(ImportError, RuntimeError):  # RuntimeError: it has none for this machine
            from imageio_ffmpeg import get_ffmpeg_exe

            found = get_ffmpeg_exe()
    return found


def _refuse_absent(place: str) -> None:
    if printable(place) != place:
        raise AudioError(f"{printable(place)}: its name is not UTF-8 text, which a manifest is; rename the file")
    path = Path(file_of(place))
    if not os.path.isfile(path):  # noqa: PTH113  (Path lets a name through that is too long for the system)
        what = "is a folder, not a file" if os.path.isdir(path) else "no such file"  # noqa: PTH112
        raise AudioError(f"{path}: {what}; check the path (in a manifest it is relative to the manifest's folder)")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: empty file (0 bytes); copy it again, or leave it out of the manifest")


def _convert(place: str) -> str:
    if not is_plain_file(place):
        return "write it again from its source"
    path = Path(place)
    return f"convert it: ffmpeg -i {path.name} -ac 1 -ar {SAMPLE_RATE} {path.stem}_16k.wav"


def header_of(file: soundfile.SoundFile) -> AudioInfo:
    """What the header says; AudioError: no samples, an unknown number (a flac written to a pipe), or more than a wav
    holds.
    """
    if file.frames <= 0:
        raise AudioError(f"{file.name}: holds no samples; copy it again, or leave it out of the manifest")
    if not RATES_HZ[0] <= file.samplerate <= RATES_HZ[1]:
        problem = f"{file.name}: its header says {file.samplerate} Hz; expected {RATES_HZ[0]} to {RATES_HZ[1]}"
        raise AudioError(f"{problem}: copy it again, or leave it out of the manifest")
    if file.frames > 2**48:
        raise AudioError(f"{file.name}: its header does not say how long it is; {_convert(file.name)}")
    duration_s = file.frames / file.samplerate
    promised_s = _promised_s(file, duration_s)
    if promised_s > duration_s + CUT_OFF_S:
        problem = f"{file.name}: cut off: its header promises {promised_s:.2f} s, and it holds {duration_s:.2f} s"
        raise AudioError(f"{problem}; copy it again, or leave it out of the manifest")
    return AudioInfo(file.frames, file.samplerate, file.channels, duration_s)


def _promised_s(file: soundfile.SoundFile, duration_s: float) -> float:
    """Seconds that the header of a wav promises: libsndfile goes by what is there, and remarks on it in its log."""
    log = file.extra_info if file.format.startswith("WAV") else ""
    found = re.search(r"^data : (\d+) \(should be (\d+)\)", log, re.MULTILINE)
    if found is None or int(found[1]) >= STREAMED_BYTES or not int(found[2]):
        return duration_s
    return duration_s * int(found[1]) / int(found[2])


def decode_blocks(file: soundfile.SoundFile, start: int, stop: int) -> Iterator[np.ndarray]:
    """Samples start..stop of every channel, in blocks (time, channels) float32. AudioError: the file ends before."""
    if stop - start > min(LONGEST_S * file.samplerate, MOST_SAMPLES):
        most_h = min(LONGEST_S, MOST_SAMPLES / file.samplerate) / 3600
        problem = f"{file.name}: {(stop - start) / file.samplerate / 3600:.1f} hours at once; expected"
        raise AudioError(f"{problem} at most {most_h:g}: name parts of it by start and stop in the manifest")
    inexact, first = file.format in INEXACT_SEEK_FORMATS, start
    if inexact:
        near = start <= DECODE_FROM_START_S * file.samplerate
        first = 0 if near else start - math.ceil(PREROLL_S * file.samplerate)
    if first:
        file.seek(first)
    position, whole = first, True
    while whole and position < stop:
        wanted = min(stop - position, max(1, BLOCK // file.channels))
        block = file.read(wanted, dtype="float32", always_2d=True)
        position, whole = position + len(block), len(block) == wanted  # what follows a gap is not what it seems
        if position > start:
            yield block[max(0, start - position + len(block)) :]
    missing = stop - max(position, start)
    # The header of an mp3 may promise a frame or two more than there are.
    if missing > (0.1 * file.samplerate if inexact else 0) or position <= start:
        problem = f"{file.name}: cut off or damaged: {missing} of the samples {start}..{stop} do not decode"
        raise AudioError(f"{problem} though its header promises them; copy it again, or leave it out of the manifest")


def decode_mono(file: soundfile.SoundFile, start: int, stop: int) -> np.ndarray:
    """Samples start..stop, averaged over the channels: (stop - start,) float32."""
    wave, end = np.empty(0, np.float32), 0
    for block in decode_blocks(file, start, stop):
        if not end:  # memory is taken as it is filled: a header may promise more than there is
            wave = np.empty(stop - start, np.float32)
        end += len(block)
        wave[end - len(block) : end] = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
    return wave[:end]


def decode_resampled(file: soundfile.SoundFile, start: int, stop: int, new_rate: int) -> np.ndarray:
    """Samples start..stop counted at `new_rate` (Hz), of the whole file resampled, from a part of it: float32."""
    divisor = math.gcd(file.samplerate, new_rate)
    step, new_step = file.samplerate // divisor, new_rate // divisor
    margin = math.ceil(RESAMPLER_MARGIN_S * new_rate)
    # Begin where an output sample coincides with an input sample: the two grids meet at every `new_step` outputs.
    meeting = max(0, start - margin) // new_step
    last = min(file.frames, _rescale(stop + margin, new_rate, file.samplerate) + 1)
    wave = decode_mono(file, meeting * step, last)
    wave = resample(wave, file.samplerate, new_rate)[start - meeting * new_step :]
    # soxr may round the very last sample of a file away; the length is ours to say.
    return np.pad(wave[: stop - start], (0, max(0, stop - start - len(wave))))


def resample(wave: np.ndarray, sample_rate: int, new_rate: int) -> np.ndarray:
    """Resample (time,) float32 from `sample_rate` to `new_rate` (Hz); time 0 stays where it is."""
    import soxr

    # VHQ computes in float64, so that a span of a file gives the very samples that the whole file gives.
    return np.asarray(soxr.resample(wave, sample_rate, new_rate, quality="VHQ"), dtype=np.float32)


def _rescale(num_samples: int, sample_rate: int, new_rate: int) -> int:
    """`num_samples * new_rate / sample_rate` to the nearest, halves upward, in integers."""
    return (2 * num_samples * new_rate + sample_rate) // (2 * sample_rate)
