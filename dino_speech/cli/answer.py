"""What a command answers: plain data for `--json`, and the same as text for a person."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dino_speech.data.checking import Finding
    from dino_speech.data.utterances import Skipped

NUM_SHOWN = 20


@dataclass(frozen=True)
class Answer:
    """The result of a command: what `--json` prints (its keys are a contract), or what a person reads on stdout."""

    data: Mapping[str, Any]
    text: str
    exit_code: int = 0  # 1: failed


def as_json(data: Mapping[str, Any]) -> str:
    """One line of strict JSON: NaN and infinity, which JSON does not know, become null."""
    from dino_speech.plain_data import plain  # which loads NumPy, as help need not

    return json.dumps(plain(data), ensure_ascii=False, allow_nan=False)


def table(rows: Sequence[Sequence[object]], *, header: Sequence[str] = ()) -> str:
    """Columns aligned by spaces; None is shown as a dash, numbers stand to the right.

    Example:
        >>> print(table([("EER", 4.25), ("trials", 1200)]))
        EER     4.25
        trials  1200
    """
    cells = [[_cell(value) for value in row] for row in rows]
    lines = [list(header), *cells] if header else cells
    if not lines:
        return ""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    right = [all(isinstance(row[c], (int, float, type(None))) for row in rows) for c in range(len(widths))]
    sides = [("{:>%d}" if is_right else "{:<%d}") % width for width, is_right in zip(widths, right, strict=True)]
    return "\n".join("  ".join(sides).format(*line).rstrip() for line in lines)


def left_out(skipped: "Sequence[Skipped | Finding]", *, tell: bool = True) -> dict[str, Any]:
    """`num_skipped` and `skipped` of an answer; the first of them, and why, on stderr."""
    for item in skipped[:NUM_SHOWN] if tell else ():
        print(f"skipped {item.name}: {item.reason}", file=sys.stderr)
    if tell and len(skipped) > NUM_SHOWN:
        print(f"... and {len(skipped) - NUM_SHOWN} more (--json lists all)", file=sys.stderr)
    return {"num_skipped": len(skipped), "skipped": [item.to_dict() for item in skipped]}


def short(value: object) -> object:
    """A value as a cell of a table: of lists the first three, of mappings every item."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {short(item)}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return f"{len(value)}: {', '.join(map(str, value[:3]))}{' ...' if len(value) > 3 else ''}" if value else "none"
    return value


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)
