"""Who is judged, and by whom they are learnt: `P` people with one class each, in folds that nobody crosses.

What learns from some people's `N` segments and judges those of others is a `SubjectClassifier`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.folds import check_disjoint, speaker_folds
from dino_speech.data.utterances import Manifest, Skipped, Utterance
from dino_speech.errors import InputError
from dino_speech.evaluation.probing.probes import LogisticProbe
from dino_speech.models.encoder import SpeechEncoder

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
    """Who is judged: segments with the column `is_positive`, and the people behind them."""

    manifest: Manifest  # the rows whose person and class are known
    names: list[str]  # (P,) people, in the order of the manifest
    positive: NDArray[np.bool_]  # (P,) the class of each
    column: str  # of the people
    label: str  # column of the classes; classifiers do not get it for whom they judge

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
    """The rows that can be judged, marked positive or not, and those left out; the arguments of `evaluate_clinical`."""
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
    """Who is learnt from and who is judged; nobody is both. Arguments and errors are those of `evaluate_clinical`.

    Each value of `fold_column` is judged in turn, the others are learnt from; of `split`, "train" is learnt from and
    "test" judged, the rest is left out.
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


@dataclass(frozen=True, eq=False)
class SegmentOdds:
    """What a classifier says of N segments."""

    log_odds: NDArray[np.float64]  # (N,) natural, of the positive class where both are equally common; NaN: not judged
    skipped: Sequence[Skipped] = ()  # segments, also of the training part


class SubjectClassifier(Protocol):
    """Anything that learns from some people's segments and judges those of others: a probe, a fine-tuned system.

    It is called once per fold. `train` has the column `is_positive` ("1" or "0"); `test` has neither that nor the
    column of the diagnosis. `run` names the fold and what it is of ("speech/fold1", "silence/fold1"): a folder's name.
    """

    def __call__(self, train: Manifest, test: Manifest, *, run: str) -> SegmentOdds:
        """Learn from `train`, judge `test`."""


class EmbeddingProbe:
    """A `SubjectClassifier`: `LogisticProbe` on frozen embeddings; each segment is embedded once, whatever the folds.

    The probe's own inner folds keep people (`subject`) apart; `options` go to `embed_files`.
    """

    def __init__(self, encoder: SpeechEncoder, *, subject: str = "speaker", seed: int = 0, **options: Any) -> None:
        self.encoder, self.subject, self.seed, self.options = encoder, subject, seed, options
        self._vectors: dict[tuple[str, int | None, int | None], NDArray | Skipped] = {}

    def __call__(self, train: Manifest, test: Manifest, *, run: str) -> SegmentOdds:
        """Learn from `train`, judge `test`."""
        self._embed([*train, *test])
        known, unseen = self._rows(train), self._rows(test)
        learnt = train.subset(known.tolist())
        if len(set(learnt.label(TARGET))) < 2:
            raise InputError(f"{run}: no audio of one of the two classes can be embedded; see dino-speech check")
        probe = LogisticProbe(seed=self.seed)
        probe.fit(self._matrix(learnt), np.array(learnt.label(TARGET)), np.array(learnt.label(self.subject)))
        log_odds = np.full(len(test), np.nan)
        if unseen.size:
            log_odds[unseen] = probe.log_odds(self._matrix(test.subset(unseen.tolist())))
        found = (self._vectors[row.span] for row in [*train, *test])
        return SegmentOdds(log_odds, [answer for answer in found if isinstance(answer, Skipped)])

    def _embed(self, rows: Sequence[Utterance]) -> None:
        new = [row for row in rows if row.span not in self._vectors]
        if not new:
            return
        found = self.encoder.embed_files(new, on_error="skip", **self.options)
        spans = {row.id: row.span for row in new}
        self._vectors |= {spans[name]: vector for name, vector in zip(found.ids, found.embeddings, strict=True)}
        self._vectors |= {spans[item.name]: item for item in found.failures}

    def _rows(self, manifest: Manifest) -> NDArray[np.int64]:
        """Positions of the segments that have an embedding."""
        return np.array([i for i, row in enumerate(manifest) if not isinstance(self._vectors[row.span], Skipped)], int)

    def _matrix(self, manifest: Manifest) -> NDArray:
        return np.stack([np.asarray(self._vectors[row.span]) for row in manifest])
