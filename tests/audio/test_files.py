"""Sound files in folders: what is found, names that are no text, and formats that ffmpeg decodes."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dino_speech.audio.decoding import FFMPEG_FORMATS
from dino_speech.audio.io import AudioError, audio_info, find_audio, judge_audio, load_audio

Tone = Callable[..., np.ndarray]
WriteWav = Callable[..., Path]
FFMPEG = """#!{python}
import shutil, sys
assert sys.argv[-2] == "pcm_s16le", sys.argv
if "broken" in sys.argv[sys.argv.index("-i") + 1]:
    sys.exit("moov atom not found")
shutil.copy({wave!r}, sys.argv[-1])
"""


def test_finding_audio(tmp_path: Path, write_wav: WriteWav, tone: Tone) -> None:
    for name in ("b/2.wav", "a/1.WAV", "a/.hidden.wav", ".cache/3.wav"):
        write_wav(name, tone(0.1))
    (tmp_path / "a" / "notes.txt").write_text("not audio")
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert find_audio(tmp_path) == [tmp_path / "a" / "1.WAV", tmp_path / "b" / "2.wav"]


def test_finding_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no audio found"):
        find_audio(tmp_path)
    with pytest.raises(AudioError, match="no such folder"):
        find_audio(tmp_path / "absent")


def test_a_name_that_is_no_text_has_its_cure(tmp_path: Path, write_wav: WriteWav, tone: Tone) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")
    os.replace(write_wav("ok.wav", tone(0.5)), path)  # noqa: PTH105
    assert find_audio(tmp_path) == [Path(path)]
    with pytest.raises(AudioError, match=r"caf\\xe9\.wav: its name is not UTF-8 text, which a manifest is; rename"):
        audio_info(path)


@pytest.fixture
def ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tone: Tone) -> None:
    """A program of that name, which takes every file for the same second of sound at 44.1 kHz."""
    soundfile.write(tmp_path / "second.wav", np.stack([tone(1.0, sample_rate=44_100)] * 2, axis=1), 44_100)
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(FFMPEG.format(python=sys.executable, wave=str(tmp_path / "second.wav")))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))


@pytest.mark.usefixtures("ffmpeg")
def test_what_libsndfile_does_not_know_is_decoded_by_ffmpeg(tmp_path: Path) -> None:
    (tmp_path / "phone.M4A").write_bytes(b"\0\0\0 ftypM4A ")
    assert find_audio(tmp_path) == [tmp_path / "phone.M4A", tmp_path / "second.wav"]
    assert (audio_info(tmp_path / "phone.M4A").sample_rate, judge_audio(tmp_path / "phone.M4A").ok) == (44_100, True)
    span = load_audio(tmp_path / "phone.M4A", start=4_000, stop=8_000)
    assert span.equal(load_audio(tmp_path / "second.wav", start=4_000, stop=8_000))
    (tmp_path / "broken.wma").write_bytes(b"0&")
    with pytest.raises(AudioError, match=r"broken\.wma: ffmpeg does not decode it \(moov atom not found\); copy"):
        load_audio(tmp_path / "broken.wma")


@pytest.mark.parametrize("suffix", FFMPEG_FORMATS)
def test_without_ffmpeg_such_a_file_has_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / f"phone{suffix}").write_bytes(b"\0\0\0 ftypM4A ")
    expected = rf"phone\{suffix}: {suffix[1:]} is decoded by ffmpeg, which is not installed; install it, or convert it"
    with pytest.raises(AudioError, match=expected):
        audio_info(tmp_path / f"phone{suffix}")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
@pytest.mark.parametrize("suffix", FFMPEG_FORMATS)
def test_ffmpeg_itself(tmp_path: Path, write_wav: WriteWav, tone: Tone, suffix: str) -> None:
    import subprocess

    wave = write_wav("a.wav", tone(1.0))
    encoded = tmp_path / f"b{suffix}"
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(wave), str(encoded)], check=True)
    assert len(load_audio(encoded)) == pytest.approx(16_000, abs=3_000)  # such codecs pad
