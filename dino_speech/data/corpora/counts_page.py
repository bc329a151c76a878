"""The page of counts that lies beside a prepared manifest, for a person to read."""

from collections import Counter
from typing import Any

from dino_speech.data.utterances import Manifest

NUM_LISTED = 10
PROBLEMS = {
    "missing": "expected and not there",
    "extra": "there and not expected",
    "dropped": "left out on purpose",
    "unreadable": "cannot be read",
}


def counts_page(manifest: Manifest, summary: dict[str, Any], *, label: str, licence: str) -> str:
    """Markdown: how much there is, the label by split or fold, and what is missing, extra, dropped, unreadable."""
    total = (
        f"{summary['num_utterances']:,} utterances{_of(summary['num_official_utterances'])},"
        f" {summary['num_speakers']:,} known speakers{_of(summary['num_official_speakers'])},"
        f" {summary['hours']:.2f} hours."
    )
    lines = [f"# {summary['corpus']}", "", f"Licence: {licence}", "", total, ""]
    part = next((name for name in ("split", "fold") if name in manifest.columns), None)
    lines += _table(manifest, label, part)
    if summary["without_label"]:
        named = ", ".join(f"{name or 'blank'} {count}" for name, count in summary["without_label"].items())
        lines += [
            "",
            f"Without {label} (original label and number): {named}. `{label}.csv` holds the rows that have one.",
        ]
    for name, meaning in PROBLEMS.items():
        entries = summary[name]
        if entries:
            lines += ["", f"## {name.capitalize()}: {len(entries)} {meaning}", ""]
            lines += [f"- {entry}" for entry in entries[:NUM_LISTED]]
            lines += [f"- all of them: `{name}.txt`"] if len(entries) > NUM_LISTED else []
    return "\n".join(lines) + "\n"


def _of(official: int | None) -> str:
    return f" of {official:,}" if official else ""


def _table(manifest: Manifest, label: str, part: str | None) -> list[str]:
    """Utterances, one row per label and one column per split or fold."""
    parts = manifest.label(part) if part else [""] * len(manifest)
    labels = manifest.label(label)
    counts = Counter(zip(labels, parts, strict=True))
    columns = sorted(set(parts)) if part else []
    header = [label, *(f"{part} {name or 'none'}" for name in columns), "all"]
    rows: list[list[str | int]] = [
        [name or "none", *(counts[name, column] for column in columns), labels.count(name)]
        for name in sorted(set(labels))
    ]
    lines = [header, ["---"] * len(header), *([str(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]
