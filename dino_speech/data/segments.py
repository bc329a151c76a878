"""Long recordings as rows of fixed length: the audio stays where it is, a row only names a span of it."""

from collections.abc import Iterator
from dataclasses import replace

from dino_speech.audio.io import SAMPLE_RATE, seconds_to_samples
from dino_speech.data.utterances import Manifest, Utterance
from dino_speech.errors import InputError


def segment_manifest(
    manifest: Manifest,
    *,
    segment_s: float,
    hop_s: float | None = None,
    min_s: float | None = None,
    recording: str = "recording",
) -> Manifest:
    """Cut every recording into segments of one length.

    IDs become `ID.s000`, `ID.s001`, ...; all labels stay (`speaker` among them), so that decisions on segments can be
    pooled by recording or by person. A recording shorter than a segment stays whole, as one row.

    Args:
        manifest: recordings, or spans of files.
        segment_s: seconds of a segment.
        hop_s: seconds from one start to the next; None: `segment_s`, so that nothing overlaps.
        min_s: what is left at the end becomes a segment from this length on; None: half of `segment_s`.
        recording: the column that gets the ID of the recording; where the manifest has it already it stays, blank cells
            are filled.

    Raises:
        InputError: a length is not positive, `hop_s` is longer than a segment, or two rows would get the same ID.

    Example:
        >>> long = Manifest([Utterance("a", "a.wav", 12.0, labels={"speaker": "anna"})])
        >>> [(row.id, row.start, row.stop) for row in segment_manifest(long, segment_s=5.0)]
        [('a.s000', 0, 80000), ('a.s001', 80000, 160000)]
    """
    hop_s = segment_s if hop_s is None else hop_s
    min_s = segment_s / 2 if min_s is None else min_s
    if not 0 < hop_s <= segment_s or not min_s > 0:
        raise InputError(
            f"segment_s={segment_s}, hop_s={hop_s}, min_s={min_s}: expected 0 < hop_s <= segment_s and 0 < min_s"
        )
    length, hop = (seconds_to_samples(seconds) for seconds in (segment_s, hop_s))
    least = min(length, seconds_to_samples(min_s))
    rows = (row for utterance in manifest for row in _segments(utterance, length, hop, least, recording))
    return Manifest(rows, paths=manifest.paths, columns=list(dict.fromkeys([*manifest.columns, recording])))


def _segments(utterance: Utterance, length: int, hop: int, least: int, recording: str) -> Iterator[Utterance]:
    first = utterance.start or 0
    whole = utterance.start is None and utterance.stop is None
    end = first + seconds_to_samples(utterance.duration) if utterance.stop is None else utterance.stop
    labels = {**utterance.labels, recording: utterance.labels.get(recording) or utterance.id}
    if end - first <= length:
        yield replace(utterance, id=f"{utterance.id}.s000", labels=labels)
        return
    for number, start in enumerate(range(first, end, hop)):
        stop = min(start + length, end)
        if stop - start < (length if hop < length else least):
            return
        # The end of a whole file is left open: a manifest's duration is rounded.
        last = None if whole and stop == end else stop
        seconds = (stop - start) / SAMPLE_RATE
        yield replace(
            utterance, id=f"{utterance.id}.s{number:03d}", duration=seconds, start=start, stop=last, labels=labels
        )
