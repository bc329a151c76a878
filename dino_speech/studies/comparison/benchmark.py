"""What all encoders of a comparison are judged by: which utterances, labels or trials, in which folds."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.audio.decoding import StrPath
from dino_speech.data.folds import speaker_folds
from dino_speech.data.manifest import read_manifest
from dino_speech.data.trials import Trials, read_trials, resolve
from dino_speech.data.utterances import Manifest
from dino_speech.embedding.embedded_manifest import EmbeddedManifest
from dino_speech.errors import InputError
from dino_speech.evaluation.layers.layer_features import utterances_digest
from dino_speech.evaluation.probing.crossfit import LabelledSpeech, labelled_speech, refuse_constant

USUAL_GROUP = "sex"
CLASSES, NUMBERS, TRIALS = TASKS = ("label", "labels", "trials")
BENCHMARK_OPTIONS = ("group", "speaker", "num_folds", "min_items", "num_resamples", "seed")


@dataclass(frozen=True, eq=False)
class Benchmark:
    """One, two or three tasks on the same utterances: classes (`label`), numbers (`labels`), `trials`.

    Args:
        group: column of groups to compare; None: `sex`, where there are at least two of them.
        speaker: the column that no fold splits, and that is resampled.
        num_folds: of the probes; None: 5, or the speakers where fewer.
        min_items: utterances (or trials) from which on a speaker has a figure of their own.
        num_resamples: of the bootstrap.
        seed: of folds, intervals and conditions.

    Raises:
        InputError: nothing is asked, or what the evaluations would refuse, before anything is embedded.
    """

    manifest: Manifest
    label: str | None = None
    labels: tuple[str, ...] = ()
    trials: Trials | None = None
    group: str | None = None
    speaker: str = "speaker"
    num_folds: int | None = None
    min_items: int = 5
    num_resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.tasks:
            raise InputError(
                "nothing to compare by: give label (classes), labels (numbers), trials, or several of them"
            )
        if len(set(self.labels)) < len(self.labels):
            raise InputError(f"labels are {', '.join(self.labels)}; expected different columns")
        for task, data in self._labelled.items():
            values, speakers = data.values[:, 0].tolist(), data.speakers.tolist()
            number = data.num_folds(self.num_folds)
            if task == CLASSES:
                speaker_folds(speakers, values, num_folds=number, seed=self.seed)
            else:
                speaker_folds(speakers, num_folds=number, seed=self.seed)
                numbers = np.array([self.manifest.numbers(name) for name in self.labels]).T
                refuse_constant(self.manifest, self.labels, numbers[data.rows])
        if self.group is not None and len(names := self._groups(self.group)) < 2:
            raise InputError(
                f"{self.manifest.name}: column {self.group!r} names {', '.join(names) or 'no group'}; at least two"
                " groups can be compared"
            )

    @property
    def tasks(self) -> tuple[str, ...]:
        """Those that are asked."""
        asked = (self.label is not None, bool(self.labels), self.trials is not None)
        return tuple(task for task, given in zip(TASKS, asked, strict=True) if given)

    @property
    def compared_group(self) -> str | None:
        """The column of groups; None where none was named and there is no usual one."""
        if self.group is not None:
            return self.group
        known = USUAL_GROUP in self.manifest.columns and len(self._groups(USUAL_GROUP)) > 1
        return USUAL_GROUP if known else None

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Positions of all utterances that are needed, each once."""
        needed = [data.rows for data in self._labelled.values()]
        needed += [] if self.trials is None else [np.unique(resolve(self.trials, self.manifest))]
        return np.unique(np.concatenate(needed))

    @cached_property
    def audio(self) -> str:
        """A hash of those utterances' names, files and spans."""
        return utterances_digest([self.manifest[row] for row in self.rows.tolist()])

    @property
    def folds_used(self) -> int | None:
        """How many folds there are, None where nothing is fitted."""
        return next((data.num_folds(self.num_folds) for data in self._labelled.values()), None)

    @property
    def num_speakers(self) -> int | None:
        """Of the utterances that are needed, None where they are not all named."""
        names = self.manifest.label(self.speaker) if self.speaker in self.manifest.columns else []
        found = {names[row] for row in self.rows.tolist()} if names else {""}
        return None if "" in found else len(found)

    def identity(self, task: str) -> dict[str, Any]:
        """Plain data on all that the predictions in a task depend on, beside the encoder, groups and conditions."""
        asked: dict[str, Any] = {CLASSES: self.label, NUMBERS: list(self.labels), TRIALS: None}
        columns = {CLASSES: [str(self.label)], NUMBERS: list(self.labels), TRIALS: []}[task]
        columns += [self.speaker] if self.speaker in self.manifest.columns else []
        pairs: list[Any] = []
        if task == TRIALS and self.trials is not None:
            pairs = [self.trials.labels.tolist(), self.trials.enroll, self.trials.test]
        return {
            "task": task,
            "asked": asked[task],
            "audio": self.audio,
            "cells": _digest([*(self.manifest.label(name) for name in columns), *pairs]),
            "num_folds": self.num_folds,
            "num_resamples": self.num_resamples,
            "seed": self.seed,
        }

    def group_identity(self) -> dict[str, Any]:
        """Plain data on what a comparison of groups and speakers depends on beyond that."""
        group = self.compared_group
        cells = None if group is None else _digest([self.manifest.label(group)])
        return {"group": group, "cells": cells, "min_items": self.min_items}

    @cached_property
    def _labelled(self) -> dict[str, LabelledSpeech]:
        """The rows that can be judged, as if all audio were sound."""
        nothing = EmbeddedManifest(self.manifest, np.zeros((len(self.manifest), 1), dtype=np.float32))
        asked = {CLASSES: [self.label] if self.label is not None else [], NUMBERS: list(self.labels)}
        return {
            task: labelled_speech(None, self.manifest, labels=columns, speaker=self.speaker, embedded=nothing)
            for task, columns in asked.items()
            if columns
        }

    def _groups(self, column: str) -> list[str]:
        return sorted({*self.manifest.label(column)} - {""})


def read_benchmark(
    manifest: Manifest | StrPath, *, labels: Sequence[str], trials: Trials | StrPath | None, **options: Any
) -> Benchmark:
    """A benchmark, its manifest and trials read where they are files; options and refusals are those of `Benchmark`."""
    if isinstance(labels, str):
        raise InputError(f"labels is {labels!r}; expected a list of columns, such as ['arousal', 'valence']")
    manifest = manifest if isinstance(manifest, Manifest) else read_manifest(manifest)
    trials = trials if trials is None or isinstance(trials, Trials) else read_trials(trials)
    return Benchmark(manifest, labels=tuple(labels), trials=trials, **options)


def _digest(columns: Iterable[Any]) -> str:
    return hashlib.sha256(json.dumps(list(columns)).encode()).hexdigest()
