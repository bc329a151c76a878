"""Evaluations in a folder: `report.md`, `report.json` and a picture, of one system or of several side by side."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from dino_speech.errors import InputError
from dino_speech.evaluation.clinical.report import NOT_A_DIAGNOSIS, ClinicalReport
from dino_speech.evaluation.probing.classification import ClassificationReport
from dino_speech.evaluation.probing.regression import RegressionReport
from dino_speech.evaluation.reports.drawing import has_matplotlib
from dino_speech.evaluation.reports.pictures import agreement_plot, confusion_plot, det_plot
from dino_speech.evaluation.reports.report_file import write_report
from dino_speech.evaluation.verification.evaluate import VerificationReport

Report = VerificationReport | ClassificationReport | RegressionReport | ClinicalReport
Rows = Sequence[Mapping[str, Any]]
Pictures = Mapping[str, Path]
Kind = TypeVar("Kind", VerificationReport, ClassificationReport, RegressionReport, ClinicalReport)


def write_results(
    folder: str | PathLike[str], reports: Mapping[str, Report], *, further: Mapping[str, Rows] | None = None
) -> Path:
    """Write one evaluation of one system or of several: tables, and with matplotlib one picture of all of them.

    Verification draws DET curves (`det.png`), classification confusion matrices (`confusion.png`), regression
    predicted against true numbers (`agreement.png`); clinical evaluations have their warnings first, and no picture.

    Args:
        folder: made if it does not exist.
        reports: name of the system -> its report; all of one kind, classifications of the same classes, clinical ones
            of the same question.
        further: heading -> rows of more tables, after the others.

    Returns:
        The path of `report.md`. `report.json` beside it holds each system's `to_dict()` under `results`.

    Raises:
        InputError: no report, or reports of different kinds, classes or questions.
    """
    target, first, notes = Path(folder), next(iter(reports.values()), None), dict[str, str]()
    if (found := _of_kind(reports, VerificationReport)) is not None:
        title, tables, pictures = "Speaker verification", *_verification(target, found)
    elif (classified := _of_kind(reports, ClassificationReport)) is not None:
        title, tables, pictures = "Classification", *_classification(target, classified)
    elif (regressed := _of_kind(reports, RegressionReport)) is not None:
        title, tables, pictures = "Regression", *_regression(target, regressed)
    elif (clinical := _of_kind(reports, ClinicalReport)) is not None:
        title, tables, pictures, notes = *_clinical(clinical), {}, _clinical_notes(clinical)
    else:
        kinds = sorted({type(report).__name__ for report in reports.values()})
        raise InputError(f"expected reports of one kind, at least one; found {', '.join(kinds) or 'none'}")
    skipped = [
        {"system": name, "file": item.name, "reason": item.reason}
        for name, report in reports.items()
        for item in report.skipped
    ]
    tables = {**tables, **(further or {}), **({"Left out": skipped} if skipped else {})}
    plain = {name: report.to_dict() for name, report in reports.items()}
    origin = first.provenance if first else {}
    return write_report(target, title, tables, pictures, origin, notes=notes, results=plain)


def _of_kind(reports: Mapping[str, Report], kind: type[Kind]) -> dict[str, Kind] | None:
    """The reports, if there are any and all are of this kind."""
    found = {name: report for name, report in reports.items() if isinstance(report, kind)}
    return found if found and len(found) == len(reports) else None


def _verification(folder: Path, reports: Mapping[str, VerificationReport]) -> tuple[dict[str, Rows], Pictures]:
    rows = [
        {
            "system": name,
            "EER in %": report.eer,
            "EER, 95 %": report.eer_interval,
            "minDCF(0.01)": report.min_dcf,
            "minDCF(0.05)": report.min_dcf_05,
            "min Cllr": report.min_cllr,
            "trials": report.num_trials,
            "back-end": report.backend["name"],
            "score norm": report.score_norm["kind"] if report.score_norm else None,
            **({key: report.calibration[key] for key in ("cllr", "act_dcf")} if report.calibration else {}),
        }
        for name, report in reports.items()
    ]
    groups = [
        {"system": name, "group": group, "EER in %": eer, "trials": report.group_trials[group]}
        for name, report in reports.items()
        for group, eer in report.groups.items()
    ]
    tables: dict[str, Rows] = {"Results": rows, **({"By group": groups} if groups else {})}
    if not has_matplotlib():
        return tables, {}
    curves = {name: (report.scores, report.labels) for name, report in reports.items()}
    return tables, {"Detection error trade-off": det_plot(folder / "det.png", curves)}


def _classification(folder: Path, reports: Mapping[str, ClassificationReport]) -> tuple[dict[str, Rows], Pictures]:
    classes = {tuple(report.labels) for report in reports.values()}
    if len(classes) > 1:
        raise InputError(f"the reports are of different classes ({sorted(classes)}); write them to different folders")
    rows = [
        {
            "system": name,
            "UAR": report.uar,
            "UAR, 95 %": report.intervals["uar"],
            "micro F1": report.micro_f1,
            "macro F1": report.macro_f1,
            "chance UAR": report.chance_uar,
            "utterances": report.num_utterances,
            "speakers": report.num_speakers,
        }
        for name, report in reports.items()
    ]
    recalls = [{"system": name, **report.recalls} for name, report in reports.items()]
    tables: dict[str, Rows] = {"Results": rows, "Recalls": recalls}
    if not has_matplotlib():
        return tables, {}
    matrices = {name: report.confusion for name, report in reports.items()}
    return tables, {"Confusion": confusion_plot(folder / "confusion.png", matrices, list(classes.pop()))}


def _regression(folder: Path, reports: Mapping[str, RegressionReport]) -> tuple[dict[str, Rows], Pictures]:
    rows = [
        {
            "system": name,
            "label": label,
            "CCC": report.ccc[label],
            "CCC, 95 %": report.intervals[label],
            "chance": report.chance_ccc,
            "Pearson": report.pearson[label],
            "RMSE": report.rmse[label],
            "utterances": report.num_utterances,
        }
        for name, report in reports.items()
        for label in report.labels
    ]
    if not has_matplotlib():
        return {"Results": rows}, {}
    pairs = {
        f"{name}: {label}": (report.true[:, i], report.predicted[:, i])
        for name, report in reports.items()
        for i, label in enumerate(report.labels)
    }
    return {"Results": rows}, {"Agreement": agreement_plot(folder / "agreement.png", pairs)}


def _clinical(reports: Mapping[str, ClinicalReport]) -> tuple[str, dict[str, Rows]]:
    """Title, and each table with the rows of all systems."""
    questions = {(report.label, report.positive, report.negative) for report in reports.values()}
    if len(questions) > 1:
        raise InputError(
            f"the reports answer different questions ({sorted(questions)}); write them to different folders"
        )
    label, positive, negative = questions.pop()
    found: dict[str, list[Mapping[str, Any]]] = {}
    for name, report in reports.items():
        for heading, rows in report.tables().items():
            found.setdefault(heading, []).extend({"system": name, **row} for row in rows)
    return f"Clinical evaluation: {label}, {positive} against {negative}", dict(found)


def _clinical_notes(reports: Mapping[str, ClinicalReport]) -> dict[str, str]:
    notes = {"What it does not prove": NOT_A_DIAGNOSIS}
    for name, report in reports.items():
        notes[f"{name}: what was asked"] = report.summary()
        if report.warnings():
            notes[f"{name}: warnings"] = "\n".join(f"- {text}" for text in report.warnings())
    return notes
