"""What a comparison of encoders found, and its files: tables, report and picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dino_speech.data.atomic import write_csv_atomically, write_text_atomically
from dino_speech.data.utterances import Skipped
from dino_speech.evaluation.reports.drawing import has_matplotlib
from dino_speech.evaluation.reports.report_file import markdown_table, write_report
from dino_speech.plain_data import plain
from dino_speech.studies.comparison.benchmark import CLASSES, NUMBERS, TRIALS, Benchmark
from dino_speech.studies.comparison.plot import plot_comparison
from dino_speech.studies.comparison.table import Row, flat_row, kind_rows, reading_row, title_of

TASKS = {
    CLASSES: "UAR: linear probes, each judged on speakers that it has not heard",
    NUMBERS: "CCC: ridge regressions, each judged on speakers that it has not heard",
    TRIALS: "EER: cosine scores; there, less is better",
}
NO_PLOT = "no picture: it needs matplotlib: pip install 'dino-speech[plots]'; the same command then only draws it"


@dataclass(frozen=True, eq=False)
class EncoderComparison:
    """What `compare_encoders` found.

    Args:
        rows: one for each encoder, plain data: `system`, `source`, `encoder`, `embedding_dim`; `figures`: figure ->
            `value`, `interval`, `difference` from the floor, `difference_interval`; `robustness`: figure ->
            `unchanged`, `change` (means over the conditions) and the same by kind in `kinds`, or None; `fairness`:
            figure -> `group`, `differences`, `speakers`; `efficiency`. Figures are "uar", "ccc_mean" and "ccc_LABEL",
            and "eer" (percent).
        details: system -> full reports of the evaluations, of every condition and of the groups.
        floor: name of the row that the others are held against.
        conditions: names of those that all encoders could be judged under, in order.
        skipped: utterances left out of every row, and why.
        notes: what a reader must know beside the table.
        files: "table", "csv", "report", and "plot" where matplotlib is installed.
        provenance: versions, seed, manifest.
    """

    rows: list[dict[str, Any]]
    details: dict[str, Any] = field(repr=False)
    floor: str
    conditions: list[str]
    skipped: list[Skipped]
    notes: list[str]
    files: dict[str, Path]
    provenance: dict[str, Any] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the details."""
        data = plain(self.__dict__ | self.files)
        return {name: value for name, value in data.items() if name not in ("details", "files")}


def describe_comparison(
    benchmark: Benchmark, floor: str, conditions: Sequence[str], num_skipped: int, cost: Mapping[str, Any]
) -> list[str]:
    """What a reader must know beside the table, one sentence each."""
    notes = [TASKS[task] for task in benchmark.tasks]
    people = "" if benchmark.num_speakers is None else f" of {benchmark.num_speakers} speakers"
    folds = "" if benchmark.folds_used is None else f" and the same {benchmark.folds_used} folds"
    notes.append(
        f"{len(benchmark.rows) - num_skipped} utterances{people}, the same ones{folds} for all systems; {num_skipped}"
        f" left out. In brackets: 95 %, {'trials' if not people else 'speakers'} resampled."
    )
    notes.append(f"The floor is {floor}; of a difference from it both sides are resampled together.")
    if conditions:
        notes.append(
            f"Unchanged: share of the predictions that stay, change: of the figure; means over {len(conditions)}"
            f" conditions ({', '.join(conditions)})."
        )
    group = benchmark.compared_group
    if group is None:
        notes.append("No groups are compared: the manifest has no column `sex` with two of them, and none was named.")
    else:
        notes.append(f"Differences between groups of `{group}` are on matched labels.")
    notes.append(
        f"Costs: {cost['batch_size']} x {cost['seconds']:g} s on {cost['device']}, {cost['num_threads']} threads, the"
        " median of several rounds, under whatever else the machine did."
    )
    return notes


def write_tables(folder: Path, rows: Sequence[Row], notes: Sequence[str] = ()) -> dict[str, Path]:
    """Write `table.md` and `table.csv` with the rows that there are, each in one move; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"table": folder / "table.md", "csv": folder / "table.csv"}
    lines = [markdown_table([reading_row(row) for row in rows]), *([""] if notes else []), *(f"- {n}" for n in notes)]
    write_text_atomically(files["table"], "\n".join(lines) + "\n")
    write_csv_atomically(files["csv"], [flat_row(row) for row in rows])
    return files


def write_comparison(folder: Path, found: EncoderComparison) -> dict[str, Path]:
    """Write all files, and note where there is no picture; their paths by name."""
    plot = folder / "comparison.png"
    if has_matplotlib():
        pictures = {"Picture": plot_comparison(found.rows, plot, floor=found.floor)}
    else:
        plot.unlink(missing_ok=True)  # it would be of another comparison
        pictures = {}
        found.notes.append(NO_PLOT)
    files = write_tables(folder, found.rows, found.notes)
    tables = {
        "Comparison": [reading_row(row) for row in found.rows],
        "Unchanged predictions in %, by kind of condition": kind_rows(found.rows, "unchanged"),
        "Change of the figure, by kind of condition": kind_rows(found.rows, "change"),
        "Groups": _group_rows(found.details),
        "Left out": [{"file": item.name, "reason": item.reason} for item in found.skipped],
    }
    files["report"] = write_report(
        folder,
        "Encoders side by side",
        {heading: lines for heading, lines in tables.items() if lines},
        pictures,
        found.provenance,
        notes={"What is compared": "\n".join(f"- {note}" for note in found.notes)},
        results={"rows": found.rows, "floor": found.floor, "details": found.details},
    )
    return files | ({"plot": plot} if pictures else {})


def _group_rows(details: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each group's own figure, labels not matched, and how many people it is of."""
    return [
        {
            "system": system,
            "figure": title_of(name),
            "group": group,
            "value": figure["value"],
            "on matched labels": found["matched"][group],
            "utterances or trials": figure["num"],
            "speakers": figure["num_speakers"],
        }
        for system, detail in details.items()
        for name, found in detail["fairness"].items()
        for group, figure in found.get("groups", {}).items()
    ]
