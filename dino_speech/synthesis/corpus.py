"""The built-in corpus: synthetic speakers, recorded through random channels, as files with manifests and trials.

It lets a person see the whole method work without any data. It is synthetic: a figure on it compares settings of
this software with each other, and says nothing about real speech.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dino_speech.audio.io import SAMPLE_RATE
from dino_speech.errors import InputError
from dino_speech.synthesis.voices import EMOTIONS, random_voice, speak

_VERSION = 2  # raise it when a change of the synthesiser makes other files from the same settings
_SETTINGS = "corpus.json"


@dataclass(frozen=True, slots=True)
class SyntheticCorpus:
    """Where the corpus lies: two manifests of different speakers, and trials over the second."""

    train: Path
    test: Path
    trials: Path


@dataclass(frozen=True, slots=True)
class _Recording:
    """One file to be made; its own seed, so that no file depends on how many others there are."""

    name: str
    speaker: str
    emotion: str
    seed: tuple[int, int, int, int]


def synthesize_corpus(
    folder: str | Path,
    *,
    num_train: int = 320,
    num_train_speakers: int = 80,
    num_test_speakers: int = 20,
    num_test_files: int = 8,
    seed: int = 1986,
    overwrite: bool = False,
) -> SyntheticCorpus:
    """Write a corpus of synthetic voices, or use the one that is there if it was made with the same settings.

    Speakers differ by pitch, vocal-tract length, their own formants, voice quality and rate; emotions by prosody and
    vocal effort. Every file is another utterance (2.5 to 5 s) through another channel (response, level, noise).
    The speakers of `train.csv` and `test.csv` are different people.

    Args:
        folder: is made; receives `wav/*.wav` (16 kHz, 16 bits), `train.csv`, `test.csv`, `trials.txt`, `corpus.json`.
        num_train, num_train_speakers: training files, and the speakers that they are spread over.
        num_test_speakers: other speakers, at least 2.
        num_test_files: files per test speaker, at least 2; the four emotions in turn.
        seed: same seed, same files, sample by sample.
        overwrite: replace a synthetic corpus of other settings that is there, instead of refusing.

    Raises:
        InputError: too few files or speakers for a trial list, or the folder holds a corpus of other settings.
    """
    sizes = {"num_train": num_train, "num_train_speakers": num_train_speakers}
    sizes |= {"num_test_speakers": num_test_speakers, "num_test_files": num_test_files}
    if num_train < 1 or num_train_speakers < 1 or num_test_speakers < 2 or num_test_files < 2:
        raise InputError(
            "a synthetic corpus needs at least 1 training file and speaker, 2 test speakers and 2 files of each; got "
            + ", ".join(f"{name}={size}" for name, size in sizes.items())
        )
    folder = Path(folder)
    settings = {"synthetic": True, "version": _VERSION, **sizes, "seed": seed}
    corpus = SyntheticCorpus(folder / "train.csv", folder / "test.csv", folder / "trials.txt")
    train = list(_recordings("a", num_train_speakers, num_train, seed, group=0))
    test = list(_recordings("b", num_test_speakers, num_test_speakers * num_test_files, seed, group=1))
    if _is_complete(folder, settings, train + test, overwrite=overwrite):
        return corpus
    (folder / "wav").mkdir(parents=True, exist_ok=True)
    _write_manifest(corpus.train, [_write(folder, recording) for recording in train])
    _write_manifest(corpus.test, [_write(folder, recording) for recording in test])
    _write_trials(corpus.trials, test, np.random.default_rng([seed, 2]))
    # Last: a folder whose making was interrupted has no settings and is made again.
    (folder / _SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return corpus


def _recordings(prefix: str, num_speakers: int, num_files: int, seed: int, *, group: int) -> Iterator[_Recording]:
    """Files in rounds over the speakers; a speaker's emotion moves on with every round, from a different start."""
    emotions = list(EMOTIONS)
    for index in range(num_files):
        take, speaker = divmod(index, num_speakers)
        emotion = emotions[(take + speaker) % len(emotions)]
        name = f"{prefix}{speaker:03d}_{take:02d}_{emotion}"
        yield _Recording(name, f"{prefix}{speaker:03d}", emotion, (seed, group, speaker, take + 1))


def _is_complete(folder: Path, settings: dict[str, int], recordings: list[_Recording], *, overwrite: bool) -> bool:
    path = folder / _SETTINGS
    if not path.exists():
        return False
    found, files = json.loads(path.read_text(encoding="utf-8")), list((folder / "wav").glob("*.wav"))
    if found == settings:
        return {recording.name for recording in recordings} <= {file.stem for file in files}
    if not overwrite:
        other = f"{folder} holds a synthetic corpus of other settings ({found}); wanted {settings}"
        raise InputError(f"{other}. Name another folder, or delete this one")
    path.unlink()  # first: from here on the folder is an unfinished one
    for file in files:
        file.unlink()
    return False


def _write(folder: Path, recording: _Recording) -> dict[str, str]:
    """Make one file; its row of the manifest."""
    import soundfile

    seed, group, speaker, _ = recording.seed
    voice = random_voice(np.random.default_rng([seed, group, speaker, 0]))
    rng = np.random.default_rng(recording.seed)
    wave = speak(voice, EMOTIONS[recording.emotion], duration_s=rng.uniform(2.5, 5.0), rng=rng)
    path = Path("wav") / f"{recording.name}.wav"
    soundfile.write(folder / path, record(wave, rng=rng), SAMPLE_RATE, subtype="PCM_16")
    named = {"ID": recording.name, "duration": f"{wave.size / SAMPLE_RATE:.4f}", "wav": path.as_posix()}
    return {**named, "speaker": recording.speaker, "emotion": recording.emotion}


def record(wave: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Send a wave through a random channel: frequency response, coloured noise, level.

    Without it a speaker's mean spectrum would give him away; with it, as on telephones and cheap microphones, the
    mean spectrum is as much the channel's as the speaker's. (time,) at 16 kHz -> (time,) float32, its peak below 1.
    """
    from scipy.fft import irfft, next_fast_len, rfft

    size = next_fast_len(wave.size, real=True)
    hz = np.arange(size // 2 + 1) * SAMPLE_RATE / size
    knots_hz = np.array([0, 150, 300, 600, 1200, 2000, 3000, 4200, 5600, 8000])
    response_db = np.interp(hz, knots_hz, 3.5 * rng.standard_normal(knots_hz.size))
    low_hz, high_hz = rng.uniform(40, 200), rng.uniform(5500, 8000)
    response_db -= 24 * np.log2(np.maximum(low_hz / np.maximum(hz, 10.0), 1.0))
    response_db -= 60 * np.log2(np.maximum(hz / high_hz, 1.0))
    recorded = irfft(rfft(wave, size) * 10 ** (response_db / 20), size)[: wave.size]
    color = np.maximum(hz, 30.0) ** rng.uniform(-0.8, 0.0)
    noise = irfft(rfft(rng.standard_normal(wave.size), size) * color, size)[: wave.size]
    snr_db = rng.uniform(18.0, 38.0)
    recorded += noise * np.sqrt(np.mean(recorded**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
    recorded *= 10 ** (rng.uniform(-32.0, -18.0) / 20) / np.sqrt(np.mean(recorded**2))
    return (recorded / max(1.0, np.abs(recorded).max() / 0.98)).astype(np.float32)


def _write_manifest(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _write_trials(path: Path, recordings: list[_Recording], rng: np.random.Generator, *, ratio: int = 3) -> None:
    """Every pair of files of one speaker, and `ratio` times as many pairs of different speakers."""
    pairs = [(a, b) for index, a in enumerate(recordings) for b in recordings[index + 1 :]]
    same = [pair for pair in pairs if pair[0].speaker == pair[1].speaker]
    other = [pair for pair in pairs if pair[0].speaker != pair[1].speaker]
    chosen = rng.choice(len(other), min(len(other), ratio * len(same)), replace=False)
    lines = [f"1 {a.name} {b.name}" for a, b in same] + [f"0 {other[i][0].name} {other[i][1].name}" for i in chosen]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
