"""Evaluations written to a folder, one system or several side by side; and the pictures of predictions."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dino_speech.data.manifest import Manifest, Utterance
from dino_speech.data.trials import make_trials
from dino_speech.embedding.embedded_manifest import EmbeddedManifest
from dino_speech.errors import InputError
from dino_speech.evaluation.probing.classification import evaluate_classification
from dino_speech.evaluation.probing.regression import evaluate_regression
from dino_speech.evaluation.reports import pictures
from dino_speech.evaluation.reports import result_folder as results
from dino_speech.evaluation.reports.pictures import agreement_plot, bayes_error_plot, confusion_plot
from dino_speech.evaluation.reports.result_folder import Report, write_results
from dino_speech.evaluation.verification.evaluate import evaluate_verification

PNG = b"\x89PNG"


def speech(noise: float) -> EmbeddedManifest:
    rng = np.random.default_rng(0)
    speakers, emotions = np.arange(120) // 12, np.arange(120) % 3
    rows = np.eye(16)[speakers] + np.eye(16)[10 + emotions] + noise * rng.standard_normal((120, 16))
    utterances = [
        Utterance(f"u{i}", f"/{i}.wav", 1.0, labels={"speaker": f"s{s}", "emotion": "asx"[e], "arousal": str(e)})
        for i, (s, e) in enumerate(zip(speakers, emotions, strict=True))
    ]
    return EmbeddedManifest(Manifest(utterances), rows.astype(np.float32))


def reports(kind: str) -> dict[str, Report]:
    found: dict[str, Report] = {}
    for name, noise in (("before", 1.0), ("after", 0.2)):
        data = speech(noise)
        options = {"embedded": data, "num_resamples": 5}
        if kind == "verification":
            trials = make_trials(data.manifest, max_trials=400)
            found[name] = evaluate_verification(None, data.manifest, trials, group_by="emotion", **options)
        elif kind == "classification":
            found[name] = evaluate_classification(None, data.manifest, label="emotion", **options)
        else:
            found[name] = evaluate_regression(None, data.manifest, labels=["arousal"], **options)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "picture", "figure"),
    [
        ("verification", "det.png", "eer"),
        ("classification", "confusion.png", "uar"),
        ("regression", "agreement.png", "ccc"),
    ],
)
def test_several_systems_in_one_folder(kind: str, picture: str, figure: str, tmp_path: Path) -> None:
    made = reports(kind)
    path = write_results(tmp_path / "new", made)
    text, found = path.read_text(), json.loads((path.parent / "report.json").read_text())
    assert f"]({picture})" in text
    assert "| before |" in text
    assert (path.parent / picture).read_bytes()[:4] == PNG
    assert found["results"]["after"][figure] == getattr(made["after"], figure)
    assert found["provenance"]["dino_speech"]


def test_det_curves_of_all_systems_are_in_one_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, drawn = reports("verification"), {}
    monkeypatch.setattr(results, "det_plot", lambda path, curves: drawn.update(curves) or path)
    write_results(tmp_path, made)
    assert list(drawn) == ["before", "after"]
    assert drawn["after"][0] is made["after"].scores  # type: ignore[union-attr]


@pytest.mark.slow
def test_what_was_left_out_is_listed_and_mixed_kinds_are_refused(tmp_path: Path) -> None:
    data = speech(0.2)
    data.manifest[3].labels["emotion"] = ""
    report = evaluate_classification(None, data.manifest, label="emotion", embedded=data, num_resamples=5)
    text = write_results(tmp_path, {"one": report}).read_text()
    assert "| one | u3 | column 'emotion' is blank |" in text
    with pytest.raises(InputError, match="found ClassificationReport, VerificationReport"):
        write_results(tmp_path, {"one": report, **reports("verification")})
    with pytest.raises(InputError, match="at least one; found none"):
        write_results(tmp_path, {})
    for utterance in data.manifest:
        utterance.labels["emotion"] = "x" if utterance.labels["emotion"] == "x" else "y"
    other = evaluate_classification(None, data.manifest, label="emotion", embedded=data, num_resamples=5)
    with pytest.raises(InputError, match="the reports are of different classes"):
        write_results(tmp_path, {"one": report, "other": other})


@pytest.mark.slow
def test_without_matplotlib_the_tables_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "has_matplotlib", lambda: False)
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for kind in ("verification", "classification", "regression"):
        text = write_results(tmp_path / kind, reports(kind)).read_text()
        assert "| after |" in text
        assert "![" not in text


def test_confusion_plot_shows_counts_and_shares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    monkeypatch.setattr(pictures, "save_figure", lambda figure, path: kept.append(figure) or Path(path))
    confusion_plot(tmp_path / "x.png", {"one": [[3, 1], [0, 0]], "two": np.eye(2)}, ["no", "yes"])
    panel = kept[0].axes[0]
    assert [text.get_text() for text in panel.texts] == ["3", "1", "0", "0"]
    assert panel.images[0].get_array().tolist() == [[0.75, 0.25], [0.0, 0.0]]
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["no", "yes"]
    assert [axes.get_title() for axes in kept[0].axes] == ["one", "two"]
    with pytest.raises(InputError, match=r"of 3 classes; found shapes \[\(2, 2\)\]"):
        confusion_plot(tmp_path / "x.png", {"one": np.eye(2)}, list("abc"))


def test_agreement_plot_thins_what_is_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    monkeypatch.setattr(pictures, "save_figure", lambda figure, path: kept.append(figure) or Path(path))
    agreement_plot(tmp_path / "x.png", {"arousal": (np.arange(12_000.0), np.arange(12_000.0) + 1)})
    points = kept[0].axes[0].collections[0].get_offsets()
    assert len(points) == 4_000
    assert np.all(points[:, 1] - points[:, 0] == 1)


def test_bayes_errors_are_drawn_of_likelihood_ratios(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    monkeypatch.setattr(pictures, "save_figure", lambda figure, path: kept.append(figure) or Path(path))
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 2000)
    ratios = rng.normal(np.where(labels, 2.0, -2.0), 2.0)  # of these normal scores the ratio is the score itself
    bayes_error_plot(tmp_path / "x.png", {"right": (ratios, labels), "shifted": (ratios + 3, labels)})
    right, shifted = ([line.get_ydata() for line in axes.lines] for axes in kept[0].axes)
    middle = len(right[0]) // 2
    rate = 0.5 * np.mean(ratios[labels == 1] < 0) + 0.5 * np.mean(ratios[labels == 0] >= 0)
    assert right[0][middle] == pytest.approx(rate)
    assert np.all(right[1] <= right[0] + 1e-12)
    assert np.abs(right[0] - right[1]).max() < 0.01  # well calibrated
    assert shifted[0][middle] > shifted[1][middle] + 0.1
    assert right[2][middle] == 0.5


def test_only_likelihood_ratios_have_that_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict = {}
    monkeypatch.setattr(results, "det_plot", lambda path, curves: path)
    monkeypatch.setattr(results, "bayes_error_plot", lambda path, curves: drawn.update(curves) or path)
    made = reports("verification")
    write_results(tmp_path, made)
    assert not drawn
    made["after"] = replace(made["after"], backend={"name": "plda"})  # type: ignore[type-var]
    write_results(tmp_path, made)
    assert list(drawn) == ["after"]
