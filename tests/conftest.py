"""Factories that several test files share: tones, small voices, the real speech where it is present."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Before torch is there. Small tensors gain nothing from a second thread, and on shared cores its waiting costs ten
# times the work: pytest-xdist takes the cores, one thread a worker. What a test starts inherits it.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import processes
import pytest
import soundfile
import torch

if TYPE_CHECKING:
    from dino_speech.data.manifest import Manifest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    torch.set_num_threads(1)  # also where torch was imported before this file
    yield
    processes.stop()


@pytest.fixture
def memory_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    """fsspec's storage in memory stands in for a bucket: no other protocol can be had without a network."""
    monkeypatch.setattr("dino_speech.audio.urls.PROTOCOLS", ("s3", "memory", "flaky", "file", "nothing"))


@pytest.fixture
def tone() -> Callable[..., np.ndarray]:
    """A tone with a little noise: `tone(1.5, hz=220.0, seed=0)` gives (time,) float32 at 16 kHz."""

    def make(duration_s: float, *, hz: float = 220.0, sample_rate: int = 16_000, seed: int = 0) -> np.ndarray:
        time = np.arange(round(duration_s * sample_rate)) / sample_rate
        noise = np.random.default_rng(seed).standard_normal(time.size)
        return (0.3 * np.sin(2 * np.pi * hz * time) + 0.01 * noise).astype(np.float32)

    return make


@pytest.fixture
def write_wav(tmp_path: Path) -> Callable[..., Path]:
    """Write samples to a file below tmp_path and return its path; folders are made."""

    def write(name: str, wave: np.ndarray, *, sample_rate: int = 16_000) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, wave, sample_rate)
        return path

    return write


@pytest.fixture
def encode(tmp_path: Path, tone: Callable[..., np.ndarray]) -> Callable[..., Path]:
    """A second of stereo sound at 44.1 kHz in a file of the suffix asked, made by ffmpeg."""
    from dino_speech.audio.decoding import find_ffmpeg

    program = find_ffmpeg()
    if program is None:
        pytest.skip("no ffmpeg: pip install 'dino-speech[ffmpeg]', which the extra `test` holds")
    wave = tmp_path / "second.wav"
    soundfile.write(wave, np.stack([tone(1.0, sample_rate=44_100)] * 2, axis=1), 44_100)

    def call(name: str, *options: str) -> Path:
        subprocess.run([program, "-v", "error", "-i", str(wave), *options, str(tmp_path / name)], check=True)
        return tmp_path / name

    return call


@pytest.fixture
def voices_folder(all_voices: Path, tmp_path: Path) -> Path:
    """A copy of `all_voices` of one's own."""
    return Path(shutil.copytree(all_voices, tmp_path / "voices"))


@pytest.fixture(scope="session")
def all_voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`<speaker>/<n>.wav` and `manifest.csv`: 4 speakers x 4 files of harmonic sounds, 1.2-2.1 s. To be read only."""
    folder = tmp_path_factory.mktemp("all_voices")
    rng = np.random.default_rng(7)
    rows = ["ID,duration,wav,speaker,emotion"]
    for speaker in range(4):
        for number in range(4):
            duration_s = 1.2 + 0.3 * number
            time = np.arange(round(duration_s * 16_000)) / 16_000
            hz = (90 + 45 * speaker) * (1 + 0.05 * rng.standard_normal())
            wave = sum(np.sin(2 * np.pi * hz * k * time) / k ** (1 + 0.2 * speaker) for k in range(1, 12))
            wave = 0.1 * wave * (1 + 0.5 * np.sin(2 * np.pi * (2 + number) * time)) + 0.005 * rng.standard_normal(
                time.size
            )
            path = folder / f"spk{speaker}" / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, wave.astype(np.float32), 16_000)
            emotion = "happy" if number % 2 else "neutral"
            rows.append(f"spk{speaker}_{number},{duration_s:.3f},spk{speaker}/{number}.wav,spk{speaker},{emotion}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def clinic(tmp_path: Path) -> "Callable[..., Manifest]":
    """`clinic(in_silence=True)`: 10 patients, 10 controls, 2.6 s each, told by the colour of the pause's noise only;
    `in_voice`: by the voice only. `pause_s` gives a pause's length by class."""

    def make(
        *, in_silence: bool = False, in_voice: bool = False, pause_s: tuple[float, float] = (1.0, 1.0)
    ) -> "Manifest":
        rows = ["ID,duration,wav,speaker,diagnosis,age,sex,split"]
        for number in range(20):
            rng, ad = np.random.default_rng(number), number % 2 == 0
            # A patient and a control share the noise of their pause, so that it tells nothing, not even by chance.
            noise = np.random.default_rng(100 + number // 2).standard_normal(round(16_000 * pause_s[0 if ad else 1]))
            noise *= 3e-4
            if in_silence and ad:
                noise = np.convolve(noise, np.ones(8) / 3, mode="same")
            words = [_word(rng, steep=in_voice and ad) for _ in range(2)]
            wave = np.concatenate([words[0], noise, words[1]]).astype(np.float32)
            soundfile.write(tmp_path / f"{number}.wav", wave, 16_000, subtype="FLOAT")
            sex, split = "FM"[number // 2 % 2], "test" if number < 10 else "train"
            labels = f"s{number},{'ad' if ad else 'control'},{60 + number},{sex},{split}"
            rows.append(f"r{number},{len(wave) / 16_000},{number}.wav,{labels}")
        (tmp_path / "clinic.csv").write_text("\n".join(rows) + "\n")
        from dino_speech.data.manifest import read_manifest

        return read_manifest(tmp_path / "clinic.csv")

    return make


def _word(rng: np.random.Generator, *, steep: bool) -> np.ndarray:
    """0.8 s of harmonics; a steep spectrum is what a patient's voice has here."""
    time, hz = np.arange(12_800) / 16_000, rng.uniform(100, 220)
    tilt = 2.5 if steep else 1.0
    wave = sum(np.sin(2 * np.pi * hz * k * time) / k**tilt for k in range(1, 15))
    return 0.1 * wave + 3e-4 * rng.standard_normal(time.size)


@pytest.fixture
def data_root() -> Path:
    """Folder of the real recorded speech; the test is skipped where it is absent."""
    folder = Path(os.environ.get("DINO_SPEECH_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "speakers_more" / "manifest.csv").exists():
        pytest.skip(f"real speech is not at {folder}: set DINO_SPEECH_DATA to the folder that holds speakers_more/")
    return folder
