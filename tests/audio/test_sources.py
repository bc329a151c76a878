"""A sound is the same wherever its bytes lie: in a file, within an archive, behind a URL."""

from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile
import torch

from dino_speech.audio.decoding import AudioError
from dino_speech.audio.io import audio_info, judge_audio, load_audio
from dino_speech.audio.sources import exists, file_of, is_plain_file, join_place, member_place, open_bytes


@pytest.fixture
def sounds(tmp_path: Path, tone) -> dict[str, Path]:
    """The same tone as `name` in several formats."""
    found = {}
    for suffix, options in {"wav": {}, "flac": {}, "ogg": {"format": "OGG", "subtype": "OPUS"}, "mp3": {}}.items():
        found[suffix] = tmp_path / f"tone.{suffix}"
        soundfile.write(found[suffix], tone(3.0), 16_000, **options)
    return found


def archive_with(path: Path, sounds: dict[str, Path]) -> dict[str, str]:
    places, data = {}, b"\1" * 777
    for suffix, sound in sounds.items():
        places[suffix] = member_place(str(path), len(data), sound.stat().st_size)
        data += sound.read_bytes() + b"\2" * 55
    path.write_bytes(data)
    return places


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_member_of_an_archive_equals_the_file(tmp_path, sounds, suffix):
    place = archive_with(tmp_path / "a.tar", sounds)[suffix]
    assert audio_info(place) == audio_info(sounds[suffix])
    assert torch.equal(load_audio(place), load_audio(sounds[suffix]))
    span = load_audio(place, start=20_000, stop=30_000)
    assert torch.equal(span, load_audio(sounds[suffix], start=20_000, stop=30_000))
    assert judge_audio(place).ok


@pytest.mark.usefixtures("memory_urls")
def test_a_place_behind_a_url_equals_the_file(tmp_path, sounds):
    places = archive_with(tmp_path / "a.tar", sounds)
    system = fsspec.filesystem("memory")
    system.pipe("/corpus/a.tar", (tmp_path / "a.tar").read_bytes())
    system.pipe("/corpus/tone.wav", sounds["wav"].read_bytes())
    remote = places["flac"].replace(str(tmp_path), "memory://corpus")
    assert torch.equal(load_audio(remote, start=1_000, stop=9_000), load_audio(sounds["flac"], start=1_000, stop=9_000))
    assert torch.equal(load_audio("memory://corpus/tone.wav"), load_audio(sounds["wav"]))
    assert exists("memory://corpus/a.tar")
    assert not exists("memory://corpus/b.tar")
    with pytest.raises(AudioError, match=r"memory://corpus/gone.wav: no such file"):
        load_audio("memory://corpus/gone.wav")
    with pytest.raises(AudioError, match=r"nothing://a.wav"):
        load_audio("nothing://a.wav")


def test_only_the_span_is_read_of_a_long_member(tmp_path):
    long = tmp_path / "long.wav"
    soundfile.write(long, np.random.default_rng(0).uniform(-0.1, 0.1, 60 * 16_000), 16_000)
    place = archive_with(tmp_path / "a.tar", {"wav": long})["wav"]
    raw = open_bytes(place).raw
    counted = 0
    read = type(raw).readinto

    def counting(self, buffer):
        nonlocal counted
        counted += (number := read(self, buffer))
        return number

    type(raw).readinto = counting
    try:
        wave = load_audio(place, start=800_000, stop=816_000)
    finally:
        type(raw).readinto = read
    assert torch.equal(wave, load_audio(long, start=800_000, stop=816_000))
    assert counted < 0.2 * long.stat().st_size


def test_an_archive_written_anew_is_read_anew(tmp_path, sounds, tone):
    archive = tmp_path / "a.tar"
    place = archive_with(archive, sounds)["wav"]
    load_audio(place)
    soundfile.write(sounds["wav"], -tone(3.0), 16_000)
    new = tmp_path / "b.tar"
    archive_with(new, sounds)
    new.replace(archive)
    assert torch.equal(load_audio(place), load_audio(sounds["wav"]))


def test_what_is_wrong_with_a_member_is_said(tmp_path, sounds):
    place = archive_with(tmp_path / "a.tar", sounds)["wav"]
    with pytest.raises(AudioError, match=r"b\.tar: no such file"):
        load_audio(place.replace("a.tar", "b.tar"))
    with pytest.raises(AudioError, match=r"archive of \d+ bytes.*write it again from its source"):
        load_audio(member_place(str(tmp_path / "a.tar"), 10**6, 5_000))
    with pytest.raises(AudioError, match="cannot be decoded"):
        load_audio(member_place(str(tmp_path / "a.tar"), 5, 700))


def test_places_are_joined_and_taken_apart():
    assert join_place("/data", "x/../a.wav") == "/data/a.wav"
    assert join_place("s3://bucket/set", "./a.tar#1,2") == "s3://bucket/set/a.tar#1,2"
    assert join_place("/data", "s3://bucket/a.wav") == "s3://bucket/a.wav"
    assert file_of("s3://b/a.tar#1,2") == "s3://b/a.tar"
    assert file_of("odd#name.wav") == "odd#name.wav"
    assert [is_plain_file(place) for place in ("a.wav", "a.tar#1,2", "s3://b/a.wav")] == [True, False, False]
