"""Embeddings of files, on disk: in one file, or more than fit into memory, part by part, on one process or many.

Part k, of `part_size` utterances that follow each other, belongs to rank k mod world size, and a part on disk is done:
so a run that was killed goes on with the others, also on another number of processes, and no utterance is lost.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from dino_speech.data.atomic import read_json, write_json_atomically
from dino_speech.data.loading.skipped import read_failures
from dino_speech.data.outputs import check_output
from dino_speech.data.resumable_store import write_arrays
from dino_speech.data.sole_use import alone
from dino_speech.data.utterances import Manifest, Skipped, Utterance, list_some
from dino_speech.distributed import Meeting, is_main_process, rank, world_size
from dino_speech.embedding.inputs import Inputs, with_durations
from dino_speech.embedding.one_file import check_format, write_file
from dino_speech.embedding.parts_on_disk import FAILURES, INDEX, pack, part_path, read_part, write_index
from dino_speech.errors import InputError
from dino_speech.models.embed_files import Embeddings
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.fingerprint import fingerprint
from dino_speech.models.precision import choose_precision
from dino_speech.plain_data import PlainData
from dino_speech.received_files import refuse_links_out

logger = logging.getLogger(__name__)

NUM_READING_THREADS = 2
RUN = "run.json"
PART_SIZE = 10_000  # ours: hundreds of batches, whose lengths sort well; some minutes of work, 8 MB at 192 dimensions


@dataclass(frozen=True)
class EmbedReport(PlainData):
    """What `embed_to_file` or `embed_to_folder` did: rows and columns of `output`, and what was left out, and why."""

    output: str
    num_embedded: int
    embedding_dim: int
    skipped: tuple[Skipped, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**super().to_dict(), "num_skipped": len(self.skipped)}


def embed_to_file(
    inputs: Sequence[str | Path],
    encoder: SpeechEncoder,
    output: str | Path,
    *,
    num_workers: int = NUM_READING_THREADS,
    **options: Any,
) -> EmbedReport:
    """Embed as `embed_to_folder` does, into one file of the format that its name says (see `one_file.py`).

    Raises:
        InputError: also where the name says no such format, or the file cannot be written, before the work.
    """
    target = Path(output)
    check_format(target)
    check_output(target, is_file=True)
    given = Inputs(inputs)
    given.survey()
    found = embed_readable(list(given), encoder, num_workers=num_workers, **options)
    refuse_nothing(len(found.ids), found.failures)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_file(target, found)
    return EmbedReport(str(output), len(found.ids), found.embeddings.shape[1], tuple(found.failures))


def embed_readable(utterances: Sequence[Utterance], encoder: SpeechEncoder, **options: Any) -> Embeddings:
    """Embed what can be embedded, also files whose headers were not read yet; the others are its `failures`."""
    known, skipped = with_durations(utterances)
    if not known:
        return Embeddings([], np.zeros((0, encoder.embedding_dim), np.float32), skipped)
    found = encoder.embed_files(known, on_error="skip", **options)
    return Embeddings(found.ids, found.embeddings, [*skipped, *found.failures])


def refuse_nothing(num_embedded: int, skipped: Sequence[Skipped]) -> None:
    """Refuse inputs of which nothing could be embedded, with the reasons."""
    if not num_embedded:
        reasons = list_some([f"{item.name}: {item.reason}" for item in skipped])
        raise InputError(f"none of {len(skipped)} files could be embedded ({reasons})")


@alone("output")
def embed_to_folder(
    inputs: Sequence[str | Path] | Manifest,
    encoder: SpeechEncoder,
    output: str | Path,
    *,
    part_size: int = PART_SIZE,
    num_workers: int = NUM_READING_THREADS,
    batch_s: float | None = None,
    max_s: float | None = None,
    progress: bool = False,
    precision: str = "fp32",
) -> EmbedReport:
    """Embed files, folders, manifests and shards into a folder of parts (see `parts_on_disk.py`).

    Under torchrun each process embeds its own parts. Of manifests and shards only `part_size` rows are in memory at a
    time. What cannot be read is listed in `failures.csv` and left out. `encoder` embeds on the device that it is on;
    further options are as of `SpeechEncoder.embed_files`.

    Args:
        inputs: audio files, folders, manifests (CSV), shards; or a manifest that is in memory.
        output: the folder, made with its parents; embeddings that a former call left there are kept.
        part_size: utterances per part.

    Raises:
        InputError: an input does not exist, or two utterances have one ID; the folder holds embeddings of another
            input, encoder, part size or precision; nothing could be embedded.
    """
    meeting = Meeting()
    check_output(output)
    folder, given = Path(output), Inputs(inputs)
    survey = given.survey()
    identity = {
        "num_utterances": survey.num_utterances,
        "sha256": survey.sha256,
        "encoder_sha256": fingerprint(encoder, encoder.config.to_dict()),
        "part_size": part_size,
        "precision": choose_precision(precision, encoder.device),
        "max_s": encoder.max_s if max_s is None else max_s,
    }
    options = {
        "num_workers": num_workers,
        "batch_s": batch_s,
        "max_s": max_s,
        "progress": progress,
        "precision": precision,
    }
    _begin(folder, identity, meeting)
    num_parts = -(-survey.num_utterances // part_size)
    with meeting.uneven():  # one process may have much more to do than another
        for number, window in _missing_parts(given, part_size, folder):
            found = embed_readable(window, encoder, **options)
            write_arrays(part_path(folder, number), pack(found))
            counts = len(found.ids), len(found.failures)
            logger.info("part %d of %d: %d embedded, %d skipped", number + 1, num_parts, *counts)
    with meeting.uneven():
        if is_main_process() and not (folder / INDEX).exists():
            write_index(folder, num_parts, {"encoder": encoder.config.to_dict(), "run": identity})
    return _report(folder)


def _begin(folder: Path, identity: dict[str, Any], meeting: Meeting) -> None:
    """Make the folder, or find that it holds the same run."""
    _refuse_other_run(folder, identity)
    meeting.wait()  # all have looked before anything changes
    if is_main_process():
        folder.mkdir(parents=True, exist_ok=True)
        write_json_atomically(folder / RUN, identity)
    meeting.wait()


def _refuse_other_run(folder: Path, identity: dict[str, Any]) -> None:
    refuse_links_out(folder)
    started = (folder / RUN).exists()
    if not started and folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise InputError(f"{folder}: holds other things than embeddings; give a folder that is empty or does not exist")
    # Folders from before there was a choice were computed in float32, whatever the length.
    before = {"precision": "fp32", "max_s": identity["max_s"]} | read_json(folder / RUN) if started else identity
    differing = [name for name, value in identity.items() if before.get(name) != value]
    if differing:
        raise InputError(
            f"{folder}: holds embeddings of another run ({', '.join(differing)} differ); give another --output, or"
            " delete the folder"
        )


def _missing_parts(given: Inputs, part_size: int, folder: Path) -> Iterator[tuple[int, list[Utterance]]]:
    """The parts of this process that are not on disk."""
    utterances, number = iter(given), 0
    while window := list(islice(utterances, part_size)):
        if number % world_size() == rank() and not _is_whole(part_path(folder, number)):
            yield number, window
        number += 1


def _is_whole(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        read_part(path)
    except InputError as error:
        logger.warning("%s: it is made again", str(error).partition(";")[0])
        return False
    return True


def _report(folder: Path) -> EmbedReport:
    index, failures = read_json(folder / INDEX), tuple(read_failures(folder / FAILURES))
    refuse_nothing(index["num_embedded"], failures)
    return EmbedReport(str(folder), index["num_embedded"], index["embedding_dim"], failures)
