"""The benchmark of the loss runs, and at K = 65,536 its two implementations agree."""

import json

import bench_loss
import pytest
from interleaved import time_interleaved


def test_ours_equals_the_loop_at_full_size_and_keeps_two_thirds_of_its_memory(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bench_loss.main(["--batch", "2", "--rounds", "2", "--json", "--no-memory"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["setting"]["num_prototypes"] == 65_536
    assert found["loss_difference"] < 1e-5
    assert found["gradient_difference"] < 1e-5
    kept = found["kept_for_backward"]
    assert kept["ours"] <= 1.5
    assert kept["ours"] <= 0.67 * kept["loop"]


def test_cases_take_turns_and_warm_up() -> None:
    order: list[str] = []
    timings = time_interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3, warmup=1)
    assert "".join(order) == "abababab"
    assert all(timing.low_ms <= timing.median_ms <= timing.high_ms for timing in timings.values())
