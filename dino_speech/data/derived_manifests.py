"""Manifests made of manifests: without short recordings, long ones in parts; labels renamed, or on another scale.

The audio stays where it is: a row only names a span of it. A system that learnt arousal from 1 to 7 cannot be judged by
CCC on a corpus that rates it from 1 to 5: that scale is mapped linearly onto the one that was learnt first.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from dino_speech.audio.io import SAMPLE_RATE, seconds_to_samples
from dino_speech.data.utterances import Manifest, Utterance
from dino_speech.errors import InputError

logger = logging.getLogger(__name__)


def long_enough(manifest: Manifest, min_s: float) -> Manifest:
    """Without the utterances that the manifest says are shorter; a warning says how many these are.

    Raises:
        InputError: all are.
    """
    kept = [row for row, utterance in enumerate(manifest) if utterance.duration >= min_s]
    left_out = len(manifest) - len(kept)
    if manifest and not kept:
        longest_s = max(utterance.duration for utterance in manifest)
        raise InputError(
            f"all {left_out} utterances are shorter than min_s = {min_s:g} s, the longest has {longest_s:.2f} s; lower "
            "crops.min_s, or give longer recordings"
        )
    if left_out:
        logger.warning("%d of %d utterances are shorter than min_s = %g s and left out", left_out, len(manifest), min_s)
    return manifest.subset(kept) if left_out else manifest


def segment_manifest(
    manifest: Manifest,
    *,
    segment_s: float,
    hop_s: float | None = None,
    min_s: float | None = None,
    recording: str = "recording",
) -> Manifest:
    """Cut every recording into segments of `segment_s` seconds.

    IDs become `ID.s000`, `ID.s001`, ...; all labels stay (`speaker` among them), so that decisions on segments can be
    pooled by recording or by person. A recording shorter than a segment stays whole, as one row.

    Args:
        hop_s: seconds from one start to the next; None: `segment_s`, so that nothing overlaps.
        min_s: what is left at the end becomes a segment from this length on; None: half of `segment_s`.
        recording: the column that gets the ID of the recording; where it is there already only blank cells are filled.
    """
    hop_s = segment_s if hop_s is None else hop_s
    min_s = segment_s / 2 if min_s is None else min_s
    if not 0 < hop_s <= segment_s or not min_s > 0:
        problem = f"segment_s={segment_s}, hop_s={hop_s}, min_s={min_s}: expected 0 < hop_s <= segment_s and 0 < min_s"
        raise InputError(problem)
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


def rename_labels(manifest: Manifest, columns: Mapping[str, str]) -> Manifest:
    """A manifest in which further names stand for its columns: new -> column, such as `{"valence": "sentiment"}`."""
    if not columns:
        return manifest
    for column in columns.values():
        manifest.label(column)  # named where it is missing
    rows = [
        replace(row, labels={**row.labels, **{new: row.labels.get(old, "") for new, old in columns.items()}})
        for row in manifest
    ]
    return Manifest(rows, paths=manifest.paths, columns=list(dict.fromkeys([*manifest.columns, *columns])))


def rescale_labels(
    manifest: Manifest, labels: Sequence[str], label_range: Sequence[float] | None, *, onto: Sequence[float] | None
) -> Manifest:
    """A manifest whose numeric labels run over another scale; blank cells stay blank, columns that it lacks are passed
    over.

    `label_range` is the lowest and the highest rating of the corpus, such as (1, 5), `onto` the same of the corpus that
    is learnt from, such as (1, 7). Both None, or (once checked) both the same: the labels stay as they are.

    Source: arXiv 2203.07378 (MSP-Podcast 1 to 7, IEMOCAP 1 to 5, MOSI -3 to 3 on one scale).
    """
    if label_range is None and onto is None:
        return manifest
    if label_range is None or onto is None:
        raise InputError(f"label_range is {label_range!r} here and {onto!r} there; give both, each corpus its own")
    (low, high), (new_low, new_high) = checked_range(label_range), checked_range(onto)
    same = (low, high) == (new_low, new_high)
    rows = list(manifest)
    for label in (name for name in labels if name in manifest.columns):
        for number, value in enumerate(manifest.numbers(label)):
            if math.isnan(value):
                continue
            if not low <= value <= high:
                raise InputError(
                    f"{_place(rows[number], manifest)}, column {label!r}: found {value:g}; expected {low:g} to"
                    f" {high:g}, the label_range that was given for this corpus: give the range of its ratings"
                )
            scaled = repr(new_low + (value - low) / (high - low) * (new_high - new_low))
            rows[number] = replace(rows[number], labels={**rows[number].labels, label: scaled})
    return manifest if same else Manifest(rows, paths=manifest.paths, columns=manifest.columns)


def checked_range(label_range: Sequence[float]) -> tuple[float, float]:
    """The lowest and the highest rating; InputError where these are not two finite numbers, the second above."""
    try:
        low, high = (float(value) for value in label_range if not isinstance(label_range, str))
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"label_range = {label_range!r}: expected the lowest and the highest rating, such as [1, 7]")
    return low, high


def _place(row: Utterance, manifest: Manifest) -> str:
    return row.origin or f"{manifest.name}, {row.id}"
