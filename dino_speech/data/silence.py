"""The parts of recordings in which nobody speaks (or somebody does), as recordings of their own.

For the silence control: what can be told from the pauses of a recording was not told by the voice (arXiv 2406.07410).
In the output folder: `audio/` (wav, 32-bit float, 16 kHz: the very samples), `manifest.csv` (same IDs and labels; only
the recordings that have enough of the part), `parts.csv` (seconds of each recording, also of those without; a line is
added when the wav is in place), `split.json` (the settings). An interrupted run goes on where it stopped.
"""

import csv
import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
import soundfile

from dino_speech.audio.io import SAMPLE_RATE, load_audio, seconds_to_samples
from dino_speech.audio.vad import VAD, build_vad, mask_regions, other_regions
from dino_speech.data.atomic import read_json, write_atomically, write_json_atomically, write_rows_atomically
from dino_speech.data.in_threads import in_order
from dino_speech.data.manifest import write_manifest
from dino_speech.data.outputs import check_output
from dino_speech.data.utterances import Manifest, Skipped, Utterance, list_some
from dino_speech.errors import InputError
from dino_speech.metrics import auc
from dino_speech.received_files import refuse_links_out

Part = Literal["nonspeech", "speech"]
MARGIN_S = 0.1  # ours: soft onsets and the room's echo of speech are not silence; nor is the closure of a plosive
MIN_S = 0.5  # ours: less is not worth an embedding
SETTINGS_FILE = "split.json"
MAX_NAME = 150  # characters of a file's name
PROBLEMS = ("", "short", "digital silence")


@dataclass(frozen=True, slots=True)
class RecordingParts:
    """How one recording divides: seconds in all, of speech, and of the part asked for, margins taken off.

    `problem` is one of `PROBLEMS`: why nothing was written, "" where it was.
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
    manifest: Manifest, path: Path, work: Work, *, file_of: Callable[[str], Path], num_threads: int, progress: bool
) -> tuple[dict[str, RecordingParts], list[Skipped]]:
    """Do what the table at `path` does not hold yet; what cannot be read the next run tries again.

    A recording counts as done if its ID, file and span are those of the table, and the wav of its ID (`file_of`) is
    there; `work` divides one recording and writes its wav, or says why it cannot be read.
    """
    from tqdm import tqdm

    sources = {u.id: f"{u.wav} {u.start or 0}..{'' if u.stop is None else u.stop}" for u in manifest}
    done = {parts.id: parts for source, parts in _read(path) if sources.get(parts.id) == source}
    done = {name: parts for name, parts in done.items() if parts.problem or file_of(name).is_file()}
    todo = [utterance for utterance in manifest if utterance.id not in done]
    skipped = []
    write_rows_atomically(path, [COLUMNS, *([sources[name], *astuple(parts)] for name, parts in done.items())])
    form: dict[str, Any] = {"desc": "split", "unit": "file", "file": sys.stderr, "disable": not progress}
    bar = tqdm(total=len(manifest), initial=len(done), **form)
    with path.open("a", newline="", encoding="utf-8") as file, bar:
        for answer in in_order(work, todo, num_threads):
            if isinstance(answer, Skipped):
                skipped.append(answer)
            else:
                done[answer.id] = answer
                csv.writer(file, lineterminator="\n").writerow([sources[answer.id], *astuple(answer)])
                file.flush()
            bar.update()
    return done, skipped


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


@dataclass(frozen=True)
class SpeechParts:
    """What `write_nonspeech` did: `manifest` holds the parts written, `recordings` how each readable one divides."""

    part: str
    source: Manifest
    manifest: Manifest
    recordings: list[RecordingParts]
    skipped: list[Skipped]
    folder: Path

    def missing(self) -> list[RecordingParts]:
        """The recordings of which too little was left."""
        return [recording for recording in self.recordings if recording.problem]

    def missing_by_class(self, label: str) -> dict[str, tuple[int, int]]:
        """Class -> (recordings without the part, all readable recordings): what is missing can give a class away."""
        classes = dict(zip((u.id for u in self.source), self.source.label(label), strict=True))
        everything = Counter(classes[recording.id] for recording in self.recordings)
        without = Counter(classes[recording.id] for recording in self.missing())
        return {name: (without[name], everything[name]) for name in sorted(everything)}

    def fraction_auc(self, label: str, positive: str) -> float:
        """AUC of the share of non-speech time alone, as if it were a score for `positive`: the most trivial system."""
        classes = dict(zip((u.id for u in self.source), self.source.label(label), strict=True))
        known = [recording for recording in self.recordings if classes[recording.id]]
        return auc([r.nonspeech_fraction for r in known], [classes[r.id] == positive for r in known])

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        missing = self.missing()
        return {
            "part": self.part,
            "output": str(self.folder),
            "num_recordings": len(self.recordings),
            "num_written": len(self.manifest),
            "num_missing": len(missing),
            "hours_written": self.manifest.duration_s / 3600,
            "nonspeech_fraction": float(np.mean([r.nonspeech_fraction for r in self.recordings])),
            "missing": {recording.id: recording.problem for recording in missing},
            "skipped": [item.to_dict() for item in self.skipped],
        }


def write_nonspeech(
    manifest: Manifest,
    output_folder: str | Path,
    *,
    part: Part = "nonspeech",
    vad: str | VAD = "energy",
    margin_s: float = MARGIN_S,
    min_s: float = MIN_S,
    num_threads: int = 4,
    progress: bool = False,
) -> SpeechParts:
    """Write the non-speech parts (or the speech parts) of each recording, one behind the other (see the module's head).

    Args:
        vad: "energy" (Kaldi's rule, as in the paper), "range" (independent of the level), or a rule of your own.
        margin_s: how far non-speech keeps from speech; speech has no margin.
        min_s: recordings with less of the part are listed, not written.
        num_threads: recordings at a time.

    Raises:
        InputError: an option is out of its range, the folder was made with other settings, or nothing can be read.
    """
    if part not in ("nonspeech", "speech"):
        raise InputError(f"part is {part!r}; expected 'nonspeech' or 'speech'")
    if not (margin_s >= 0 and min_s > 0 and num_threads >= 1):
        raise InputError(
            f"margin_s={margin_s}, min_s={min_s}, num_threads={num_threads}: expected at least 0, above 0, at least 1"
        )
    folder, detector = Path(output_folder).absolute(), build_vad(vad)
    settings = {"part": part, "vad": detector.to_dict(), "margin_s": margin_s, "min_s": min_s}
    _check_settings(folder, settings)
    work = partial(_write_part, folder=folder, part=part, vad=detector, margin_s=margin_s, min_s=min_s)
    form: dict[str, Any] = {"num_threads": num_threads, "progress": progress}
    table = folder / "parts.csv"
    done, skipped = complete_parts(manifest, table, work, file_of=lambda name: folder / _file(name), **form)
    if not done:
        reasons = list_some([item.reason for item in skipped])
        raise InputError(f"{manifest.name}: none of {len(manifest)} recordings can be read ({reasons})")
    written = [u for u in manifest if u.id in done and not done[u.id].problem]
    rows = [Utterance(u.id, str(folder / _file(u.id)), done[u.id].part_s, labels=u.labels) for u in written]
    parts = Manifest(rows, paths=[str(folder / "manifest.csv")], columns=manifest.columns)
    if rows:
        write_manifest(parts, folder / "manifest.csv")
    else:
        (folder / "manifest.csv").unlink(missing_ok=True)
    recordings = [done[u.id] for u in manifest if u.id in done]
    return SpeechParts(part, manifest, parts, recordings, skipped, folder)


def _write_part(
    utterance: Utterance, *, folder: Path, part: str, vad: VAD, margin_s: float, min_s: float
) -> RecordingParts | Skipped:
    """Divide one recording, and write its part if there is enough of it."""
    try:
        wave = load_audio(utterance.wav, start=utterance.start or 0, stop=utterance.stop).numpy()
    except InputError as error:
        return Skipped(utterance.id, str(error))
    hop = getattr(vad, "hop_samples", SAMPLE_RATE // 100)
    speech = mask_regions(np.asarray(vad.mask(wave), dtype=bool), hop_samples=hop, num_samples=len(wave))
    between = other_regions(speech, num_samples=len(wave), margin_samples=seconds_to_samples(margin_s))
    regions = speech if part == "speech" else between
    chosen = np.concatenate([wave[:0], *(wave[start:stop] for start, stop in regions.tolist())])
    problem = "short" if len(chosen) < seconds_to_samples(min_s) else "" if chosen.any() else "digital silence"
    if not problem:
        path = folder / _file(utterance.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: soundfile.write(file, chosen, SAMPLE_RATE, subtype="FLOAT", format="WAV"))
    total_s, speech_s, part_s = (n / SAMPLE_RATE for n in (len(wave), int(np.diff(speech).sum()), len(chosen)))
    return RecordingParts(utterance.id, total_s, speech_s, part_s, problem)


def _file(name: str) -> str:
    """A file for any ID, below the folder."""
    safe = quote(name, safe=" ")
    short = safe if len(safe) <= MAX_NAME else f"{safe[:100]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return f"audio/{short}.wav"


def _check_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Note the settings of a new folder; one that holds other things is refused."""
    refuse_links_out(folder)
    path = folder / SETTINGS_FILE
    if path.exists():
        found = read_json(path)
        if found != settings:
            other = [name for name in settings if found.get(name) != settings[name]]
            raise InputError(
                f"{folder}: was written with other settings ({', '.join(other)}); choose another folder, or remove it"
            )
        return
    check_output(folder)
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: exists and does not come from this command; choose a folder that is new or empty")
    folder.mkdir(parents=True, exist_ok=True)
    write_json_atomically(path, settings)
