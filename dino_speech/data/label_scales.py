"""Numeric labels of corpora that rate on different scales, or call them by other names, made comparable.

A system that learnt arousal from 1 to 7 cannot be judged by CCC on a corpus that rates it from 1 to 5: that scale is
mapped linearly onto the one that was learnt first.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dino_speech.data.utterances import Manifest, Utterance
from dino_speech.errors import InputError


def rename_labels(manifest: Manifest, columns: Mapping[str, str]) -> Manifest:
    """A manifest in which further names stand for its columns.

    Args:
        manifest: is left as it is.
        columns: new name -> column, such as `{"valence": "sentiment"}`.

    Raises:
        InputError: there is no such column.
    """
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
    manifest: Manifest,
    labels: Sequence[str],
    label_range: Sequence[float] | None,
    *,
    onto: Sequence[float] | None,
) -> Manifest:
    """A manifest whose numeric labels run over another scale; blank cells stay blank.

    Args:
        manifest: is left as it is.
        labels: the columns; those that the manifest lacks are passed over.
        label_range: the lowest and the highest rating of the corpus, such as (1, 5).
        onto: what becomes of them: the same of the corpus that is learnt from, such as (1, 7). Both None: the labels
            stay as they are, and so they do, once checked, where both are the same.

    Raises:
        InputError: one range is missing or none, a cell is no number, or a number outside the range.

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
    """The lowest and the highest rating.

    Raises:
        InputError: they are not two finite numbers, the second above the first.
    """
    try:
        low, high = (float(value) for value in label_range if not isinstance(label_range, str))
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"label_range = {label_range!r}: expected the lowest and the highest rating, such as [1, 7]")
    return low, high


def _place(row: Utterance, manifest: Manifest) -> str:
    return row.origin or f"{manifest.name}, {row.id}"
