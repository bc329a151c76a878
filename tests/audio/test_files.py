"""Sound files in folders: what is found, names that are no text, and formats that ffmpeg decodes."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dino_speech.audio.decoding import FFMPEG_SUFFIXES
from dino_speech.audio.io import AudioError, audio_info, find_audio, judge_audio, load_audio

Tone = Callable[..., np.ndarray]
WriteWav = Callable[..., Path]


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


@pytest.mark.parametrize("suffix", FFMPEG_SUFFIXES)
def test_what_libsndfile_does_not_know_is_decoded_by_ffmpeg(encode, tmp_path: Path, suffix: str) -> None:
    file = encode(f"a{suffix}").rename(tmp_path / f"-a phone's:{suffix.upper()}")
    assert file in find_audio(tmp_path)
    assert judge_audio(file).ok
    whole, original = load_audio(file), load_audio(tmp_path / "second.wav")
    assert load_audio(file, start=4_000, stop=8_000).equal(whole[4_000:8_000])
    assert len(whole) == pytest.approx(16_000, abs=1_500)  # such codecs pad; m4a and mp4 say by how much
    lags = [torch.corrcoef(torch.stack([whole[k : k + 12_000], original[:12_000]]))[0, 1] for k in (0, 372)]
    assert suffix == ".wma" or max(lags) > 0.99  # 1,024 samples of 44.1 kHz are 371.5 of ours


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("a.m4a", (), "moov atom not found"),
        ("a.mp4", ("-movflags", "+faststart"), ".*"),
        ("a.aac", (), ".*"),
        ("a.wma", (), ".*"),
    ],
)
def test_a_half_copied_one_is_refused(encode, name: str, options: tuple[str, ...], reason: str) -> None:
    file = encode(name, *options)
    os.truncate(file, file.stat().st_size * 2 // 3)
    with pytest.raises(
        AudioError, match=rf"{name}: ffmpeg does not decode it \({reason}\); copy it again, or convert it"
    ):
        load_audio(file)


def test_a_phone_may_name_one_as_another(encode, tmp_path: Path) -> None:
    """Content decides; but no list of further files is followed."""
    expected = load_audio(encode("a.m4a"))
    assert load_audio((tmp_path / "a.m4a").rename(tmp_path / "b.aac")).equal(expected)
    (tmp_path / "list.m4a").write_text("ffconcat version 1.0\nfile second.wav\n")
    with pytest.raises(AudioError, match=r"list\.m4a: ffmpeg does not decode it"):
        load_audio(tmp_path / "list.m4a")


@pytest.mark.parametrize("suffix", FFMPEG_SUFFIXES)
def test_without_ffmpeg_such_a_file_has_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    (tmp_path / f"phone{suffix}").write_bytes(b"\0\0\0 ftypM4A ")
    expected = rf"phone\{suffix}: {suffix[1:]} is decoded by ffmpeg, which is not installed; install it, or pip install"
    with pytest.raises(AudioError, match=expected):
        audio_info(tmp_path / f"phone{suffix}")
