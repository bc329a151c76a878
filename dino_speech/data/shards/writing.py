"""Writing shards: a corpus of many small files as a few large tar archives, for storage that is slow to open files.

A shard is a tar that webdataset reads: for each utterance `<key>.flac` (its samples, spans cut out) and `<key>.json`
(ID, duration, labels). `index.json` lists the shards, `manifest.csv` the utterances with the place of their bytes.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from dino_speech.audio.io import SAMPLE_RATE
from dino_speech.audio.sources import member_place
from dino_speech.data.atomic import read_json, write_json_atomically, writing
from dino_speech.data.in_threads import in_order
from dino_speech.data.loading.skipped import read_failures, write_failures
from dino_speech.data.manifest import Manifest, read_manifest, scan_folder, write_manifest
from dino_speech.data.outputs import check_output
from dino_speech.data.seeds import seeded_generator
from dino_speech.data.shards.reading import FAILURES, INDEX, MANIFEST, VERSION
from dino_speech.data.shards.shard import CODECS, Encoded, Failed, Shard, encode
from dino_speech.data.sole_use import alone
from dino_speech.data.utterances import Skipped, Utterance, list_some
from dino_speech.errors import InputError
from dino_speech.plain_data import PlainData
from dino_speech.received_files import refuse_links_out

PROGRESS = ".progress"  # a folder within the output, until all is written


@dataclass(frozen=True, slots=True)
class ShardReport(PlainData):
    """What `write_shards` did: what is in the folder, and what could not be read, and why."""

    output: str
    num_utterances: int
    num_shards: int
    hours: float
    num_bytes: int
    failures: tuple[Skipped, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        more = {"manifest": str(Path(self.output, MANIFEST)), "num_failures": len(self.failures)}
        return PlainData.to_dict(self) | more | {"hours": round(self.hours, 4)}


@alone("output")
def write_shards(
    source: str | Path | Manifest,
    output: str | Path,
    *,
    shard_mb: float = 256,
    codec: Literal["flac", "as-found"] = "flac",
    num_threads: int = 4,
    progress: Callable[[Iterable[Any], int], Iterable[Any]] = lambda items, total: items,
) -> ShardReport:
    """Write the utterances of a manifest into tar shards; after a kill the same call goes on at the last whole shard.

    The utterances are dealt to the shards in a random order that is always the same, so that a reader who goes through
    a shard hears many speakers. `manifest.csv` keeps the order of the source: training from it sees the same batches.

    Args:
        source: a manifest, its file, or a folder of audio.
        shard_mb: size of a shard in millions of bytes; it is closed before it grows beyond.
        codec: "flac" (mono, 16 kHz, 16 bits: such files keep every sample) or "as-found" (whole files are copied byte
            by byte, which suits corpora in Opus or mp3; spans still become flac).
        num_threads: utterances read and encoded side by side.
        progress: wraps what is written as it comes, given the number.

    Raises:
        InputError: a bad value, shards of another source or other settings in the folder, or nothing can be read.
    """
    if not shard_mb > 0 or codec not in CODECS:
        raise InputError(f"shard_mb={shard_mb}, codec={codec!r}: expected a positive number, and one of {CODECS}")
    check_output(output)
    if not isinstance(source, Manifest):
        source = scan_folder(source) if Path(source).is_dir() else read_manifest(source)
    writing = _Writing(source, Path(output), int(shard_mb * 10**6), codec)
    if not writing.is_complete():
        writing.run(num_threads, progress)
    writing.tidy()
    return writing.report()


class _Writing:
    """One source on its way into one folder."""

    def __init__(self, manifest: Manifest, folder: Path, shard_bytes: int, codec: str) -> None:
        self.manifest, self.folder, self.shard_bytes, self.codec = manifest, folder, shard_bytes, codec
        self.order = torch.randperm(len(manifest), generator=seeded_generator(0, "shards")).tolist()
        digest = hashlib.sha256()
        for u in manifest:
            digest.update(f"{u.id}\x1f{u.wav}\x1f{u.start}\x1f{u.stop}\x1f{sorted(u.labels.items())}\n".encode())
        self.identity = {"source": digest.hexdigest(), "codec": codec, "shard_bytes": shard_bytes}

    def is_complete(self) -> bool:
        """Whether the folder holds these very shards already; InputError where it holds others."""
        for path in (self.folder / INDEX, self.folder / PROGRESS / "identity.json"):
            if path.exists() and read_json(path).get("identity") != self.identity:
                problem = f"{self.folder}: holds shards of another manifest, or with another shard_mb or codec"
                raise InputError(f"{problem}; give another --output, or delete the folder")
        return (self.folder / INDEX).exists()

    def run(self, num_threads: int, progress: Callable[[Iterable[Any], int], Iterable[Any]]) -> None:
        """Write what is not there yet."""
        refuse_links_out(self.folder)
        with writing(self.folder):
            (self.folder / PROGRESS).mkdir(parents=True, exist_ok=True)
        write_json_atomically(self.folder / PROGRESS / "identity.json", {"identity": self.identity})
        records = self._finished()
        num_done = records[-1]["next"] if records else 0
        if num_done == len(self.order):
            return self._conclude(records)
        answers = progress(in_order(self._encode, self.order[num_done:], num_threads), len(self.order) - num_done)
        with writing(self.folder):
            self._write(records, enumerate(answers, start=num_done))
        return self._conclude(records)

    def _write(self, records: list[dict[str, Any]], answers: Iterable[tuple[int, Any]]) -> None:
        """Write the shards that are left, of numbered answers of `_encode`, and add their records."""
        shard = Shard(self.folder, len(records))
        for number, answer in answers:
            if isinstance(answer, Failed):
                shard.failures.append(answer)
                continue
            position, encoded = answer
            if not shard.has_room(encoded, self.shard_bytes):
                records.append(self._finish(shard, number))
                shard = Shard(self.folder, len(records))
            shard.add(f"{number:09d}", position, encoded, self.manifest[position])
        records.append(self._finish(shard, len(self.order)))

    def _finished(self) -> list[dict[str, Any]]:
        """Records of the shards that a former call wrote to their end, up to the first one that is not there whole."""
        records: list[dict[str, Any]] = []
        with contextlib.suppress(OSError, ValueError, KeyError):
            while True:
                record = read_json(self._record_path(len(records)))
                if (self.folder / record["shard"]["file"]).stat().st_size != record["shard"]["num_bytes"]:
                    break
                records.append(record)
        return records

    def _record_path(self, number: int) -> Path:
        return self.folder / PROGRESS / f"{number:06d}.json"

    def _finish(self, shard: Shard, following: int) -> dict[str, Any]:
        """Close a shard; it counts once its record is written."""
        record = {"shard": shard.close(), "members": shard.members, "failures": shard.failures, "next": following}
        write_json_atomically(self._record_path(shard.number), record)
        return record

    def _encode(self, position: int) -> tuple[int, Encoded] | Failed:
        answer = encode(self.manifest[position], copy_files=self.codec == "as-found")
        return Failed(position, answer) if isinstance(answer, str) else (position, answer)

    def _conclude(self, records: list[dict[str, Any]]) -> None:
        """Write the manifest, the failures and, last, the index."""
        failures = {position: reason for record in records for position, reason in record["failures"]}
        rows: dict[int, Utterance] = {}
        for record in records:
            for position, offset, size, num_samples in record["members"]:
                old = self.manifest[position]
                place = member_place(str((self.folder / record["shard"]["file"]).absolute()), offset, size)
                rows[position] = Utterance(old.id, place, num_samples / SAMPLE_RATE, labels=old.labels)
        if not rows:
            reasons = list_some([f"{self.manifest[i].id}: {why}" for i, why in failures.items()])
            raise InputError(f"none of {len(self.manifest)} utterances can be read ({reasons})")
        skipped = list(self.manifest.skipped)
        skipped += [Skipped(self.manifest[i].id, why) for i, why in sorted(failures.items())]
        write_failures(skipped, self.folder / FAILURES)
        ordered = Manifest((rows[i] for i in sorted(rows)), columns=self.manifest.columns)
        write_manifest(ordered, self.folder / MANIFEST)
        shards = [record["shard"] for record in records]
        index = {
            "version": VERSION,
            "num_utterances": len(rows),
            "num_failures": len(skipped),
            "hours": round(ordered.duration_s / 3600, 6),
            "num_bytes": sum(shard["num_bytes"] for shard in shards),
            "shards": shards,
            "identity": self.identity,
        }
        write_json_atomically(self.folder / INDEX, index)

    def tidy(self) -> None:
        """Remove what served the writing."""
        progress = self.folder / PROGRESS
        for path in [*self.folder.glob(".*.tmp"), *self.folder.glob(".*.partial"), *progress.glob("*")]:
            path.unlink()
        if progress.exists():
            progress.rmdir()

    def report(self) -> ShardReport:
        """What is in the folder."""
        index = read_json(self.folder / INDEX)
        counts = {name: index[name] for name in ("num_utterances", "hours", "num_bytes")}
        failures = tuple(read_failures(self.folder / FAILURES))
        return ShardReport(output=str(self.folder), num_shards=len(index["shards"]), failures=failures, **counts)
