"""Evaluations in a folder: `report.md`, `report.json` and a picture, of one system or of several side by side."""

from collections.abc import Collection, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, cast

from dino_speech.errors import InputError
from dino_speech.evaluation.clinical.report import NOT_A_DIAGNOSIS, ClinicalReport
from dino_speech.evaluation.probing.classification import ClassificationReport
from dino_speech.evaluation.probing.regression import RegressionReport
from dino_speech.evaluation.reports.pictures import (
    agreement_plot,
    bayes_error_plot,
    confusion_plot,
    det_plot,
    has_matplotlib,
)
from dino_speech.evaluation.reports.report_file import write_report
from dino_speech.evaluation.verification.report import VerificationReport

Rows = Sequence[Mapping[str, Any]]
Report = VerificationReport | ClassificationReport | RegressionReport | ClinicalReport


def write_results(
    folder: str | PathLike[str], reports: Mapping[str, Report], *, further: Mapping[str, Rows] | None = None
) -> Path:
    """Write one evaluation of one system or of several: tables, and with matplotlib one picture of all of them.

    Verification draws DET curves (`det.png`) and, of likelihood ratios, the error of Bayes decisions over the prior
    (`bayes_error.png`), classification confusion matrices (`confusion.png`), regression
    predicted against true numbers (`agreement.png`); clinical evaluations have their warnings first, and no picture.

    Args:
        folder: made if it does not exist.
        reports: name of the system -> its report; all of one kind, of the same classes or clinical question.
        further: heading -> rows of more tables, after the others.

    Returns:
        The path of `report.md`. `report.json` beside it holds each system's `to_dict()` under `results`.

    Raises:
        InputError: no report, or reports of different kinds, classes or questions.
    """
    kinds = sorted({type(report).__name__ for report in reports.values()})
    if len(kinds) != 1:
        raise InputError(f"expected reports of one kind, at least one; found {', '.join(kinds) or 'none'}")
    first, title, notes = next(iter(reports.values())), _title(reports), dict[str, str]()
    if isinstance(first, ClinicalReport):
        notes = _clinical_notes(cast("Mapping[str, ClinicalReport]", reports))
    else:
        warned = {name: one.warnings for name, one in reports.items() if not isinstance(one, ClinicalReport)}
        notes = {f"{name}: warnings": "\n".join(warnings) for name, warnings in warned.items() if warnings}
    tables: dict[str, list[Mapping[str, Any]]] = {}
    for name, report in reports.items():
        skipped = [{"file": item.name, "reason": item.reason} for item in report.skipped]
        for heading, rows in {**report.tables(), "Left out": skipped}.items():
            tables.setdefault(heading, []).extend({"system": name, **row} for row in rows)
    filled = {heading: rows for heading, rows in tables.items() if rows}
    left_out = {"Left out": filled.pop("Left out")} if tables["Left out"] else {}
    pictures = _pictures(Path(folder), reports) if has_matplotlib() else {}
    plain = {name: report.to_dict() for name, report in reports.items()}
    return write_report(
        folder, title, {**filled, **(further or {}), **left_out}, pictures, first.provenance, notes=notes, results=plain
    )


def _title(reports: Mapping[str, Report]) -> str:
    """What the reports are about; those of different classes or questions are refused."""
    first = next(iter(reports.values()))
    if isinstance(first, ClassificationReport):
        _refuse_different("are of different classes", {tuple(one.labels) for one in reports.values()})  # type: ignore[union-attr]
        return "Classification"
    if isinstance(first, ClinicalReport):
        questions = {(one.label, one.positive, one.negative) for one in reports.values()}  # type: ignore[union-attr]
        _refuse_different("answer different questions", questions)
        return f"Clinical evaluation: {first.label}, {first.positive} against {first.negative}"
    return "Speaker verification" if isinstance(first, VerificationReport) else "Regression"


def _refuse_different(what: str, found: Collection[Any]) -> None:
    if len(found) > 1:
        raise InputError(f"the reports {what} ({sorted(found)}); write them to different folders")


def _pictures(folder: Path, reports: Mapping[str, Any]) -> dict[str, Path]:
    """Pictures of all systems, by their captions."""
    first = next(iter(reports.values()))
    if isinstance(first, VerificationReport):
        curves = {name: (report.scores, report.labels) for name, report in reports.items()}
        ratios = {name: curves[name] for name, report in reports.items() if report.gives_ratios}
        drawn = {"Detection error trade-off": det_plot(folder / "det.png", curves)}
        return drawn | ({"Bayes error": bayes_error_plot(folder / "bayes_error.png", ratios)} if ratios else {})
    if isinstance(first, ClassificationReport):
        matrices = {name: report.confusion for name, report in reports.items()}
        return {"Confusion": confusion_plot(folder / "confusion.png", matrices, first.labels)}
    if isinstance(first, ClinicalReport):
        return {}
    pairs = {
        f"{name}: {label}": (report.true[:, i], report.predicted[:, i])
        for name, report in reports.items()
        for i, label in enumerate(report.labels)
    }
    return {"Agreement": agreement_plot(folder / "agreement.png", pairs)}


def _clinical_notes(reports: Mapping[str, ClinicalReport]) -> dict[str, str]:
    notes = {"What it does not prove": NOT_A_DIAGNOSIS}
    for name, report in reports.items():
        notes[f"{name}: what was asked"] = report.summary()
        if report.warnings():
            notes[f"{name}: warnings"] = "\n".join(f"- {text}" for text in report.warnings())
    return notes
