"""Reports and pictures: what is written can be read back, and what matplotlib draws is what was given."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile  # noqa: F401  (loaded before matplotlib is hidden below)

from dino_speech.errors import InputError
from dino_speech.evaluation.reports import pictures
from dino_speech.evaluation.reports.report_file import escaped, write_report
from dino_speech.intervals import Interval

PNG = b"\x89PNG"


def test_report_in_markdown_and_json(tmp_path: Path) -> None:
    picture = tmp_path / "out" / "pictures" / "det.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(PNG)
    rows = [
        {"encoder": "before", "eer": 31.23456, "interval": Interval(28.0, 34.0, 0.95)},
        {"encoder": "after | best", "eer": np.float32(20.5), "trials": 10, "uar": math.nan},
    ]
    path = write_report(
        tmp_path / "out",
        "Quickstart",
        {"Results": rows, "Nothing": []},
        {"DET curve": picture, "Elsewhere": "/other/x.png"},
        {"seed": 7, "path": tmp_path},
        notes={"What this is": "Synthetic speech.\n"},
    )
    text = path.read_text()
    assert text.startswith("# Quickstart\n\n## What this is\n\nSynthetic speech.\n")
    assert "| encoder | eer | interval | trials | uar |" in text
    assert "| before | 31.23 | 28 to 34 | - | - |" in text
    assert "| after \\| best | 20.5 | - | 10 | - |" in text
    assert "![DET curve](pictures/det.png)" in text
    assert "![Elsewhere](/other/x.png)" in text
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    interval = {"low": 28.0, "high": 34.0, "confidence": 0.95, "method": "bootstrap"}
    assert found["tables"]["Results"][0]["interval"] == interval
    assert found["tables"]["Results"][1]["uar"] is None
    assert found["provenance"]["seed"] == 7


def scores(separation: float, num: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(num) % 2
    return rng.standard_normal(num) + separation * labels, labels


def test_det_plot_shows_every_system_with_its_eer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    monkeypatch.setattr(pictures, "save_figure", lambda figure, path: kept.append(figure) or Path(path))
    pictures.det_plot(tmp_path / "det.png", {"before": scores(0.5), "after": scores(2.0), "perfect": ([1, 0], [1, 0])})
    axes = kept[0].axes[0]
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert [name.split(" (")[0] for name in names] == ["before", "after", "perfect"]
    assert names[2] == "perfect (EER 0.0 %)"
    before, after = axes.lines[0].get_xydata(), axes.lines[1].get_xydata()
    assert len(before) <= pictures.MAX_DRAWN
    # Unit normals give a straight line of slope -1 on these axes, through EER = normal(-separation / 2).
    middle = after[np.abs(after[:, 0] + 1) < 0.3]
    assert middle.sum(axis=1) == pytest.approx(-2.0, abs=0.25)


@pytest.mark.slow
def test_pictures_are_written(tmp_path: Path) -> None:
    assert pictures.det_plot(tmp_path / "new" / "det.png", {"one": scores(1.0)}).read_bytes()[:4] == PNG
    rng = np.random.default_rng(0)
    labels = [f"speaker {i % 30}" for i in range(120)]
    embeddings = {"before": rng.standard_normal((120, 8)), "after": rng.standard_normal((120, 8)).astype(np.float32)}
    for method in ("tsne", "pca"):
        picture = pictures.embedding_plot(tmp_path / f"{method}.png", embeddings, labels, method=method)
        assert picture.read_bytes()[:4] == PNG
    history = [
        {"step": 1, "loss": 8.0, "note": "x"},
        {"step": 2, "loss": math.nan, "monitor": {"eer": 30.0}},
        {"step": 3, "loss": 7.0},
    ]
    assert b"<svg" in pictures.training_plot(tmp_path / "training.svg", history).read_bytes()


def test_training_plot_has_a_panel_per_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    monkeypatch.setattr(pictures, "save_figure", lambda figure, path: kept.append(figure) or Path(path))
    history = [{"step": s, "loss": 8.0 / s, "note": "x"} for s in (1, 2, 3)] + [{"step": 3, "monitor": {"eer": 30.0}}]
    pictures.training_plot(tmp_path / "x.png", history)
    panels = {axes.get_title(): axes.lines[0].get_xydata().tolist() for axes in kept[0].axes}
    assert panels == {"loss": [[1, 8], [2, 4], [3, 8 / 3]], "monitor/eer": [[3, 30]]}


def test_embeddings_in_two_dimensions_keep_neighbours() -> None:
    rng = np.random.default_rng(1)
    groups = np.arange(90) % 3
    rows = 10 * np.eye(3, 12)[groups] + rng.standard_normal((90, 12))
    for method in ("tsne", "pca"):
        points, kept = pictures._in_two_dimensions(rows, 90, method, 0)
        assert kept.tolist() == list(range(90))
        distances = np.linalg.norm(points[:, None] - points, axis=2) + 1e9 * np.eye(90)
        assert np.mean(groups[distances.argmin(axis=1)] == groups) > 0.95


def test_wrong_input_to_plots_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="method is 'umap'; expected 'tsne' or 'pca'"):
        pictures.embedding_plot(tmp_path / "x.png", {"a": np.zeros((3, 2))}, list("abc"), method="umap")
    with pytest.raises(InputError, match=r"of 4 labels, at least 3; found shape \(3, 2\)"):
        pictures.embedding_plot(tmp_path / "x.png", {"a": np.zeros((3, 2))}, list("abcd"))
    with pytest.raises(InputError, match="no numbers over 'step'"):
        pictures.training_plot(tmp_path / "x.png", [{"loss": 1.0}])


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"plots need matplotlib: pip install 'dino-speech\[plots\]'"):
        pictures.det_plot(tmp_path / "det.png", {"one": scores(1.0)})
    assert write_report(tmp_path, "t", {"r": [{"a": 1}]}, {}, {}).exists()


def test_labels_are_text_whatever_they_hold(tmp_path: Path) -> None:
    label = "<img src=x onerror=alert(1)>|[a](javascript:b)`c`\n# d"
    report = write_report(tmp_path, label, {label: [{label: label, "uar": 0.5}]}, {}, {}).read_text()
    before = report.partition("## Provenance")[0]
    assert "<img" not in before
    assert "](java" not in before
    assert "\n# d" not in before
    assert before.count("|") - before.count("\\|") == 3 * 3  # two columns, three lines
    assert json.loads((tmp_path / "report.json").read_text())["title"] == label


@pytest.mark.parametrize(("label", "text"), [("a\\|b", r"a\\\|b"), ("[1] of 2", "[1] of 2"), ("[a](b)", r"[a]\(b)")])
def test_a_backslash_of_a_label_frees_nothing(label: str, text: str) -> None:
    assert escaped(label) == text
