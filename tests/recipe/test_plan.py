"""The plan of a large run: by hand where a hand suffices, and the page shows what the script prints."""

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from dino_speech import MultiCrop

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "pages" / "clusters.md"
CROPS = MultiCrop(num_long=2, long_s=3.0, num_short=4, short_s=1.5)


@pytest.fixture(scope="module")
def plan() -> ModuleType:
    path = ROOT / "recipes" / "YourSpeech" / "dino" / "plan.py"
    spec = importlib.util.spec_from_file_location("plan", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_network_is_counted_on_the_real_parts(plan: ModuleType) -> None:
    network = plan.measure_network(512, 65_536, CROPS)
    assert network.last_layer == 65_536 * 256
    assert 28e6 < network.parameters < 29e6
    # 31 layers in ECAPA and one in its shortcut, once per length of view, and two in the head.
    assert network.norm_calls == 66
    # Student 12 s forward, twice that backward; teacher 6 s.
    assert network.backward_share == pytest.approx(24 / 42, rel=0.02)


def test_storage_rates_and_rings_by_hand(plan: ModuleType) -> None:
    assert plan.storage_tb(1e6, 0.5, 24.0) == pytest.approx({"wav": 115.2, "flac": 57.6, "opus": 10.8})
    assert plan.rates(128) == {"lr": 2e-3, "teacher_momentum": 0.996, "center_momentum": 0.9}
    assert plan.rates(512)["lr"] == pytest.approx(4e-3)
    assert plan.rates(256)["teacher_momentum"] == pytest.approx(0.996 * 0.996)
    network = plan.Network(parameters=999, last_layer=0, norm_calls=10, flops=1.0, backward_share=0.5)
    options = plan.parse(["--utterances-per-s", "100", "--num-prototypes", "999", "--latency-us", "1"])
    alone, node, nodes = (plan.exchange(network, num, options) for num in (1, 8, 16))
    assert (alone["within_bytes"], alone["between_bytes"]) == (0, 0)
    assert (node["within_bytes"], node["between_bytes"]) == (2 * 7 / 8 * 4 * 1999, 0)
    assert (nodes["within_bytes"], nodes["between_bytes"]) == (2 * 7 / 8 * 4 * 1999, 4 * 1999)
    assert node["sync_batchnorm_s"] == pytest.approx(10 * 2 * 3e-6)
    row = plan.plan_row(network, 1, 5.0, options)
    assert (row["efficiency"], row["efficiency_synced"], row["step_ms"]) == (1.0, 1.0, 640.0)
    assert row["hours_per_pass"] == pytest.approx(450e6 / 100 / 3600)


def test_crops_span_what_plans_say(plan: ModuleType) -> None:
    assert plan.crop_span_s(CROPS, 3.0) == pytest.approx(3.0)  # a long view is all there is
    assert 5.5 < plan.crop_span_s(CROPS, 8.0) < 7.0


@pytest.mark.slow
def test_the_page_shows_what_the_script_prints(plan: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """One column of the page's table per command, the three numbers of devices in each cell."""
    page = PAGE.read_text("utf-8")
    commands = re.findall(r"^python \S+/plan.py (.+)$", page, re.MULTILINE)
    cells = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    shown = {name: values for name, _, *values in cells if len(values) == len(commands)}
    assert len(commands) == 2
    assert len(shown) == 9
    for column, command in enumerate(commands):
        plan.main(shlex.split(command))
        printed = capsys.readouterr().out.splitlines()
        rows = {name: values for name, *values in (line.strip("| ").split(" | ") for line in printed if "| `" in line)}
        assert {name: values[column] for name, values in shown.items()} == {
            name: "/".join(rows[name]) for name in shown
        }
