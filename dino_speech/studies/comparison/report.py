"""What a comparison of encoders found, and its files: tables for reading and for a spreadsheet, report, picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dino_speech.data.atomic import write_csv_atomically, write_text_atomically
from dino_speech.data.utterances import Skipped
from dino_speech.evaluation.reports.pictures import has_matplotlib
from dino_speech.evaluation.reports.report_file import markdown_table, write_report
from dino_speech.plain_data import plain
from dino_speech.studies.comparison.benchmark import CLASSES, NUMBERS, TRIALS, Benchmark
from dino_speech.studies.comparison.task_predictions import MEAN, SystemRow, is_headline, is_known, title_of
from dino_speech.studies.pictures import plot_comparison

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


def write_tables(folder: Path, rows: Sequence[SystemRow], notes: Sequence[str] = ()) -> dict[str, Path]:
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


COSTS = ("num_parameters", "macs_per_s", "real_time_factor", "peak_memory_mb", "size_mb")
MAX_PAIRS = 3  # of groups, in the table for reading


def summarise_outcomes(outcomes: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any] | None:
    """By figure `unchanged` (share of predictions) and `change`, means over conditions and by kind, or None."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for outcome in (task for name in names for task in outcomes[name].values()):
        changes = {name: (change["unchanged"], change["change"]) for name, change in outcome["changes"].items()}
        if any(name.startswith("ccc_") for name in changes):
            unchanged, change = np.mean(list(changes.values()), axis=0).tolist()
            changes = {MEAN: (unchanged, change), **changes}
        for name, pair in changes.items():
            found.setdefault(name, {}).setdefault(outcome["kind"], []).append(pair)
    return {
        name: {
            **_means([pair for pairs in kinds.values() for pair in pairs]),
            "kinds": {kind: _means(pairs) for kind, pairs in kinds.items()},
        }
        for name, kinds in found.items()
    } or None


def reading_row(row: SystemRow) -> dict[str, Any]:
    """One line of the table for reading: a cell holds a figure and its 95 % interval."""
    cells: dict[str, Any] = {"system": row["system"]}
    for name, figure in row["figures"].items():
        cells[title_of(name)] = _cell(name, figure["value"], figure["interval"])
        if is_headline(name):
            cells[f"{title_of(name)} - floor"] = _cell(name, figure["difference"], figure["difference_interval"])
    for name, found in (row["robustness"] or {}).items():
        if is_headline(name):
            cells[f"{title_of(name)}: unchanged %"] = f"{100 * found['unchanged']:.1f}"
            cells[f"{title_of(name)}: change"] = _number(name, found["change"])
    for name, found in row["fairness"].items():
        pairs = found["differences"] if len(found["differences"]) <= MAX_PAIRS else {}
        for pair, difference in pairs.items():
            cells[f"{title_of(name)}: {pair}"] = _cell(name, difference["value"], difference["interval"])
        spread = found["speakers"]
        chance = _number(name, spread["std_if_equal"])
        deviation = _number(name, spread["std"])
        both = None if deviation is None else f"{deviation} ({chance or 'unknown'})"
        cells[f"{title_of(name)}: deviation of speakers (by chance)"] = both
    cost = row["efficiency"]
    return cells | {
        "parameters (million)": cost["num_parameters"] / 1e6,
        "multiply-adds per s (million)": cost["macs_per_s"] / 1e6,
        "real-time factor": f"{cost['real_time_factor']:.2g}",
        "peak memory MB": cost["peak_memory_mb"],
    }


def flat_row(row: SystemRow) -> dict[str, Any]:
    """One line of the CSV: a column for each number; what is not known is None."""
    flat = {name: row[name] for name in ("system", "source", "encoder", "embedding_dim")}
    for name, figure in row["figures"].items():
        flat |= _bounds(name, figure["value"], figure["interval"])
        flat |= _bounds(f"{name}_minus_floor", figure["difference"], figure["difference_interval"])
    for name, found in (row["robustness"] or {}).items():
        for key in ("unchanged", "change"):
            flat[f"{name}_{key}"] = found[key]
            flat |= {f"{name}_{key}_{kind}": one[key] for kind, one in found["kinds"].items()}
    for name, found in row["fairness"].items():
        for pair, difference in found["differences"].items():
            column = f"{name}_{found['group']}_{pair.replace(' ', '')}"
            flat |= _bounds(column, difference["value"], difference["interval"])
        spread = found["speakers"]
        flat |= {f"{name}_speakers_{key}": spread[key] for key in ("std", "std_if_equal", "min", "max", "num_speakers")}
    return flat | {key: row["efficiency"][key] for key in COSTS}


def kind_rows(rows: Sequence[SystemRow], key: str) -> list[dict[str, Any]]:
    """A line for each system and figure, a column for each kind of condition; `key`: "unchanged" (%) or "change"."""
    return [
        {"system": row["system"], "figure": title_of(name)}
        | {kind: f"{100 * one[key]:.1f}" if key == "unchanged" else _number(name, one[key]) for kind, one in kinds}
        for row in rows
        for name, found in (row["robustness"] or {}).items()
        for kinds in [list(found["kinds"].items())]
    ]


def _means(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    unchanged, change = np.mean(pairs, axis=0).tolist()
    return {"unchanged": unchanged, "change": change}


def _number(figure: str, value: Any) -> str | None:
    return f"{value:.{1 if figure == 'eer' else 3}f}" if is_known(value) else None


def _cell(figure: str, value: Any, interval: Mapping[str, Any] | None) -> str | None:
    low, high = (_number(figure, (interval or {}).get(side)) for side in ("low", "high"))
    number = _number(figure, value)
    return f"{number} ({low} to {high})" if number and low and high else number


def _bounds(name: str, value: Any, interval: Mapping[str, Any] | None) -> dict[str, Any]:
    sides = {f"{name}_{side}": (interval or {}).get(side) for side in ("low", "high")}
    return {key: one if is_known(one) else None for key, one in {name: value, **sides}.items()}
