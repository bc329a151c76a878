"""Lists of trials that the encoders of a study are judged by: each utterance embedded once, figures for each list."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.manifest import read_manifest
from dino_speech.data.trials import Trials, resolve, trials_within
from dino_speech.data.utterances import Manifest
from dino_speech.embedding.embedded_manifest import EmbeddedManifest, EmbeddedOnce, embed_manifest
from dino_speech.errors import InputError
from dino_speech.evaluation.verification.evaluate import evaluate_verification
from dino_speech.evaluation.verification.fitted_backend import (
    BackendOptions,
    Material,
    fit_backend,
    manifest_of,
    refuse_leaks,
)
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.studies.fine_tuning_study import known_bounds
from dino_speech.studies.grid import CellResult
from dino_speech.studies.pictures import Scored, keep_scores
from dino_speech.training.run_identity import describe_manifest

Sources = Manifest | str | PathLike[str] | Sequence[str | PathLike[str]]
TrialSources = Trials | Mapping[str, Trials | tuple[Trials, Sources]]


@dataclass(frozen=True, eq=False)
class TrialList:
    """N trials and the utterances that they name; figures end in `name`, "": are called plainly."""

    name: str
    trials: Trials
    manifest: Manifest
    with_min_dcf: bool = True

    def rows(self) -> list[int]:
        """Positions of the utterances that are needed."""
        return np.unique(resolve(self.trials, self.manifest)).tolist()

    def within(self, column: str) -> "list[TrialList]":
        """One list for each value of a column that both sides of some targets and some non-targets have."""
        inside = trials_within(np.array(self.manifest.label(column)), *resolve(self.trials, self.manifest))
        found = []
        for value, kept in inside.items():
            if np.unique(self.trials.labels[kept]).size == 2:
                name = f"{self.name}_{value}" if self.name else value
                found.append(replace(self, name=name, trials=self.trials.subset(kept), with_min_dcf=False))
        return found

    def describe(self) -> dict[str, Any]:
        """Plain data on all that its figures depend on beside the encoder."""
        text = repr((self.trials.labels.tolist(), self.trials.enroll, self.trials.test))
        digest = hashlib.sha256(text.encode()).hexdigest()
        return {"sha256": digest, "num_trials": len(self.trials), "manifest": describe_manifest(self.manifest)}


def trial_lists(given: TrialSources, manifest: Manifest, *, group_by: str | None = None) -> list[TrialList]:
    """The lists of a study: one, or several by name, each with its manifest where that is another than `manifest`.

    InputError: no list, something else than one, missing names, no column `group_by`, or one kind of trials.
    """
    if isinstance(given, Trials):
        lists = [TrialList("", given, manifest)]
    else:
        lists = [_named(str(name), one, manifest) for name, one in given.items()]
    if not lists:
        raise InputError("trials is empty; expected at least one list, such as {'test': (trials, manifest)}")
    for one in lists:
        one.rows()
        if np.unique(one.trials.labels).size < 2:
            raise InputError(f"{one.trials.path or 'trials'}: expected targets (1) and non-targets (0), found one kind")
        if group_by is not None:
            one.manifest.label(group_by)
    return lists


def _named(name: str, given: Trials | tuple[Trials, Sources], manifest: Manifest) -> TrialList:
    trials, source = (given, manifest) if isinstance(given, Trials) else given
    if not name or not isinstance(trials, Trials):
        kind = type(trials).__name__
        raise InputError(f"trials[{name!r}] is {kind}; expected a name, and trials (read_trials) or (trials, manifest)")
    return TrialList(name, trials, read_sources(source))


def read_sources(source: Sources) -> Manifest:
    """A manifest, read where it is a file or several."""
    return source if isinstance(source, Manifest) else read_manifest(source)


def refuse_training_speakers(lists: Iterable[TrialList], train: Manifest, *, speaker: str) -> list[str]:
    """Refuse lists with a speaker (column `speaker`), or speech, that is trained on, naming them.

    Gives sentences on what could not be compared.
    """
    material = {"training manifest": train}
    return [text for one in lists for text in refuse_leaks(one.manifest.subset(one.rows()), material, speaker=speaker)]


def check_backends(backends: Sequence[str], train: Manifest) -> None:
    """Refuse a way of scoring that does not exist, or that the training manifest cannot teach."""
    if not backends:
        raise InputError("backends is empty; expected one at least, such as ['cosine', 'plda+as']")
    for given in backends:
        name, _, norm = given.partition("+")
        BackendOptions(name, train=train, score_norm=norm or None)
        if name == "plda":
            train.label("speaker")


def judge_trials(
    encoder: SpeechEncoder,
    lists: Sequence[TrialList],
    backends: Sequence[str],
    train: Manifest,
    *,
    folder: Path,
    group_by: str | None = None,
) -> CellResult:
    """EER (percent) and minDCF of each list, with intervals; with `group_by` also the EER within each of its values.

    An utterance is heard once, in however many lists and manifests it stands. The scores of each list go to `folder`.
    `backends` are "NAME" or "NAME+SCORE_NORM", learnt from `train`; figures of all but the first end in its name.
    """
    scored: dict[str, Scored] = {}
    figures: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    once: Any = EmbeddedOnce(lambda: encoder)

    def embed(material: Material, rows: NDArray | None) -> EmbeddedManifest:
        return embed_manifest(once, manifest_of(material), rows=rows, num_workers=1)

    for given in backends:
        name, _, norm = given.partition("+")
        backend: Any = name
        if name == "plda":  # the same for all lists, and their groups
            backend = fit_backend(BackendOptions(name, train=train), embed).backend
        options: dict[str, Any] = {"backend": backend, "train": train, "score_norm": norm or None, "num_workers": 1}
        called = f"_{name}{f'_{norm}' if norm else ''}" if given != backends[0] else ""
        for whole in lists:
            for part in [whole, *(whole.within(group_by) if group_by else [])]:
                report = evaluate_verification(once, part.manifest, part.trials, **options)
                suffix = f"{f'_{part.name}' if part.name else ''}{called}"
                if part is whole:
                    scored[suffix.removeprefix("_")] = report.scores, report.labels
                for figure in ("eer", "min_dcf") if part.with_min_dcf else ("eer",):
                    figures[f"{figure}{suffix}"] = getattr(report, figure)
                    intervals |= known_bounds({f"{figure}{suffix}": getattr(report, f"{figure}_interval")})
    keep_scores(folder, scored)
    return CellResult(figures, intervals)
