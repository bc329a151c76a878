"""Long recordings as rows of fixed length."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dino_speech.audio.io import load_audio
from dino_speech.data.derived_manifests import segment_manifest
from dino_speech.data.manifest import Manifest, Utterance, read_manifest, write_manifest
from dino_speech.errors import InputError


def recordings(*seconds: float) -> Manifest:
    return Manifest([Utterance(f"r{i}", f"/r{i}.wav", s, labels={"speaker": f"s{i}"}) for i, s in enumerate(seconds)])


def test_segments_cover_a_recording_and_keep_its_labels() -> None:
    found = segment_manifest(recordings(12.0, 13.0, 3.0), segment_s=5.0)
    assert [u.id for u in found] == ["r0.s000", "r0.s001", "r1.s000", "r1.s001", "r1.s002", "r2.s000"]
    assert [(u.start, u.stop, u.duration) for u in found][2:5] == [
        (0, 80_000, 5.0),
        (80_000, 160_000, 5.0),
        (160_000, None, 3.0),
    ]
    assert (found[5].start, found[5].stop, found[5].duration) == (None, None, 3.0)
    assert found[4].labels == {"speaker": "s1", "recording": "r1"}
    assert found.columns == ("speaker", "recording")


def test_spans_of_a_file_are_cut_inside_the_span() -> None:
    span = Manifest([Utterance("a", "/a.wav", 11.0, 1_000, 177_000, {"recording": "tape7"})])
    found = segment_manifest(span, segment_s=5.0, min_s=1.0)
    assert [(u.start, u.stop) for u in found] == [(1_000, 81_000), (81_000, 161_000), (161_000, 177_000)]
    assert {u.labels["recording"] for u in found} == {"tape7"}


def test_overlapping_segments_are_all_whole() -> None:
    found = segment_manifest(recordings(10.0), segment_s=4.0, hop_s=2.0)
    assert [(u.start, u.duration) for u in found] == [(0, 4.0), (32_000, 4.0), (64_000, 4.0), (96_000, 4.0)]


def test_segments_read_back_as_the_recording(write_wav: Callable[..., Path], tone, tmp_path: Path) -> None:
    wave = tone(2.3)
    path = write_wav("a.wav", wave)
    cut = segment_manifest(Manifest([Utterance("a", str(path), 2.3)]), segment_s=1.0, min_s=0.1)
    rows = read_manifest(write_manifest(cut, tmp_path / "segments.csv"))
    parts = [load_audio(row.wav, start=row.start or 0, stop=row.stop).numpy() for row in rows]
    assert np.allclose(np.concatenate(parts), load_audio(path).numpy())


def test_wrong_lengths_are_refused() -> None:
    for options in ({"segment_s": 0.0}, {"segment_s": 1.0, "hop_s": 2.0}, {"segment_s": 1.0, "min_s": 0.0}):
        with pytest.raises(InputError, match="expected 0 < hop_s"):
            segment_manifest(recordings(3.0), **options)
