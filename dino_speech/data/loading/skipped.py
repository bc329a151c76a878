"""Files that cannot be learnt from: listed once with their reason; too many of them end the run."""

import csv
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from dino_speech.data.atomic import as_it_was, inert, write_rows_atomically, writing
from dino_speech.data.utterances import Skipped
from dino_speech.errors import InputError

logger = logging.getLogger(__name__)

# Before this many utterances were tried, a share of failures says little. # ours
MIN_TRIED = 50
MAX_FAILED_FRACTION = 0.5


class SkippedFiles:
    """The list of skipped files of one run, kept in `<output_folder>/skipped.csv` (columns file, reason).

    Args:
        files: path of every utterance, in the order of the manifest.
        path: the csv; a list that is already there (of a run that is resumed) is continued. None writes nothing.
    """

    def __init__(self, files: Sequence[str], path: Path | None = None) -> None:
        self.reasons: dict[str, str] = {}
        self._files, self._path = files, path
        self._tried, self._failed = np.zeros((2, len(files)), dtype=bool)
        if path is not None and path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows = [(row["file"], row["reason"]) for row in csv.DictReader(file)]
            self.reasons = {name: reason for name, reason in rows if reason is not None}
            self._rewrite()  # without a last row that was cut off

    def __len__(self) -> int:
        return len(self.reasons)

    def add(self, tried: Iterable[int], failures: Iterable[tuple[int, str]]) -> None:
        """Note which utterances were read and which failed why; InputError where more than half of them did."""
        self._tried[list(tried)] = True
        new = {}
        for index, reason in failures:
            self._tried[index] = self._failed[index] = True
            file = self._files[index]
            if file not in self.reasons:
                new[file] = reason.removeprefix(f"{file}: ")
        if new:
            self._write(new)
        num_tried, num_failed = int(self._tried.sum()), int(self._failed.sum())
        enough = num_tried >= min(MIN_TRIED, len(self._files))
        if enough and num_failed > MAX_FAILED_FRACTION * num_tried:
            self.stop(f"{num_failed} of the {num_tried} utterances tried so far")

    def merge(self, reasons: Mapping[str, str]) -> None:
        """Add what other processes found."""
        new = {file: reason for file, reason in reasons.items() if file not in self.reasons}
        if new:
            self._write(new)

    def stop(self, how_many: str) -> None:
        """Raise the error that ends the run, with the first reasons."""
        first = "; ".join(f"{file}: {reason}" for file, reason in list(self.reasons.items())[:3])
        listed = f" (listed in {self._path})" if self._path else ""
        problem = f"{how_many} cannot be used{listed}: {first}. Check the manifest with `dino-speech check MANIFEST`"
        raise InputError(f"{problem}, then leave out or repair the bad files")

    def _write(self, new: dict[str, str]) -> None:
        before = len(self.reasons)
        self.reasons.update(new)
        file, reason = next(iter(new.items()))
        # Once per power of ten: a corpus with many bad files must not flood the log.
        if len(str(len(self.reasons))) > (len(str(before)) if before else 0):
            where = f", listed in {self._path}" if self._path else ""
            logger.warning("skipped %d file(s) so far%s; the newest: %s: %s", len(self.reasons), where, file, reason)
        if self._path is not None:
            if not before:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                return self._rewrite()
            with writing(self._path), self._path.open("a", newline="", encoding="utf-8") as handle:
                csv.writer(handle, lineterminator="\n").writerows((inert(name), why) for name, why in new.items())
        return None

    def _rewrite(self) -> None:
        assert self._path is not None
        rows = ((inert(name), why) for name, why in self.reasons.items())
        write_rows_atomically(self._path, [("file", "reason"), *rows])


def write_failures(failures: Iterable[Skipped], path: Path) -> None:
    """Write what was left out, and why (columns ID, reason); nothing where there is nothing to tell."""
    failures = list(failures)
    if not failures:
        path.unlink(missing_ok=True)
        return
    write_rows_atomically(path, [("ID", "reason"), *((inert(item.name), inert(item.reason)) for item in failures)])


def read_failures(path: Path) -> list[Skipped]:
    """The inverse."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [Skipped(as_it_was(row["ID"]), as_it_was(row["reason"])) for row in csv.DictReader(file)]
