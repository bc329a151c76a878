"""Splits that keep every speaker on one side: a classifier must not recognise the person instead of the emotion.

Also what two given parts are refused for: the same speakers, or the same speech. Where that cannot be looked for, it is
said, in sentences that are for the report.
"""

import logging
import math
import warnings
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.packed.utterances import Utterance
from dino_speech.data.utterances import Manifest, list_some
from dino_speech.errors import InputError

logger = logging.getLogger(__name__)

SPEAKER = "speaker"

Fold = tuple[NDArray[np.int64], NDArray[np.int64]]
ALWAYS_TRAIN = "train"  # in a column of folds: learnt from in each, judged in none


def speaker_folds(
    speakers: Sequence[str], classes: Sequence[str] | None = None, *, num_folds: int = 5, seed: int = 0
) -> list[Fold]:
    """Cross-validation folds without a speaker on both sides, as even in size and classes as the speakers allow.

    Speakers (N,) and classes (N,) -> pairs of sorted positions (train, test), each utterance in one test part.
    InputError: fewer speakers than folds, a blank, fewer than two classes, or a class that one speaker alone has (then
    some training part would lack it).
    """
    groups = np.asarray(speakers)
    kinds = np.zeros(groups.size, dtype=np.int64) if classes is None else np.asarray(classes)
    if classes is not None:
        _check_classes(kinds, groups)
    if num_folds < 2 or np.unique(groups).size < num_folds:
        num = np.unique(groups).size
        problem = f"{num} speakers cannot make {num_folds} speaker-disjoint folds; expected 2 folds or more and at"
        raise InputError(f"{problem} least one speaker for each: use num_folds between 2 and {num}, or more speakers")
    if classes is not None:
        _check_enough(kinds, groups, num_folds)
    folds = group_folds(kinds, groups, num_folds=num_folds, seed=seed)
    for train, test in folds:
        check_disjoint(groups[train].tolist(), groups[test].tolist())
        absent = sorted(set(kinds.tolist()) - set(kinds[train].tolist()))
        if classes is not None and (absent or len(folds) < num_folds):
            problem = f"no {num_folds} speaker-disjoint folds found whose training parts all hold class"
            raise InputError(f"{problem} {list_some(absent)}; use fewer folds, leave this class out, or add speakers")
    return folds


def _check_classes(classes: NDArray, groups: NDArray) -> None:
    if classes.shape != groups.shape or classes.ndim != 1 or classes.size == 0:
        raise InputError(f"expected one speaker per label, at least one; found {classes.shape} and {groups.shape}")
    for name, values in (("label", classes), ("speaker", groups)):
        if num_blank := int((values == "").sum()):
            raise InputError(f"{num_blank} utterances have a blank {name}; leave them out, or fill it in")
    if np.unique(classes).size < 2:
        problem = f"all {classes.size} utterances are {str(classes[0])!r}; a classification needs at least two classes"
        raise InputError(problem)


def _check_enough(classes: NDArray, groups: NDArray, num_folds: int) -> None:
    names, counts = np.unique(classes, return_counts=True)
    if counts.max() < num_folds:
        problem = f"the largest class has {counts.max()} utterances, too few for {num_folds} folds; use fewer folds"
        raise InputError(problem)
    lonely = [repr(name) for name in names.tolist() if np.unique(groups[classes == name]).size < 2]
    if lonely:
        problem = f"class {list_some(lonely)}: all utterances are of one speaker; speaker-disjoint"
        raise InputError(f"{problem} folds need two speakers per class: leave this class out, or add speakers")


def manifest_folds(
    manifest: Manifest,
    *,
    column: str | None = None,
    num_folds: int | None = None,
    stratify: str | None = None,
    speaker: str = SPEAKER,
    seed: int = 0,
) -> dict[str, Fold]:
    """The folds of a manifest by name: as published, one for each value of a column; or drawn, no speaker in two.

    Args:
        column: of the folds as published (see `published_folds`); or else
        num_folds: of folds drawn with `seed`, named "1", "2", ...
        stratify: column of classes to spread evenly over drawn folds; None: none.
        speaker: the column that no fold may split; folds as published are compared by it as far as speakers are known
            (what is not, `unknown_speakers` says); any other column than "speaker" must be there.
    """
    if (column is None) == (num_folds is None):
        raise InputError("give either a column of folds (fold_column) or a number of them (num_folds)")
    if column is None:
        assert num_folds is not None
        speakers = manifest.label(speaker, allow_blank=False)
        classes = None if stratify is None else manifest.label(stratify, allow_blank=False)
        drawn = speaker_folds(speakers, classes, num_folds=num_folds, seed=seed)
        return {str(number): fold for number, fold in enumerate(drawn, start=1)}
    folds = published_folds(manifest, column)
    if speaker in manifest.columns or speaker != SPEAKER:
        people = np.array(manifest.label(speaker))
        for train, test in folds.values():
            check_disjoint(people[train].tolist(), people[test].tolist())
    return folds


def published_folds(manifest: Manifest, column: str) -> dict[str, Fold]:
    """The folds that a column names: each value is judged in turn, all other rows are learnt from.

    Rows with the value `train` are never judged: a published training and test part are one fold.
    """
    values = np.array(manifest.label(column, allow_blank=False))
    found = sorted(set(values.tolist()), key=lambda name: (len(name), name) if name.isdecimal() else (0, name))
    names = [name for name in found if name != ALWAYS_TRAIN]
    if len(found) < 2:
        raise InputError(f"{manifest.name}: column {column!r} holds the one fold {found}; expected two or more")
    return {name: (np.flatnonzero(values != name), np.flatnonzero(values == name)) for name in names}


def group_folds(classes: NDArray, groups: NDArray, *, num_folds: int, seed: int) -> list[Fold]:
    """The folds themselves, without the checks: for the inner folds that choose a hyper-parameter.

    Of several shuffles the first is taken whose training parts all hold every class; failing that, the last one.
    """
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.utils import check_random_state

    num_classes, folds = np.unique(classes).size, []
    numbers = np.unique(groups, return_inverse=True)[1]
    splitter = StratifiedGroupKFold(n_splits=num_folds)
    for attempt in range(20):
        # As its own `shuffle` from scikit-learn 1.8 on; before (Python 3.10), that mixes up whose classes are counted.
        order = check_random_state(seed + 1000 * attempt).permutation(numbers.max() + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that a class is rarer than the folds are many is fine here
            folds = list(splitter.split(classes, classes, np.argsort(order)[numbers]))
        if all(train.size and test.size and np.unique(classes[train]).size == num_classes for train, test in folds):
            break
    return [(train, test) for train, test in folds if train.size and test.size]


def check_disjoint(train_speakers: Sequence[str], test_speakers: Sequence[str]) -> None:
    """Refuse a split that has a speaker on both sides; blank names are speakers nobody knows and are not compared."""
    both = sorted((set(train_speakers) & set(test_speakers)) - {""})
    if both:
        problem = f"{len(both)} speakers are on both sides of the split ({list_some(both)}); a result would measure"
        raise InputError(f"{problem} how well speakers are recognised: move all utterances of a speaker to one side")


def check_speakers(
    train: Manifest, other: Manifest, label: str | Sequence[str] = (), *, speaker: str = SPEAKER
) -> list[str]:
    """Refuse speakers on both sides; sentences on where that could not be looked for, none where it could.

    `speaker` is the column that names them, and nothing is asked where it is what is learnt (`label`).

    Raises:
        InputError: a speaker is in both, or `train` has no such column and it is another one than "speaker".
    """
    if speaker in ([label] if isinstance(label, str) else label):
        return []
    if speaker != SPEAKER and speaker not in train.columns:
        train.label(speaker)  # names the columns that there are
    if speaker in train.columns and speaker in other.columns:
        check_disjoint(train.label(speaker), other.label(speaker))
    return unknown_speakers([train, other], speaker)


def unknown_speakers(parts: Iterable[Manifest], speaker: str = SPEAKER) -> list[str]:
    """One sentence for each part whose speakers are not all known, so that no leak of them can be found."""
    found = []
    for part in parts:
        num_blank = sum(not name for name in part.label(speaker)) if speaker in part.columns else 0
        if speaker not in part.columns:
            found.append(f"{part.name} has no column {speaker!r}")
        elif num_blank:
            found.append(f"{part.name}: column {speaker!r} is blank in {num_blank} of {len(part)} rows")
    return [
        f"{fact}: whether its speakers are also on the other side could not be looked at"
        for fact in dict.fromkeys(found)
    ]


def warn_once(sentences: Iterable[str]) -> list[str]:
    """The sentences, each once, for a report; they are logged."""
    found = list(dict.fromkeys(sentences))
    for sentence in found:
        logger.warning("%s", sentence)
    return found


def check_recordings(train: Manifest, other: Manifest) -> None:
    """Refuse (`InputError`) the same recording on both sides, or parts of it that overlap."""
    if both := overlapping(train, other):
        cure = "the same speech cannot both teach and judge: take it out of one of the two"
        found = f"{len(both)} recordings of {other.name} also stand in {train.name}, whole or in part"
        raise InputError(f"{found} ({list_some(both)}); {cure}")


def overlapping(heard: Iterable[Utterance], judged: Sequence[Utterance]) -> list[str]:
    """IDs of those judged of which a sample at least is heard elsewhere; spans that only touch have none in common."""
    files = {utterance.wav for utterance in judged}
    spans: dict[str, list[tuple[float, float]]] = {}
    for utterance in heard:
        if utterance.wav in files:
            spans.setdefault(utterance.wav, []).append(_bounds(utterance))
    reached = {}  # file -> where its spans begin, in order, and how far those up to each of them reach
    for wav, found in spans.items():
        starts, stops = zip(*sorted(found), strict=True)
        reached[wav] = starts, list(accumulate(stops, max))
    both = []
    for utterance in judged:
        start, stop = _bounds(utterance)
        begun, reach = reached.get(utterance.wav, ((), []))
        before = bisect_left(begun, stop)
        if before and reach[before - 1] > start:
            both.append(utterance.id)
    return both


def _bounds(utterance: Utterance) -> tuple[float, float]:
    return utterance.start or 0, math.inf if utterance.stop is None else utterance.stop
