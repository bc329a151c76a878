"""Who is judged, and by whom they are learnt: people with one class each, in folds that nobody crosses.

Learning is in `subject_classifier.py`, figures are in `subject_scores.py`, the clinical evaluation is in `clinical.py`.
Letters: `P` people (subjects).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.folds import check_disjoint, speaker_folds
from dino_speech.data.utterances import Manifest, Skipped
from dino_speech.errors import InputError

NUM_FOLDS = 5
TARGET = "is_positive"  # the column of "1" and "0" that a classifier learns


@dataclass(frozen=True)
class SubjectFold:
    """People to learn from and people to judge."""

    name: str
    train: frozenset[str]
    test: frozenset[str]


@dataclass(frozen=True, eq=False)
class Subjects:
    """Who is judged: segments with the column `is_positive`, and the people behind them.

    Args:
        manifest: the rows whose person and class are known.
        names: (P,) people, in the order of the manifest.
        positive: (P,) the class of each.
        column: of the people.
        label: column of the classes; classifiers do not get it for whom they judge.
    """

    manifest: Manifest
    names: list[str]
    positive: NDArray[np.bool_]
    column: str
    label: str

    @property
    def classes(self) -> dict[str, bool]:
        """Person -> whether positive."""
        return dict(zip(self.names, self.positive.tolist(), strict=True))

    def rows_of(self, people: frozenset[str]) -> Manifest:
        """The segments of some people."""
        return self.manifest.subset(i for i, name in enumerate(self.manifest.label(self.column)) if name in people)


def find_subjects(
    manifest: Manifest, *, label: str, positive: str, negative: str | None = None, subject: str = "speaker"
) -> tuple[Subjects, list[Skipped]]:
    """The rows that can be judged, marked positive or not, and those left out; the arguments of `evaluate_clinical`.

    Raises:
        InputError: no such column or value, only one class, or a person with two classes.
    """
    values, people = manifest.label(label), manifest.label(subject)
    for value in (positive, negative):
        if value is not None and value not in values:
            found = ", ".join(sorted(set(values) - {""}))
            raise InputError(f"{manifest.name}: no row has {label} {value!r}; found values: {found or 'none'}")
    rows, skipped, classes = [], [], dict[str, str]()
    for row, value, person in zip(manifest, values, people, strict=True):
        if not (value and person) or (negative is not None and value not in (positive, negative)):
            reason = (
                f"{label} is {value!r}" if value and person else f"column {label if person else subject!r} is blank"
            )
            skipped.append(Skipped(row.id, reason))
            continue
        if classes.setdefault(person, value) != value and positive in (value, classes[person]):
            raise InputError(
                f"{row.origin or row.id}: {subject} {person!r} has {label} {value!r}, and {classes[person]!r} in"
                " another row; a person has one class: correct it, or select rows of one visit"
            )
        rows.append(replace(row, labels={**row.labels, TARGET: str(int(value == positive))}))
    is_positive = np.array([value == positive for value in classes.values()], dtype=bool)
    if is_positive.all() or not is_positive.any():
        raise InputError(f"{manifest.name}: all {len(classes)} people have one class of {label!r}; two are needed")
    columns = list(dict.fromkeys([*manifest.columns, TARGET]))
    chosen = Manifest(rows, paths=manifest.paths, columns=columns)
    return Subjects(chosen, list(classes), is_positive, subject, label), skipped


def make_folds(
    subjects: Subjects,
    *,
    num_folds: int | None = None,
    fold_column: str | None = None,
    split: str | None = None,
    seed: int = 0,
) -> list[SubjectFold]:
    """Who is learnt from and who is judged; nobody is both. The arguments are those of `evaluate_clinical`.

    Each value of `fold_column` is judged in turn, the others are learnt from; of `split`, "train" is learnt from and
    "test" judged, the rest is left out.

    Raises:
        InputError: more than one of the three is given, a person is on both sides, or a training part has one class.
    """
    if sum(option is not None for option in (num_folds, fold_column, split)) > 1:
        raise InputError("give one of num_folds, fold_column and split")
    everyone = frozenset(subjects.names)
    column = split or fold_column
    if column is not None:
        parts = _parts(subjects, column)
        if split is None:
            folds = [SubjectFold(f"fold-{name}", everyone - people, people) for name, people in parts.items()]
        elif {"train", "test"} <= set(parts):
            folds = [SubjectFold("test", parts["train"], parts["test"])]
        else:
            raise InputError(f"column {split!r} needs the values train and test; found {', '.join(parts) or 'none'}")
    else:
        smaller = int(min(subjects.positive.sum(), (~subjects.positive).sum()))
        number = max(2, min(NUM_FOLDS, smaller)) if num_folds is None else num_folds
        classes = [str(int(value)) for value in subjects.positive]
        found = speaker_folds(subjects.names, classes, num_folds=number, seed=seed)
        sides = [frozenset(subjects.names[i] for i in test.tolist()) for _, test in found]
        folds = [SubjectFold(f"fold{i}", everyone - people, people) for i, people in enumerate(sides, start=1)]
    for fold in folds:
        if not can_learn(fold, subjects):
            raise InputError(f"{fold.name}: its training part lacks one of the two classes; use other folds")
    return folds


def can_learn(fold: SubjectFold, subjects: Subjects) -> bool:
    """Whether the training part has both classes."""
    return len({positive for name, positive in subjects.classes.items() if name in fold.train}) == 2


def _parts(subjects: Subjects, column: str) -> dict[str, frozenset[str]]:
    """Value of a column -> its people; a person under two values is refused, a blank is left out."""
    values, people = subjects.manifest.label(column), subjects.manifest.label(subjects.column)
    found = {
        value: frozenset(person for person, other in zip(people, values, strict=True) if other == value)
        for value in sorted(set(values) - {""})
    }
    seen: set[str] = set()
    for part in found.values():
        check_disjoint(sorted(seen), sorted(part))
        seen |= part
    return found
