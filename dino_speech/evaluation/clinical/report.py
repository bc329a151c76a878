"""What the clinical evaluation found, as data, as tables, and as the sentences that belong beside the figures."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dino_speech.data.utterances import Skipped
from dino_speech.evaluation.clinical.group_balance import SIGNIFICANT, Imbalance
from dino_speech.evaluation.clinical.silence_control import SilenceControl
from dino_speech.evaluation.clinical.subject_scores import (
    FIGURES,
    THRESHOLD,
    SubjectResult,
    SubjectScores,
    TrivialScore,
)
from dino_speech.evaluation.reports.report_file import write_report
from dino_speech.intervals import Interval
from dino_speech.plain_data import PlainData

FEW_PEOPLE = 20  # of a class; ours: below, a bootstrap interval is optimistic
NOT_A_DIAGNOSIS = "These figures say how well two groups of recordings are told apart. They are not a diagnosis."


@dataclass(frozen=True, eq=False)
class ClinicalReport(PlainData):
    """What `evaluate_clinical` found; figures are fractions from 0 to 1, a person is decided once.

    Args:
        result: on the recordings; `silence`: on their non-speech parts; None: not asked for.
        duration: what the seconds of speech and silence per person tell alone.
        age: how the classes differ in age; `sex`: in the share of women; None: not known.
        folds: people, mean age and share of women of each fold and class.
        num_folds: 1 with an official split.
        split: the column of split or folds; None: folds were drawn.
        label: column of the classes: `positive` is to be found, and told from `negative`.
        segment_s: length of the segments; None: whole recordings.
    """

    result: SubjectResult
    silence: SilenceControl | None
    duration: TrivialScore | None
    age: Imbalance | None
    sex: Imbalance | None
    folds: list[dict[str, Any]]
    num_folds: int
    split: str | None
    label: str
    positive: str
    negative: str
    segment_s: float | None
    skipped: list[Skipped]
    scores: SubjectScores = field(repr=False)
    provenance: dict[str, Any] = field(repr=False)

    def warnings(self) -> list[str]:
        """What speaks against the result, one sentence each; empty: nothing was found."""
        return [*self._of_silence(), *self._of_people()]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the single decisions; the figures of `result` come first."""
        found = super().to_dict()
        del found["scores"]
        control = {"silence_control": found.pop("silence"), "warnings": self.warnings(), "threshold": THRESHOLD}
        return {**found.pop("result"), **control, **found}

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Heading -> rows, for a report."""
        balance = [_balance_row(name, part) for name, part in (("age", self.age), ("share of women", self.sex)) if part]
        found = {"Figures": self._figure_rows(), "Told without listening": self._trivial_rows(), "Age and sex": balance}
        return {heading: rows for heading, rows in {**found, "Folds": self.folds}.items() if rows}

    def write(self, folder: str | Path) -> Path:
        """`report.md` and `report.json` in a folder; returns the first. For several systems see `write_results`."""
        notes = {"What was asked": self.summary(), "What it does not prove": NOT_A_DIAGNOSIS}
        if self.warnings():
            notes["Warnings"] = "\n".join(f"- {text}" for text in self.warnings())
        title = f"Clinical evaluation: {self.label} {self.positive}"
        results = {self.label: self.to_dict()}
        return write_report(folder, title, self.tables(), {}, self.provenance, notes=notes, results=results)

    def summary(self) -> str:
        """What was asked, of whom, and how it was decided."""
        folds = "train and test" if self.num_folds == 1 else f"{self.num_folds} folds"
        folds += f" of column {self.split!r}" if self.split else ""
        cut = "whole recordings" if self.segment_s is None else f"segments of {self.segment_s:g} s"
        result = self.result
        return (
            f"{self.positive} ({result.num_positive}) against {self.negative}"
            f" ({result.num_subjects - result.num_positive}), {folds}, {cut}; positive where the mean log-odds are"
            f" {THRESHOLD:g} or more. Intervals: 95 %, resampling people."
        )

    def _figure_rows(self) -> list[dict[str, Any]]:
        silence = self.silence
        of = {"recordings": self.result}
        if silence is not None and silence.result is not None and silence.same_people is not None:
            if silence.same_people.num_subjects < self.result.num_subjects:
                of["recordings, same people"] = silence.same_people
            of["silence alone"] = silence.result
        rows = [_figure_row(name, result) for name, result in of.items()]
        if silence is not None and silence.result is None:
            rows.append({"on": "silence alone", "people": "not possible"})
        return rows

    def _trivial_rows(self) -> list[dict[str, Any]]:
        of: Mapping[str, TrivialScore | None] = {
            "share of non-speech": self.silence.nonspeech_fraction if self.silence else None,
            "seconds recorded": self.duration,
        }
        return [
            {
                "number": name,
                "AUC": f"{score.auc:.3f} ({_range(score.interval)})",
                self.positive: score.means["positive"],
                self.negative: score.means["negative"],
            }
            for name, score in of.items()
            if score is not None
        ]

    def _of_silence(self) -> list[str]:
        silence, found = self.silence, []
        if silence is None:
            return ["The silence control was not asked for: without it a clinical result means little"]
        if silence.result is None:
            found.append(f"Silence control {silence.reason}")
        elif silence.above_chance:
            found.append(
                f"The silent parts alone tell {self.positive} from {self.negative}: AUC"
                f" {silence.result.figures['auc']:.3f} ({_range(silence.result.intervals['auc'])}), the recordings"
                f" {silence.same_auc:.3f} on the same people. Some or all of the result may be how the groups were"
                " recorded"
            )
        if silence.nonspeech_fraction is not None and silence.nonspeech_fraction.tells:
            found.append(
                f"The share of non-speech alone tells the classes apart ({_auc(silence.nonspeech_fraction)}): pauses"
                " may be a sign of the illness, or of how recordings were cut"
            )
        if silence.missing_p < SIGNIFICANT:
            gone, people = silence.num_missing, silence.num_people
            found.append(
                f"Who has no silence depends on the class: {gone[0]} of {people[0]} {self.positive}, {gone[1]} of"
                f" {people[1]} {self.negative} (Fisher's exact test, p = {silence.missing_p:.2g})"
            )
        return found

    def _of_people(self) -> list[str]:
        found = []
        if self.duration is not None and self.duration.tells:
            found.append(f"The length of the recordings alone tells the classes apart ({_auc(self.duration)})")
        for name, part in (("age", self.age), ("sex", self.sex)):
            if part is None:
                found.append(f"Nothing is known of {name}: a difference between the groups would not be seen")
            elif part.noteworthy:
                size = f"standardised difference {part.standardized:.2f}, " if math.isfinite(part.standardized) else ""
                found.append(f"The groups differ in {name} ({size}p = {part.p:.2g}): a voice tells age and sex, too")
        smaller = min(self.result.num_positive, self.result.num_subjects - self.result.num_positive)
        if smaller < FEW_PEOPLE:
            found.append(f"Only {smaller} people of the smaller class were judged: even the intervals are optimistic")
        return found


def _auc(score: TrivialScore) -> str:
    return f"AUC {score.auc:.3f}, {_range(score.interval)}"


def _range(interval: Interval) -> str:
    return f"{interval.low:.3f} to {interval.high:.3f}"


def _figure_row(name: str, result: SubjectResult) -> dict[str, Any]:
    figures = {key: f"{result.figures[key]:.3f} ({_range(result.intervals[key])})" for key in FIGURES}
    return {"on": name, "people": result.num_subjects, **figures}


def _balance_row(name: str, part: Imbalance) -> dict[str, Any]:
    return {
        "": name,
        "positive": part.positive,
        "negative": part.negative,
        "known": f"{part.num_known[0]} and {part.num_known[1]}",
        "standardised difference": part.standardized,
        "p": part.p,
    }
