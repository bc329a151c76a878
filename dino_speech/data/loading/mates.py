"""Mates: other utterances that are taken to be of the same speaker, so that views need not share their recording.

A table says which: a CSV with the columns `ID`, `mate` (another ID; an ID may stand in several rows) and `similarity`,
as `dino-speech mates` writes it. It does not change while a training runs, and is part of what a run is. Letters: `N`
utterances, `M` pairs.
"""

import csv
import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dino_speech.data.atomic import as_it_was, inert, write_rows_atomically
from dino_speech.data.utterances import Manifest
from dino_speech.errors import InputError
from dino_speech.received_files import require_plain_file

logger = logging.getLogger(__name__)
COLUMNS = ("ID", "mate", "similarity")
LABEL = "label:"  # before the name of a column, in place of a table: a control that knows the truth
MAX_BY_LABEL = 10  # ours: of an utterance; all of them would be the square of a speaker's utterances


@dataclass(frozen=True, eq=False)
class Mates:
    """The mates of each utterance of a manifest, by position."""

    source: str  # "table", or "label:COLUMN", which is a control and no training without labels
    starts: NDArray[np.int64]  # (N + 1,) where the mates of each begin
    others: NDArray[np.int64]  # (M,)

    @classmethod
    def of_pairs(cls, source: str, pairs: NDArray[np.int64], num_utterances: int) -> "Mates":
        """From (M, 2) positions."""
        pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
        counts = np.bincount(pairs[:, 0], minlength=num_utterances)
        return cls(source, np.concatenate([[0], np.cumsum(counts)]), pairs[:, 1])

    @property
    def pairs(self) -> NDArray[np.int64]:
        """(M, 2) positions."""
        return np.stack([np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts)), self.others], axis=1)

    def draw(self, index: int, generator: torch.Generator) -> int | None:
        """One of an utterance's mates, each as likely; None where it has none."""
        first, last = self.starts[index : index + 2].tolist()
        return int(self.others[int(torch.randint(first, last, (), generator=generator))]) if last > first else None

    def identity(self) -> dict[str, Any]:
        """What must be the same where a run goes on."""
        digest = hashlib.sha256(self.pairs.astype("<i8").tobytes()).hexdigest()
        return {"source": self.source, "num_pairs": len(self.others), "sha256": digest}

    def figures(self, manifest: Manifest) -> dict[str, float]:
        """How good the table is, for reports only: nothing is learnt from them.

        `coverage` (share of utterances with a mate), `reciprocity` (share of pairs that stand in both directions), and
        with a column `speaker` `useful_rate`: the share of pairs of one speaker, less the share of one recording.
        """
        pairs, num = self.pairs, len(manifest)
        both = np.isin(pairs[:, 0] * num + pairs[:, 1], pairs[:, 1] * num + pairs[:, 0])
        found = {"coverage": float(np.mean(np.diff(self.starts) > 0)), "reciprocity": float(both.mean())}
        if "speaker" in manifest.columns:
            speakers = np.array(manifest.label("speaker"))
            known = pairs[(speakers[pairs] != "").all(axis=1)]
            if len(known):
                recordings = recordings_of(manifest)
                right, same = (float(np.mean(v[known[:, 0]] == v[known[:, 1]])) for v in (speakers, recordings))
                found["useful_rate"] = right - same
        return found


def recordings_of(manifest: Manifest) -> NDArray[np.int64]:
    """(N,) a number for each recording: the column `recording`, the file where there is none or its cell is blank."""
    files = list(manifest.files)
    if "recording" in manifest.columns:
        named = zip(manifest.label("recording"), files, strict=True)
        files = [f"recording {name}" if name else file for name, file in named]
    return np.unique(files, return_inverse=True)[1].astype(np.int64)


def load_mates(source: str | PathLike[str], manifest: Manifest, *, within: str | None = None) -> Mates:
    """The mates of a manifest's utterances; pairs of one recording, or across `within`'s values, are left out.

    Args:
        source: a table; or "label:COLUMN", at most ten others with the same label: a control.
        manifest: rows of the table about utterances that it does not hold are left out.
        within: a column whose values mates share.

    Raises:
        InputError: the table cannot be read, or no pair is left; there is no such column.
    """
    name = str(source)
    if name.startswith(LABEL):
        pairs = _of_one_label(manifest, name.removeprefix(LABEL))
    else:
        positions = manifest.by_id()
        found = ((positions.get(one, -1), positions.get(other, -1)) for one, other in read_mates(source))
        pairs = np.array([pair for pair in found if min(pair) >= 0], dtype=np.int64).reshape(-1, 2)
    recordings, kept = recordings_of(manifest), np.ones(len(pairs), bool)
    kept &= recordings[pairs[:, 0]] != recordings[pairs[:, 1]]
    if within is not None:
        groups = np.unique(manifest.label(within), return_inverse=True)[1]
        kept &= groups[pairs[:, 0]] == groups[pairs[:, 1]]
    if not kept.any():
        problem = f"mates {name}: no pair is of two recordings of {manifest.name}"
        problem += "" if within is None else f" with the same {within}"
        raise InputError(f"{problem}; make the table of this very manifest: dino-speech mates --manifest ...")
    if not kept.all():
        logger.warning("mates %s: %d of %d pairs are of one recording or of two groups", name, (~kept).sum(), len(kept))
    return Mates.of_pairs(name if name.startswith(LABEL) else "table", pairs[kept], len(manifest))


def _of_one_label(manifest: Manifest, column: str) -> NDArray[np.int64]:
    labels, recordings = np.array(manifest.label(column)), recordings_of(manifest)
    order = np.random.default_rng(0).permutation(np.flatnonzero(labels != ""))
    order = order[np.argsort(labels[order], kind="stable")]
    pairs = [np.empty((0, 2), np.int64)]
    for members in np.split(order, np.flatnonzero(labels[order][1:] != labels[order][:-1]) + 1):
        for step in range(1, min(MAX_BY_LABEL, len(members) - 1) + 1):
            pairs.append(np.stack([members, np.roll(members, -step)], axis=1))
    found = np.concatenate(pairs)
    return found[recordings[found[:, 0]] != recordings[found[:, 1]]]


def read_mates(path: str | PathLike[str]) -> list[tuple[str, str]]:
    """The pairs of a table; InputError names the row that is not as expected."""
    form = f"expected a table of mates, a CSV with the columns {', '.join(COLUMNS)}"
    pairs: list[tuple[str, str]] = []
    try:
        require_plain_file(path)
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if not {*COLUMNS[:2]} <= {*(rows.fieldnames or ())}:
                raise InputError(f"{path}: found columns {', '.join(rows.fieldnames or ())}; {form}")
            for row in rows:
                one, other = (as_it_was(row[name] or "") for name in COLUMNS[:2])
                if not one or not other or one == other:
                    raise InputError(f"{path} row {rows.line_num}: found {one!r}, {other!r}; expected two IDs")
                pairs.append((one, other))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {form}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: no text of rows ({error}); {form}") from error
    return pairs


def write_mates(pairs: Iterable[tuple[str, str, float]], path: str | PathLike[str]) -> Path:
    """Write (ID, mate, similarity) as a table."""
    rows = ((inert(one), inert(other), f"{similarity:.4f}") for one, other, similarity in pairs)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_rows_atomically(Path(path), [COLUMNS, *rows])
    return Path(path)
