"""Rows of a comparison of encoders as tables: for reading, and flat for a spreadsheet.

A row is plain data as `EncoderComparison` describes it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dino_speech.studies.comparison.task_predictions import MEAN

Row = Mapping[str, Any]
COSTS = ("num_parameters", "macs_per_s", "real_time_factor", "peak_memory_mb", "size_mb")
MAX_PAIRS = 3  # of groups, in the table for reading


def title_of(figure: str) -> str:
    """A figure's name for people."""
    known = {"uar": "UAR", "eer": "EER in %", MEAN: "mean CCC"}
    return known.get(figure, f"CCC {figure.removeprefix('ccc_')}")


def is_headline(figure: str) -> bool:
    """Whether it stands for its task: the CCC of single labels does not."""
    return figure in ("uar", "eer", MEAN)


def summarise_outcomes(outcomes: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any] | None:
    """Figure -> `unchanged` (share of predictions) and `change`, means over the conditions, and by kind in `kinds`.

    Args:
        outcomes: of each condition, by task, as `JudgedEncoder.outcomes` gives them.
        names: of the conditions that count; none of them: None.
    """
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


def reading_row(row: Row) -> dict[str, Any]:
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


def flat_row(row: Row) -> dict[str, Any]:
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
            flat |= _bounds(
                f"{name}_{found['group']}_{pair.replace(' ', '')}", difference["value"], difference["interval"]
            )
        spread = found["speakers"]
        flat |= {f"{name}_speakers_{key}": spread[key] for key in ("std", "std_if_equal", "min", "max", "num_speakers")}
    return flat | {key: row["efficiency"][key] for key in COSTS}


def kind_rows(rows: Sequence[Row], key: str) -> list[dict[str, Any]]:
    """A line for each system and figure, a column for each kind of condition; `key`: "unchanged" (%) or "change"."""
    return [
        {"system": row["system"], "figure": title_of(name)}
        | {kind: f"{100 * one[key]:.1f}" if key == "unchanged" else _number(name, one[key]) for kind, one in kinds}
        for row in rows
        for name, found in (row["robustness"] or {}).items()
        for kinds in [list(found["kinds"].items())]
    ]


def is_known(value: Any) -> bool:
    """Whether it is a number."""
    return value is not None and math.isfinite(value)


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
