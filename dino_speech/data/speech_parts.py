"""How each recording divides into speech and the rest, as a table on disk to which an interrupted run returns.

`parts.csv` has one line per recording that is done, added when its wav is in place. The dividing is in `silence.py`.
"""

import csv
import sys
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from dino_speech.data.atomic import write_rows_atomically
from dino_speech.data.in_threads import in_order
from dino_speech.data.utterances import Manifest, Skipped, Utterance

PROBLEMS = ("", "short", "digital silence")


@dataclass(frozen=True, slots=True)
class RecordingParts:
    """How one recording divides.

    Attributes:
        id: of the manifest.
        total_s: length, seconds.
        speech_s: seconds in which somebody speaks.
        part_s: seconds of the part asked for, margins taken off; written where there is enough of it.
        problem: one of `PROBLEMS`: why nothing was written, "" where it was.
    """

    id: str
    total_s: float
    speech_s: float
    part_s: float
    problem: str

    @property
    def nonspeech_fraction(self) -> float:
        """Share of the time in which nobody speaks."""
        return 1 - self.speech_s / self.total_s


Work = Callable[[Utterance], RecordingParts | Skipped]
COLUMNS = ("source", *(field.name for field in fields(RecordingParts)))


def complete_parts(
    manifest: Manifest,
    path: Path,
    work: Work,
    *,
    file_of: Callable[[str], Path],
    num_threads: int,
    progress: bool,
) -> tuple[dict[str, RecordingParts], list[Skipped]]:
    """Do what the table does not hold yet.

    Args:
        manifest: the recordings; one counts as done if its ID, file and span are those of the table.
        path: the table.
        work: divides one recording and writes its wav, or says why it cannot be read.
        file_of: where the wav of an ID lies.
        num_threads: recordings at a time.
        progress: show a bar on stderr.

    Returns:
        ID -> how the recording divides; and the recordings that cannot be read, which the next run tries again.
    """
    from tqdm import tqdm

    sources = {utterance.id: _source(utterance) for utterance in manifest}
    done = {parts.id: parts for source, parts in _read(path) if sources.get(parts.id) == source}
    done = {name: parts for name, parts in done.items() if parts.problem or file_of(name).is_file()}
    todo = [utterance for utterance in manifest if utterance.id not in done]
    skipped = []
    write_rows_atomically(path, [COLUMNS, *([sources[name], *astuple(parts)] for name, parts in done.items())])
    with (
        path.open("a", newline="", encoding="utf-8") as file,
        tqdm(
            total=len(manifest), initial=len(done), desc="split", unit="file", file=sys.stderr, disable=not progress
        ) as bar,
    ):
        for answer in in_order(work, todo, num_threads):
            if isinstance(answer, Skipped):
                skipped.append(answer)
            else:
                done[answer.id] = answer
                csv.writer(file, lineterminator="\n").writerow([sources[answer.id], *astuple(answer)])
                file.flush()
            bar.update()
    return done, skipped


def _source(utterance: Utterance) -> str:
    return f"{utterance.wav} {utterance.start or 0}..{'' if utterance.stop is None else utterance.stop}"


def _read(path: Path) -> Iterable[tuple[str, RecordingParts]]:
    """The lines of an earlier run; one that was cut off is left out."""
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        for cells in csv.reader(file):
            if len(cells) == len(COLUMNS) and tuple(cells) != COLUMNS:
                source, name, total_s, speech_s, part_s, problem = cells
                if problem in PROBLEMS:
                    yield source, RecordingParts(name, float(total_s), float(speech_s), float(part_s), problem)
