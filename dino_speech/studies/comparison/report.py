"""The files of a comparison of encoders: `table.md`, `table.csv`, `report.md`, `report.json` and a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dino_speech.data.atomic import write_csv_atomically, write_text_atomically
from dino_speech.data.utterances import Skipped
from dino_speech.evaluation.reports.drawing import has_matplotlib
from dino_speech.evaluation.reports.report_file import markdown_table, write_report
from dino_speech.studies.comparison.benchmark import CLASSES, NUMBERS, TRIALS, Benchmark
from dino_speech.studies.comparison.plot import plot_comparison
from dino_speech.studies.comparison.table import Row, flat_row, kind_rows, reading_row, title_of

TASKS = {
    CLASSES: "UAR: linear probes, each judged on speakers that it has not heard",
    NUMBERS: "CCC: ridge regressions, each judged on speakers that it has not heard",
    TRIALS: "EER: cosine scores; there, less is better",
}
NO_PLOT = "no picture: it needs matplotlib: pip install 'dino-speech[plots]'; the same command then only draws it"


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


def write_comparison(
    folder: Path,
    rows: Sequence[Row],
    details: Mapping[str, Any],
    *,
    floor: str,
    notes: Sequence[str],
    skipped: Sequence[Skipped],
    provenance: Mapping[str, Any],
) -> tuple[dict[str, Path], list[str]]:
    """Write all files; their paths by name, and what there is to say about them."""
    more: list[str] = []
    plot = folder / "comparison.png"
    if has_matplotlib():
        plot_comparison(rows, plot, floor=floor)
    else:
        plot.unlink(missing_ok=True)  # it would be of another comparison
        more = [NO_PLOT]
    files = write_tables(folder, rows, [*notes, *more])
    tables = {
        "Comparison": [reading_row(row) for row in rows],
        "Unchanged predictions in %, by kind of condition": kind_rows(rows, "unchanged"),
        "Change of the figure, by kind of condition": kind_rows(rows, "change"),
        "Groups": _group_rows(details),
        "Left out": [{"file": item.name, "reason": item.reason} for item in skipped],
    }
    files["report"] = write_report(
        folder,
        "Encoders side by side",
        {heading: lines for heading, lines in tables.items() if lines},
        {} if more else {"Picture": plot},
        provenance,
        notes={"What is compared": "\n".join(f"- {note}" for note in [*notes, *more])},
        results={"rows": rows, "floor": floor, "details": details},
    )
    return files | ({} if more else {"plot": plot}), more


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
