"""An utterance longer than an encoder takes in one piece is refused with its length, before it is decoded."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dino_speech import load_encoder
from dino_speech.cli.main import main
from dino_speech.embedding.to_disk import embed_to_folder
from dino_speech.errors import InputError
from dino_speech.models.embed_files import Span


@pytest.fixture
def two_hours(tmp_path: Path) -> Path:
    """A FLAC of a low rate, so that it is soon written; 460 MB once it is decoded at 16 kHz."""
    path = tmp_path / "two_hours.flac"
    noise = np.random.default_rng(0).standard_normal(10_000)
    soundfile.write(path, np.concatenate([0.1 * noise, np.zeros(7_190_000)]), 1_000)
    return path


def test_two_hours_cost_nothing(two_hours: Path) -> None:
    encoder = load_encoder("fbank_stats")
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"flac: 7200 s in one piece; expected at most 1800 s: name parts .*max_s"):
            encoder.embed_file(two_hours)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()
    assert encoder.embed_file(two_hours, start=16_000, stop=48_000).isfinite().all()


def test_a_length_of_ones_own(two_hours: Path) -> None:
    encoder = load_encoder("fbank_stats")
    spans = [Span(str(two_hours), 0, seconds * 16_000) for seconds in (2, 3)]
    found = encoder.embed_files(spans, max_s=2.0, on_error="skip")
    assert len(found.ids) == len(found.failures) == 1
    assert "3 s in one piece; expected at most 2 s" in found.failures[0].reason
    np.testing.assert_array_equal(found.embeddings, encoder.embed_files(spans[:1]).embeddings)
    with pytest.raises(InputError, match="max_s=0: expected a positive number of seconds"):
        encoder.embed_files(spans, max_s=0)


def test_the_command_says_the_cure(two_hours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "short.wav", 0.1 * np.random.default_rng(0).standard_normal(16_000), 16_000)
    words = ["embed", str(tmp_path), "--encoder", "fbank_stats", "--output", f"{tmp_path}/out/", "--json"]
    assert main(words) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["num_embedded"] == 1
    assert [item["name"] for item in answer["skipped"]] == ["two_hours.flac"]
    assert "or allow more by max_s (--max-s)" in answer["skipped"][0]["reason"]


def test_another_length_is_another_run(tmp_path: Path, voices_folder: Path) -> None:
    encoder, output = load_encoder("fbank_stats"), tmp_path / "parts"
    report = embed_to_folder([voices_folder], encoder, output, max_s=1.6)
    assert (report.num_embedded, len(report.skipped)) == (8, 8)
    with pytest.raises(InputError, match="max_s differ"):
        embed_to_folder([voices_folder], encoder, output)
    run = json.loads((output / "run.json").read_text())
    del run["max_s"]  # as it was written before there was a limit
    (output / "run.json").write_text(json.dumps(run))
    embed_to_folder([voices_folder], encoder, output)
