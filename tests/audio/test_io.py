"""Reading files: every format, rate and channel count; spans equal slices; each kind of bad file has its message."""

import csv
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
import torch

from dino_speech.audio.decoding import resample
from dino_speech.audio.io import (
    AudioError,
    audio_info,
    judge_audio,
    load_audio,
    seconds_to_samples,
)
from dino_speech.errors import InputError

Tone = Callable[..., np.ndarray]
WriteWav = Callable[..., Path]


def chirp(duration_s: float, sample_rate: int, *, to_hz: float = 3500.0) -> np.ndarray:
    """A sweep with noise: every stretch of it differs from every other, as in speech."""
    time = np.arange(round(duration_s * sample_rate)) / sample_rate
    sweep = scipy.signal.chirp(time, f0=80.0, t1=duration_s, f1=to_hz)
    noise = np.random.default_rng(5).standard_normal(time.size)
    return (0.4 * sweep + 0.05 * noise).astype(np.float32)


@pytest.mark.parametrize(
    ("seconds", "samples"), [(0.0, 0), (2.0, 32_000), (7.615, 121_840), (0.4 / 16_000, 0), (0.5 / 16_000, 1)]
)
def test_one_rounding_rule(seconds: float, samples: int) -> None:
    assert seconds_to_samples(seconds) == samples


@pytest.mark.parametrize("seconds", [-0.1, float("nan"), float("inf")])
def test_rounding_refuses_what_is_no_duration(seconds: float) -> None:
    with pytest.raises(InputError, match="not negative"):
        seconds_to_samples(seconds)


@pytest.mark.parametrize(
    ("name", "format", "subtype", "tolerance"),
    [
        ("a.wav", "WAV", "PCM_16", 4e-5),
        ("a24.wav", "WAV", "PCM_24", 1e-6),
        ("float.wav", "WAV", "FLOAT", 0.0),
        ("a.flac", "FLAC", "PCM_16", 4e-5),
        ("a.sph", "NIST", "PCM_16", 4e-5),
        ("a.ogg", "OGG", "VORBIS", 0.1),
        ("a.opus", "OGG", "OPUS", 0.1),
        ("a.mp3", "MP3", "MPEG_LAYER_III", 0.1),
    ],
)
def test_formats(tmp_path: Path, tone: Tone, name: str, format: str, subtype: str, tolerance: float) -> None:
    wave = tone(1.0)
    soundfile.write(tmp_path / name, wave, 16_000, format=format, subtype=subtype)
    loaded = load_audio(tmp_path / name)
    assert loaded.dtype == torch.float32
    assert loaded.shape == (16_000,)
    assert np.abs(loaded.numpy() - wave).max() <= tolerance


def test_channels_are_averaged(write_wav: WriteWav, tone: Tone) -> None:
    left, right = tone(0.5, hz=300.0), tone(0.5, hz=500.0, seed=1)
    path = write_wav("stereo.wav", np.stack([left, right], axis=1))
    assert audio_info(path).num_channels == 2
    np.testing.assert_allclose(load_audio(path).numpy(), (left + right) / 2, atol=4e-5)


@pytest.mark.parametrize("sample_rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_resampling_agrees_with_scipy(tmp_path: Path, sample_rate: int) -> None:
    wave = chirp(1.3, sample_rate, to_hz=3000.0)
    soundfile.write(tmp_path / "a.wav", wave, sample_rate, subtype="FLOAT")
    loaded = load_audio(tmp_path / "a.wav").numpy()
    ratio = np.gcd(16_000, sample_rate)
    window = ("kaiser", 12.0)
    independent = scipy.signal.resample_poly(wave, 16_000 // ratio, sample_rate // ratio, window=window)
    assert abs(len(loaded) - 1.3 * 16_000) <= 1
    assert len(loaded) == audio_info(tmp_path / "a.wav").num_samples_at()
    # Compared below both filters' transition bands, and away from the ends.
    sos = scipy.signal.butter(8, 2500.0, fs=16_000, output="sos")
    apart = scipy.signal.sosfiltfilt(sos, loaded - independent[: len(loaded)])[1600:-1600]
    assert np.sqrt(np.mean(apart**2)) < 1e-3


@pytest.mark.parametrize("sample_rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("num_channels", [1, 2])
def test_a_span_equals_the_slice(tmp_path: Path, sample_rate: int, num_channels: int) -> None:
    wave = chirp(3.1, sample_rate)
    soundfile.write(tmp_path / "a.flac", np.stack([wave, wave[::-1]][:num_channels], axis=1), sample_rate)
    whole = load_audio(tmp_path / "a.flac")
    spans = [(0, 16_000), (1, 17), (12_345, 28_001), (40_000, len(whole)), (len(whole) - 1, len(whole)), (159, 161)]
    for start, stop in spans:
        span = load_audio(tmp_path / "a.flac", start=start, stop=stop)
        assert span.shape == (stop - start,)
        assert (span - whole[start:stop]).abs().max() <= (0.0 if sample_rate == 16_000 else 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "format", "subtype"), [("a.ogg", "OGG", "VORBIS"), ("a.opus", "OGG", "OPUS"), ("a.mp3", "MP3", None)]
)
def test_a_span_of_a_codec_equals_the_slice(tmp_path: Path, name: str, format: str, subtype: str | None) -> None:
    # Longer than what is decoded from its start: the last spans are reached by a seek, which is where codecs go wrong.
    wave = np.tile(chirp(6.5, 16_000), 5)
    with soundfile.SoundFile(tmp_path / name, "w", 16_000, 1, format=format, subtype=subtype) as file:
        for start in range(0, len(wave), 16_000):  # in pieces: libsndfile's Vorbis encoder cannot take it at once
            file.write(wave[start : start + 16_000])
    whole = load_audio(tmp_path / name)
    for start in (0, 5_003, 100_000, 319_999, 330_001, 400_000, len(whole) - 5_000, len(whole) - 300):
        stop = min(start + 16_000, len(whole))
        apart = (load_audio(tmp_path / name, start=start, stop=stop) - whole[start:stop]).abs().max()
        assert apart <= (5e-3 if subtype == "OPUS" and start > 320_000 else 1e-6)


@pytest.mark.slow
@pytest.mark.corpus
@pytest.mark.parametrize("pack", ["speakers_more", "speakers_mixed", "emotion_urdu"])
def test_spans_of_real_files_are_exact(data_root: Path, pack: str) -> None:
    with (data_root / pack / "manifest.csv").open() as file:
        paths = [data_root / pack / row["path"] for row in csv.DictReader(file)]
    rng = np.random.default_rng(0)
    for path in rng.choice(np.array(paths, dtype=object), 25, replace=False):
        whole = load_audio(path)
        for start in rng.integers(0, len(whole) - 200, size=3).tolist():
            span = load_audio(path, start=start, stop=start + 16_000)
            assert torch.equal(span, whole[start : start + 16_000]), path


def test_a_stop_beyond_the_end_means_the_end(write_wav: WriteWav, tone: Tone) -> None:
    path = write_wav("a.wav", tone(1.0))
    assert load_audio(path, start=15_000, stop=99_999).shape == (1_000,)


@pytest.mark.parametrize(("start", "stop"), [(16_000, None), (-1, 10), (500, 500), (700, 600)])
def test_an_empty_span_names_the_file_and_its_length(write_wav: WriteWav, tone: Tone, start: int, stop: int) -> None:
    path = write_wav("a.wav", tone(1.0))
    with pytest.raises(AudioError, match=r"a\.wav: no samples in the span .* 16000 samples"):
        load_audio(path, start=start, stop=stop)


def damaged(folder: Path, kind: str) -> Path:
    """One file of each kind that cannot be read."""
    wave = chirp(2.0, 16_000)
    rng = np.random.default_rng(1)
    path = folder / f"{kind}.{'wav' if kind in ('empty', 'garbage', 'no_samples', 'nan', 'inf') else 'flac'}"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "garbage":
        path.write_bytes(rng.bytes(20_000))
    elif kind == "no_samples":
        soundfile.write(path, wave[:0], 16_000)
    elif kind in ("nan", "inf"):
        wave[700:720] = float(kind)
        soundfile.write(path, wave, 16_000, subtype="FLOAT")
    elif kind == "folder":
        path.mkdir()
    elif kind != "missing":
        soundfile.write(path, wave, 16_000)
        content = bytearray(path.read_bytes())
        if kind == "cut_off":
            content = content[: len(content) // 2]
        elif kind == "overwritten":
            content[8_000:10_000] = rng.bytes(2_000)
        elif kind == "piped":  # a flac written to a pipe: its header says 0 samples, "unknown"
            content[21] &= 0xF0
            content[22:26] = bytes(4)
        path.write_bytes(bytes(content))
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no such file"),
        ("folder", "is a folder"),
        ("empty", r"empty file \(0 bytes\)"),
        ("garbage", "no known audio format.*ffmpeg -i garbage.wav"),
        ("no_samples", "holds no samples"),
        ("nan", "NaN or Inf"),
        ("inf", "NaN or Inf"),
        ("cut_off", "corrupt.*(lost sync|psf_fseek)"),
        ("overwritten", "corrupt, or of another format"),
        ("piped", "does not say how long"),
    ],
)
def test_bad_files_name_the_file_what_was_found_and_the_cure(tmp_path: Path, kind: str, message: str) -> None:
    path = damaged(tmp_path, kind)
    with pytest.raises(AudioError, match=message) as caught:
        load_audio(path)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert not judge_audio(path).ok


@pytest.mark.parametrize(("name", "subtype"), [("a.ogg", "VORBIS"), ("a.opus", "OPUS")])
def test_a_damaged_ogg_does_not_pass_for_a_shorter_one(tmp_path: Path, name: str, subtype: str) -> None:
    soundfile.write(tmp_path / name, chirp(3.0, 16_000), 16_000, format="OGG", subtype=subtype)
    content = bytearray((tmp_path / name).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2_000] = np.random.default_rng(1).bytes(2_000)
    (tmp_path / name).write_bytes(bytes(content))
    with pytest.raises(AudioError, match=r"damaged: .* do not decode"):
        load_audio(tmp_path / name)


def test_judging_usable_files(tmp_path: Path, write_wav: WriteWav, tone: Tone) -> None:
    fine = judge_audio(write_wav("fine.wav", tone(1.0)))
    assert (fine.ok, fine.verdict, fine.reason, fine.notes) == (True, "fine", None, ())
    assert fine.rms_dbfs == pytest.approx(20 * np.log10(np.std(tone(1.0))), abs=0.02)
    stereo = write_wav("stereo.wav", np.stack([tone(1.0, sample_rate=8_000)] * 2, axis=1), sample_rate=8_000)
    telephone = judge_audio(stereo)
    assert telephone.ok
    assert "nothing above 4 kHz" in " ".join(telephone.notes)
    assert "2 channels" in " ".join(telephone.notes)
    assert load_audio(stereo).shape == (16_000,)
    clipped = judge_audio(write_wav("clipped.wav", np.clip(5 * tone(1.0), -1, 1)))
    assert (clipped.ok, clipped.verdict) == (True, "clipped")
    assert 0.3 < (clipped.clipped_fraction or 0) < 1


@pytest.mark.parametrize(("subtype", "kind"), [("PCM_16", "WAV"), ("FLOAT", "WAV"), ("PCM_24", "WAVEX")])
def test_a_wav_that_was_half_copied_is_not_taken_for_a_whole_one(tmp_path: Path, tone: Tone, subtype, kind) -> None:
    path = tmp_path / "half.wav"
    soundfile.write(path, tone(2.0), 16_000, subtype=subtype, format=kind)
    whole = path.read_bytes()
    assert judge_audio(path).ok
    path.write_bytes(whole[: len(whole) // 2])
    found = r"cut off: its header promises 2\.00 s, and it holds 1\.00 s; copy it again"
    assert re.match(found, judge_audio(path).reason or "")
    for read in (audio_info, load_audio):
        with pytest.raises(AudioError, match=f"half.wav: {found}"):
            read(path)
    path.write_bytes(whole[:-2])  # an oddity of who wrote it
    assert judge_audio(path).ok


@pytest.mark.parametrize("length", [2**32 - 1, 0x7FFFF000, 0x7FFFFFFF])
def test_a_wav_that_was_streamed_is_whole(tmp_path: Path, tone: Tone, length: int) -> None:
    path = tmp_path / "streamed.wav"
    soundfile.write(path, tone(1.0), 16_000, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    assert data[36:40] == b"data"
    data[40:44] = length.to_bytes(4, "little")
    path.write_bytes(data)
    assert (audio_info(path).num_samples, judge_audio(path).ok) == (16_000, True)


@pytest.mark.parametrize(
    ("wave", "verdict"),
    [
        (np.zeros(16_000), "silent"),
        (np.full(16_000, 0.25), "silent"),
        (1e-4 * np.sin(np.arange(16_000)), "silent"),
        (0.1 * np.sin(np.arange(3_200)), "short"),
    ],
)
def test_judging_unusable_files(write_wav: WriteWav, wave: np.ndarray, verdict: str) -> None:
    judgement = judge_audio(write_wav("bad.wav", wave.astype(np.float32)), min_s=0.4)
    assert (judgement.ok, judgement.verdict) == (False, verdict)
    assert "expected at least" in (judgement.reason or "")


def test_judging_says_how_much_is_not_finite(tmp_path: Path) -> None:
    judgement = judge_audio(damaged(tmp_path, "nan"))
    assert judgement.verdict == "non_finite"
    assert "0.06%" in (judgement.reason or "")


def test_resample_keeps_time_zero() -> None:
    pulse = np.zeros(4_410, dtype=np.float32)
    pulse[2_205] = 1.0  # at 0.05 s
    assert int(np.argmax(resample(pulse, 44_100, 16_000))) == 800


@pytest.mark.parametrize(
    ("promised", "found"), [(300_000_000, "cannot be decoded|cut off"), (2**32 - 1, "hours at once")]
)
def test_a_header_that_promises_hours_of_a_second_costs_no_memory(tmp_path, tone, promised, found) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, tone(1.0), 16_000)
    data = bytearray(path.read_bytes())
    data[22:26] = promised.to_bytes(4, "big")  # total samples of STREAMINFO, low 32 bits
    path.write_bytes(data)
    with pytest.raises(AudioError, match=found):
        load_audio(path)


def test_many_hours_at_once_are_refused_with_the_cure(write_wav, tone, monkeypatch) -> None:
    monkeypatch.setattr("dino_speech.audio.decoding.LONGEST_S", 0.5)
    path = write_wav("a.wav", tone(1.0))
    with pytest.raises(AudioError, match=r"hours at once.*start and stop"):
        load_audio(path)
    assert len(load_audio(path, stop=8_000)) == 8_000


def test_long_recordings_are_decoded_in_blocks(write_wav, tone, monkeypatch) -> None:
    path = write_wav("a.wav", tone(1.0))
    whole = load_audio(path)
    monkeypatch.setattr("dino_speech.audio.decoding.BLOCK", 3_000)
    assert torch.equal(load_audio(path), whole)
    assert torch.equal(load_audio(path, start=100, stop=6_100), whole[100:6_100])
