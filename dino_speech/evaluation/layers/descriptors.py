"""What layers are compared with: acoustic descriptors, a person's own columns, and the words that were said.

The acoustic ones are the 88 functionals of eGeMAPS as opensmile computes them: the extra `dino-speech[descriptors]`,
whose licence allows research only. Letters: `N` utterances, `Q` descriptors.
"""

import csv
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dino_speech.audio.io import SAMPLE_RATE, load_audio
from dino_speech.data.resumable_store import ResumableStore
from dino_speech.data.utterances import Manifest, Utterance
from dino_speech.errors import InputError
from dino_speech.evaluation.layers.layer_features import utterances_digest
from dino_speech.models.backbones.functionals import open_smile

Descriptors = dict[str, NDArray[np.float64]]
EGEMAPS = "egemaps"
MAX_TEXT_DIM = 30  # ours: directions of the words' space; more than a few hundred transcripts can fill

# Group -> beginnings of opensmile's names; each of the 88 is in one group. The set: Eyben et al., IEEE Transactions on
# Affective Computing 7(2), 2016; how it is cut into groups here is ours.
GROUPS = {
    "pitch": ("F0semitone",),
    "energy": ("loudness_", "equivalentSoundLevel"),
    "spectrum": ("spectralFlux", "mfcc", "alphaRatio", "hammarberg", "slope"),
    "formants": ("F1", "F2", "F3"),
    "voice quality": ("jitter", "shimmer", "HNR", "logRelF0"),
    "rhythm": ("loudnessPeaks", "VoicedSegments", "MeanVoiced", "StddevVoiced", "MeanUnvoiced", "StddevUnvoiced"),
}


def describe(
    manifest: Manifest,
    rows: NDArray[np.integer],
    source: "str | os.PathLike[str] | Mapping[str, ArrayLike] | ArrayLike",
    *,
    cache: str | os.PathLike[str] | None = None,
) -> Descriptors:
    """Descriptors of a manifest's N utterances, by group: (N, Q) float64, a row of NaN where there is nothing.

    `source` is "egemaps" (gives `eGeMAPS`, all of them, and one group for each of `GROUPS`; kept in the folder
    `cache`), a CSV file with a column `ID` and columns of numbers, an array (N, Q), or a mapping of names to such
    arrays. Only the utterances at `rows` are needed.

    Raises:
        InputError: opensmile is not installed, a file that is none, or an array of another length.
    """
    if isinstance(source, str) and source == EGEMAPS:
        return _egemaps(manifest, rows, cache)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        return {path.stem: read_descriptors(path, manifest)}
    groups = source if isinstance(source, Mapping) else {"descriptors": source}
    return {str(name): _checked(str(name), values, manifest) for name, values in groups.items()}


def describe_text(manifest: Manifest, column: str) -> Descriptors:
    """The words of a transcript column: TF-IDF of words, on its leading directions. No labels, no model of language.

    Gives `text` -> (N, Q) float64; a row of NaN where the cell is blank.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    cells = manifest.label(column)
    filled = np.flatnonzero([bool(cell.strip()) for cell in cells])
    try:
        words = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", min_df=2).fit_transform([cells[i] for i in filled])
    except ValueError as error:  # nothing is said twice
        raise InputError(f"{manifest.name}: column {column!r}: no word occurs in two transcripts") from error
    dim = min(MAX_TEXT_DIM, words.shape[1] - 1, len(filled) // 4)
    if dim < 1:
        raise InputError(f"{manifest.name}: column {column!r}: too few transcripts or words to compare with")
    values = np.full((len(manifest), dim), np.nan)
    values[filled] = TruncatedSVD(dim, random_state=0).fit_transform(words)
    return {"text": values}


def read_descriptors(path: Path, manifest: Manifest) -> NDArray[np.float64]:
    """(N, Q) from a CSV file with the column `ID` and numbers; NaN where an ID or a cell is missing."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); descriptors are {EGEMAPS!r} or a CSV file"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: no table ({error}); expected CSV in UTF-8") from error
    for number, row in enumerate(rows, start=2):
        if None in row:
            raise InputError(f"{path} row {number}: more cells than names in the first line; quote cells with commas")
    names = [name for name in (rows[0] if rows else {}) if name != "ID"]
    if not rows or "ID" not in rows[0] or not names:
        raise InputError(f"{path}: expected a first line with ID and names of descriptors, and numbers below it")
    positions, values = manifest.by_id(), np.full((len(manifest), len(names)), np.nan)
    for number, row in enumerate(rows, start=2):
        if row["ID"] in positions:
            values[positions[row["ID"]]] = [
                _number(row[name], f"{path} row {number}: column {name!r}") for name in names
            ]
    if np.isnan(values).all():
        raise InputError(f"{path}: none of its {len(rows)} IDs is in {manifest.name}")
    return values


def _number(cell: Any, place: str) -> float:
    try:
        number = float(cell or "nan")
    except (TypeError, ValueError):
        number = math.inf
    if math.isinf(number):
        raise InputError(f"{place}: found {cell!r}; expected a number or nothing")
    return number


def _checked(name: str, values: ArrayLike, manifest: Manifest) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or len(array) != len(manifest):
        raise InputError(
            f"descriptors {name!r} of shape {array.shape}: expected ({len(manifest)}, Q), a row per utterance"
        )
    return array


def _egemaps(manifest: Manifest, rows: NDArray[np.integer], cache: str | os.PathLike[str] | None) -> Descriptors:
    wanted = [manifest[row] for row in rows.tolist()]
    digest = utterances_digest(wanted)
    arrays = (
        _smile(wanted) if cache is None else ResumableStore(Path(cache)).arrays(EGEMAPS, digest, lambda: _smile(wanted))
    )
    names = arrays["names"].tolist()
    values = np.full((len(manifest), len(names)), np.nan)
    values[rows] = arrays["values"]
    columns = {group: [i for i, name in enumerate(names) if name.startswith(GROUPS[group])] for group in GROUPS}
    return {"eGeMAPS": values, **{group: values[:, places] for group, places in columns.items()}}


def _smile(utterances: Sequence[Utterance]) -> dict[str, NDArray[Any]]:
    """`names` (88,) and `values` (N, 88); NaN for audio that cannot be read."""
    smile = open_smile(EGEMAPS)
    found = np.full((len(utterances), len(smile.feature_names)), np.nan)
    for row, utterance in zip(found, utterances, strict=True):
        with suppress(InputError):  # the encoder cannot read it either, and says so
            wave = load_audio(utterance.wav, start=utterance.start or 0, stop=utterance.stop)
            row[:] = smile.process_signal(wave.numpy(), SAMPLE_RATE).to_numpy()[0]
    return {"names": np.array(smile.feature_names, dtype=np.str_), "values": found}
