"""Results on paper: `report.md` for people, `report.json` for programs. Pictures are in `pictures.py`."""

import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from dino_speech.data.atomic import write_text_atomically
from dino_speech.plain_data import plain

Row = Mapping[str, Any]


def write_report(
    folder: str | PathLike[str],
    title: str,
    tables: Mapping[str, Sequence[Row]],
    figures: Mapping[str, str | PathLike[str]],
    provenance: Mapping[str, Any],
    *,
    notes: Mapping[str, str] | None = None,
    results: Mapping[str, Any] | None = None,
) -> Path:
    """Write `report.md` and `report.json` into a folder, which is made; returns the path of the first.

    Args:
        folder: where.
        title: first line.
        tables: heading -> rows; the columns are the keys of the rows, in the order in which they first occur.
        figures: caption -> picture; one below the folder is linked by its relative path.
        provenance: what made the results (see `provenance.provenance`).
        notes: heading -> text, before the tables.
        results: further plain data, for `report.json` only.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    links = {caption: _relative(Path(path), target) for caption, path in figures.items()}
    parts = [f"# {escaped(title)}"]
    parts += [f"## {escaped(heading)}\n\n{text.strip()}" for heading, text in (notes or {}).items()]
    parts += [f"## {escaped(heading)}\n\n{markdown_table(rows)}" for heading, rows in tables.items()]
    parts += [f"## {escaped(caption)}\n\n![{escaped(caption)}]({quote(link)})" for caption, link in links.items()]
    parts.append("## Provenance\n\n```json\n" + json.dumps(plain(provenance), indent=2) + "\n```")
    content = {"title": title, "notes": notes or {}, "tables": tables, "figures": links, "provenance": provenance}
    content |= {"results": results} if results is not None else {}
    write_text_atomically(target / "report.json", json.dumps(plain(content), indent=2) + "\n")
    report = target / "report.md"
    write_text_atomically(report, "\n\n".join(parts) + "\n")
    return report


def markdown_table(rows: Sequence[Row]) -> str:
    """A Markdown table of rows that need not have the same keys; numbers get four significant digits."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if not columns:
        return "(nothing)"
    lines = [
        [escaped(str(name)) for name in columns],
        ["---"] * len(columns),
        *([_cell(row.get(name)) for name in columns] for row in rows),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _relative(path: Path, folder: Path) -> str:
    inside = path.absolute().is_relative_to(folder.absolute())
    return path.absolute().relative_to(folder.absolute()).as_posix() if inside else path.as_posix()


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    text = f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)
    return escaped(text)


def escaped(text: str) -> str:
    """A label of somebody's manifest as text in Markdown: no HTML, no link or picture, no new line or cell."""
    return re.sub(r"(?<=\])(?=\()|(?=[`|\\])", r"\\", html.escape(" ".join(text.splitlines()), quote=False))
