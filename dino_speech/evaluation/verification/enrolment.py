"""Enrolment from several utterances: the enrolment side of a trial names a model, the mean of its utterances.

The mean of the embeddings is then scored as one utterance, by a cosine as by PLDA, which scales it to length one after
the averaging. (By-the-book PLDA would count the utterances; in practice the mean does as well, and the utterances of
one recording are not independent: Rajan et al., Digital Signal Processing 31 (2014).) Letters: `D` embedding.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.trials import Trials, resolve, trial_lines
from dino_speech.data.utterances import Manifest, Utterance, list_some
from dino_speech.embedding.embedded_manifest import EmbeddedManifest
from dino_speech.errors import InputError

Models = Mapping[str, Sequence[str]]
ModelRows = dict[str, NDArray[np.int64]]
FORM = "expected lines `model utterance ...`, with IDs or paths of the manifest"


def read_enrolment(path: str | os.PathLike[str]) -> dict[str, list[str]]:
    """Read which utterances each model is made of; lines of one model are joined, tabs separate names with spaces.

    Raises:
        InputError: the file is missing or holds no model, or a line names no utterance, or one a second time.
    """
    models: dict[str, list[str]] = {}
    for row, line in enumerate(trial_lines(path, FORM), start=1):
        fields = [part.strip() for part in line.strip().split("\t")] if "\t" in line.strip() else line.split()
        if not fields:
            continue
        members = models.setdefault(fields[0], [])
        again = [name for number, name in enumerate(fields[1:], 1) if name in members or name in fields[1:number]]
        if len(fields) < 2 or again:
            found = f"{again[0]!r} a second time" if again else repr(line.strip()[:200])
            raise InputError(f"{path} line {row}: found {found}; {FORM}")
        members += fields[1:]
    if not models:
        raise InputError(f"{path}: holds no models; {FORM}")
    return models


def model_rows(models: Models, trials: Trials, manifest: Manifest) -> ModelRows:
    """The rows of the manifest that each model of the trials is made of; InputError: a model or a row is not there."""
    names = dict.fromkeys(trials.enroll)
    if unknown := [name for name in names if name not in models]:
        place = trials.place(trials.enroll.index(unknown[0]))
        known = list_some(list(models))
        raise InputError(
            f"{place}: enroll {unknown[0]!r} is no model of the enrolment, which has {known}; add it there"
        )
    members = [(name, member) for name in names for member in models[name]]
    utterances = [member for _, member in members]
    rows, _ = resolve(Trials(np.zeros(len(members), np.int8), utterances, utterances, "enrolment"), manifest)
    found: dict[str, list[int]] = {}
    for (name, _), row in zip(members, rows.tolist(), strict=True):
        found.setdefault(name, []).append(row)
    return {name: np.array(own) for name, own in found.items()}


def heard_rows(models: Models | None, trials: Trials, manifest: Manifest) -> tuple[ModelRows | None, NDArray[np.int64]]:
    """The rows of each model, and all that are heard, sorted: of models and test sides, or of both sides."""
    if models is None:
        return None, np.unique(resolve(trials, manifest))
    found = model_rows(models, trials, manifest)
    tests, _ = resolve(replace(trials, enroll=trials.test), manifest)
    return found, np.unique(np.concatenate([tests, *found.values()]))


def with_models(embedded: EmbeddedManifest, models: ModelRows | None) -> EmbeddedManifest:
    """The utterances, and after them each model as one more: the mean of what could be embedded, NaN of nothing."""
    if models is None:
        return embedded
    manifest, vectors = embedded.manifest, [embedded.embeddings]
    for rows in models.values():
        usable = rows[embedded.usable[rows]]
        mean = (
            embedded.embeddings[usable].mean(axis=0, keepdims=True)
            if usable.size
            else np.full_like(vectors[0][:1], np.nan)
        )
        vectors.append(mean)
    made = [_model(name, [manifest[row] for row in rows.tolist()]) for name, rows in models.items()]
    both = Manifest([*manifest, *made], paths=manifest.paths, columns=manifest.columns)
    return EmbeddedManifest(both, np.concatenate(vectors), embedded.skipped)


def enrolled(trials: Trials) -> Trials:
    """The trials with the names that the models have among the utterances."""
    return replace(trials, enroll=[_id(name) for name in trials.enroll])


def _model(name: str, members: Sequence[Utterance]) -> Utterance:
    """A row for a model: seconds of all its utterances, and the labels that all of them have."""
    labels = {
        column: cell for column, cell in members[0].labels.items() if all(x.labels.get(column) == cell for x in members)
    }
    return Utterance(_id(name), _id(name), sum(member.duration for member in members), labels=labels)


def _id(name: str) -> str:
    return f"model {name}"  # a model may be called as one of its utterances is
