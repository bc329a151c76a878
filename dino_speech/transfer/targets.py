"""What a head learns, read from a manifest's label columns: classes with numbers, or dimensions on one scale."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dino_speech.data.folds import SPEAKER, check_speakers
from dino_speech.data.utterances import Manifest, list_some
from dino_speech.errors import InputError


@dataclass(frozen=True)
class Classes:
    """The classes of one label column."""

    label: str
    names: tuple[str, ...]  # the C classes, sorted; their places are their numbers

    @classmethod
    def of(cls, train: Manifest, label: str) -> "Classes":
        """The classes that a training set has: a column without blanks that holds two or more, else an `InputError`."""
        names = tuple(sorted(set(train.label(label, allow_blank=False))))
        if len(names) < 2:
            only = f"{train.name}: column {label!r} holds the one class {names[0]!r}"
            raise InputError(f"{only}; to learn a difference takes at least two classes")
        return cls(label, names)

    def unknown(self, manifest: Manifest) -> list[str]:
        """Classes of a manifest that the training set lacks."""
        return sorted(set(manifest.label(self.label, allow_blank=False)) - set(self.names))

    def of_rows(self, manifest: Manifest) -> Tensor:
        """(N,) int64 class numbers; a blank cell, or a class that was not trained on: an `InputError`."""
        unknown = self.unknown(manifest)
        if unknown:
            found = f"{manifest.name}: column {self.label!r} holds {list_some([repr(name) for name in unknown])}"
            known = f"which the training set lacks; it has {list_some(self.names)}"
            raise InputError(f"{found}, {known}: leave these rows out, or map their labels")
        numbers = {name: number for number, name in enumerate(self.names)}
        return torch.tensor([numbers[value] for value in manifest.label(self.label)])


@dataclass(frozen=True)
class Dimensions:
    """Numeric label columns, learnt on a scale where the training set has mean 0 and deviation 1."""

    names: tuple[str, ...]  # the L columns
    means: tuple[float, ...]  # of the training set
    deviations: tuple[float, ...]

    @classmethod
    def of(cls, train: Manifest, labels: Sequence[str]) -> "Dimensions":
        """The scale of a training set; a cell that is no number, or a column without differences: an `InputError`."""
        values = _numbers(train, labels)
        means, deviations = values.mean(0), values.std(0, correction=0)
        for name, deviation in zip(labels, deviations.tolist(), strict=True):
            if not deviation > 0:
                raise InputError(f"{train.name}: column {name!r} holds the same number in all rows: nothing to learn")
        return cls(tuple(labels), tuple(means.tolist()), tuple(deviations.tolist()))

    def of_rows(self, manifest: Manifest) -> Tensor:
        """(N, L) float32 on the scale of the training set; a cell that is no number: an `InputError`."""
        scaled = (_numbers(manifest, self.names) - torch.tensor(self.means)) / torch.tensor(self.deviations)
        return scaled.float()

    def only(self, names: Sequence[str]) -> "Dimensions":
        """Some of the dimensions, on their scale."""
        places = [self.names.index(name) for name in names]
        return Dimensions(tuple(names), tuple(self.means[i] for i in places), tuple(self.deviations[i] for i in places))

    def unscaled(self, outputs: Tensor) -> Tensor:
        """(B, L) of the head -> in the units of the labels."""
        return outputs * outputs.new_tensor(self.deviations) + outputs.new_tensor(self.means)


Targets = Classes | Dimensions


def targets_of(train: Manifest, label: str | Sequence[str], objective: str) -> Targets:
    """What a training set teaches: dimensions with the objective "ccc", else classes."""
    names = [label] if isinstance(label, str) else list(label)
    return Dimensions.of(train, names) if objective == "ccc" else Classes.of(train, names[0])


def check_test(
    train: Manifest, test: Manifest, *, label: str | Sequence[str], objective: str, speaker: str = SPEAKER
) -> list[str]:
    """Refuse a test set that a system trained on `train` could not be judged on, before anything is trained.

    A label is blank, unknown or no number; speakers are on both sides; fewer than two recordings. Of several dimensions
    `label` are those that the test set has. Gives what could not be looked at, as `check_speakers` does.
    """
    if len(test) < 2:
        raise InputError(f"{test.name}: {len(test)} recording to judge on; expected two at least")
    unknown = check_speakers(train, test, label, speaker=speaker)
    targets_of(train, label, objective).of_rows(test)
    return unknown


def describe_labels(manifest: Manifest, label: str | Sequence[str]) -> str:
    """A hash of the labels in order: with others it would be another run."""
    columns = [manifest.label(name) for name in ([label] if isinstance(label, str) else label)]
    text = "\n".join("\x1f".join(row) for row in zip(*columns, strict=True))
    return hashlib.sha256(text.encode()).hexdigest()


def targets_to_dict(targets: Targets) -> dict[str, Any]:
    """Plain data for JSON."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(targets).items()}


def targets_from_dict(data: dict[str, Any]) -> Targets:
    """The inverse of `targets_to_dict`; what is damaged: some error or other."""
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    targets = Classes(**fields) if "label" in fields else Dimensions(**fields)
    scales = [] if isinstance(targets, Classes) else [targets.means, targets.deviations]
    if not all(isinstance(name, str) for name in targets.names) or len(set(targets.names)) < len(targets.names):
        raise InputError(f"names {targets.names}; expected different texts")
    if not all(len(scale) == len(targets.names) and all(map(math.isfinite, scale)) for scale in scales):
        raise InputError(f"means and deviations {scales}; expected a number for each of {targets.names}")
    return targets


def _numbers(manifest: Manifest, labels: Sequence[str]) -> Tensor:
    columns = [manifest.numbers(name, allow_blank=False) for name in labels]
    return torch.tensor(columns, dtype=torch.float64).T
