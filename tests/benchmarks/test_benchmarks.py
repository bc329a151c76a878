"""Every benchmark runs at tiny sizes and answers in the same form; the command that runs all writes JSON and tables."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import all as all_benchmarks
import bench_augment
import bench_features
import bench_long_run
import bench_manifest
import bench_metrics
import bench_training
import bench_trials
import pytest
from memory import measure_memory, rows

from dino_speech.models.registry import ENCODERS

TIMES = {"median_ms", "low_ms", "high_ms", "best_ms"}


def answer(main: Callable[[list[str]], None], words: list[str], capsys: pytest.CaptureFixture[str]) -> dict:
    main([*words, "--json", "--no-memory"])
    found: dict = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert all(time.keys() >= TIMES for time in found["time_ms"].values())
    assert all(time["low_ms"] <= time["median_ms"] <= time["high_ms"] for time in found["time_ms"].values())
    return found


@pytest.mark.slow
def test_augmentation(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_augment, "NUM_UTTERANCES", 4)
    monkeypatch.setattr(bench_augment, "NUM_SOUNDS", 1)
    found = answer(bench_augment.main, all_benchmarks.BENCHMARKS["augment"], capsys)
    assert set(found["time_ms"]) == {"ours", "ours, speech in memory", "audiomentations"}
    with pytest.raises(SystemExit):
        bench_augment.main(["--peer", "sslsv=/no/such/folder"])
    assert "expected sslsv=PATH" in capsys.readouterr().err


def test_features(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(bench_features.main, all_benchmarks.BENCHMARKS["features"], capsys)
    assert set(found["time_ms"]) == {"ours", "SpeechBrain", "torchaudio"}


@pytest.mark.slow
def test_metrics(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, number in (("SMALL", 1_000), ("NUM_FILES", 200), ("ROWS", 1_000)):
        monkeypatch.setattr(bench_metrics, name, number)
    found = answer(bench_metrics.main, ["--large", "2000", "--rounds", "1", "--resamples", "5"], capsys)
    assert {"small: eer", "large: min_dcf", "small: bootstrap_5", "large: bootstrap_1"} <= set(found["time_ms"])


@pytest.mark.slow
def test_training_from_memory_files_and_shards(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*all_benchmarks.BENCHMARKS["training"], "--num-workers", "0", "--min-steps", "2"]
    found = answer(bench_training.main, words, capsys)
    assert set(found["time_ms"]) == set(found["data_wait_fraction"]) == {"memory", "files", "shards"}
    assert found["shards_over_memory"]["median"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name"), [(bench_manifest, "manifest"), (bench_trials, "trials"), (bench_long_run, "long_run")]
)
def test_load_is_measured(
    module: ModuleType, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ENCODERS, "known", dict(ENCODERS.known))  # what a benchmark registers stays its own
    sizes = [] if name == "long_run" else ["--sizes", "100"]  # each is a process of its own
    module.main([*all_benchmarks.BENCHMARKS[name], *sizes, "--json"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert all(row["mib"] >= 0 for row in found.get("rows", []) or found["tenths"])


@pytest.mark.slow
def test_all_writes_json_and_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(all_benchmarks.BENCHMARKS, "features", ["--no-such-option"])
    words = ["--quick", "--no-memory", "--output", str(tmp_path / "a" / "found"), "--only", "loss", "features"]
    assert all_benchmarks.main(words) == 1  # one fails, and the other is there
    found = json.loads((tmp_path / "a" / "found.json").read_text())
    assert set(found["benchmarks"]["loss"]["time_ms"]) == {"ours", "loop", "loop_one_softmax_per_view"}
    assert "no-such-option" in found["benchmarks"]["features"]["error"][0]
    text = (tmp_path / "a" / "found.md").read_text()
    assert "python tests/benchmarks/bench_loss.py --json --batch 2" in text
    assert "| ours |" in text
    assert "failed: " in text


def test_peak_memory_is_of_the_case_and_a_table_shows_both() -> None:
    found = measure_memory(lambda: bytearray(64 * 2**20), rounds=1)
    assert found["peak_mib"] - found["built_mib"] > 40
    times = {"one": dict.fromkeys((*TIMES, "processor_ms"), 1234.5), "two": dict.fromkeys(TIMES, 0.5)}
    table = rows({"time_ms": times, "memory_mib": {"one": found, "three": {"peak_mib": 7.0}}})
    assert table[2].startswith("| one | 1,234 | 1,234 to 1,234 | 1,234 | 1,234 |")
    assert table[3] == "| two | 0.5 | 0.5 to 0.5 | 0.5 |  |  |"
    assert table[4] == "| three |  |  |  |  | 7, 0 |"
