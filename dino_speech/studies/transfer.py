"""The transfer study: encoders x ways of fine-tuning x chunk lengths x augmentation, as one table for any corpus.

The grid is `grid.py`'s; here is what one cell does: fine-tune on the training part, judge on speakers not heard.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dino_speech.data.folds import check_disjoint, manifest_folds
from dino_speech.data.utterances import Manifest
from dino_speech.errors import InputError
from dino_speech.evaluation.probing.cross_corpus import shared_labels
from dino_speech.evaluation.probing.finetuned import Judged, judge
from dino_speech.models.checkpoint import load_encoder
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.studies.det_pictures import draw_det
from dino_speech.studies.grid import CellResult, GridTable, Identity, Setting, cell_name, run_grid
from dino_speech.studies.pooled_figures import cell_of
from dino_speech.studies.trial_lists import (
    Sources,
    TrialList,
    TrialSources,
    judge_trials,
    read_sources,
    refuse_training_speakers,
    trial_lists,
)
from dino_speech.training.run_identity import describe, describe_manifest, fingerprint
from dino_speech.transfer.finetune import FineTuner
from dino_speech.transfer.stages import FineTuneStage
from dino_speech.transfer.targets import check_test, describe_labels, targets_of

FOLD_SEED = 0  # the folds are the same in all cells, whatever their seed: systems are compared on the same splits


@dataclass
class TransferStudy:
    """Compares encoders and ways of fine-tuning them, over seeds.

    Classes are judged by UAR and F1, dimensions by CCC, on speakers that were not trained on: in cross-validation, or
    on the rows whose `split_column` says so. With trials, the label is the speaker, and the fine-tuned encoder is
    judged by EER.

    Args:
        systems: an encoder by name, as `load_encoder` takes it: a folder, "untrained:FOLDER" (the same network without
            pretraining), "random:NAME".
        strategies: the stages of fine-tuning by name; no stages leave the encoder as it is (with trials only).
        label: the column to learn; with "ccc" a list of columns that hold numbers.
        chunk_s: training chunk lengths to try; None: as each stage says.
        augment: whether to augment, as each stage says, or not at all.
        num_folds: speaker-disjoint folds, where neither `fold_column` nor `split_column` is given.
        fold_column: a column with folds as published, each judged by systems trained on the others.
        split_column: a column that says which rows are trained on and which are judged.
        train_splits: its values for training.
        test_splits: its values for judging.
        classes: use the rows with these values of the label only; for other corpora the classes that both have.
        objective: of the fine-tuning; margin objectives for speakers, "ccc" for dimensions.
        speaker: the column that may not be on both sides.
        tuner: further options of `FineTuner`, by name.
        keep_systems: keep the fine-tuned system of each cell; else only figures and predictions.

    Source: the comparisons of arXiv 2208.05445 (stepwise against one-shot, chunk length, augmentation).
    """

    systems: Mapping[str, str]
    strategies: Mapping[str, Sequence[FineTuneStage]]
    _: KW_ONLY
    label: str | Sequence[str]
    chunk_s: Sequence[float | None] = (None,)
    augment: Sequence[bool] = (True,)
    num_folds: int = 5
    fold_column: str | None = None
    split_column: str | None = None
    train_splits: Sequence[str] = ("train",)
    test_splits: Sequence[str] = ("test",)
    classes: Sequence[str] | None = None
    objective: str = "cross_entropy"
    speaker: str = "speaker"
    tuner: Mapping[str, Any] = field(default_factory=dict)
    keep_systems: bool = False

    def run(
        self,
        manifest: Sources,
        *,
        output_folder: str | PathLike[str],
        seeds: Sequence[int] = (1986, 1987, 1988),
        trials: TrialSources | None = None,
        trials_manifest: Sources | None = None,
        group_by: str | None = None,
        others: Mapping[str, Sources] | None = None,
        device: str | torch.device | None = None,
    ) -> GridTable:
        """Run what is not finished yet; `table.md`, `table.csv` and `cells/` are in the output folder.

        With trials there are also DET curves of all systems (`det.png`, or one picture for each named list).

        Args:
            manifest: what is trained on (and, in cross-validation or by `split_column`, judged on).
            output_folder: made with its parents.
            seeds: of fine-tuning; splits do not depend on them.
            trials: judge the fine-tuned encoder on these: one list, or several by name, each alone or with its own
                manifest, such as `{"mixed": (trials, "mixed.csv")}`, which gives `eer_mixed` and `min_dcf_mixed`.
            trials_manifest: the utterances of the trials that come without a manifest; None: `manifest`.
            group_by: a column of those manifests: also report the EER within each of its values, such as
                `eer_mixed_LibriSpeech`, for values with targets and non-targets.
            others: further corpora by name, judged whole (with `split_column` only): by the `classes` that all have, or
                by the dimensions that they have, on the scale of `manifest` (see `rescale_labels`).
            device: as in `FineTuner.fit`.

        Raises:
            InputError: a setting does not fit the data, or speakers are on both sides.
        """
        rows = self._select(read_sources(manifest))
        judged = {name: self._select(read_sources(source)) for name, source in (others or {}).items()}
        if judged and self.split_column is None:
            raise InputError("other corpora are judged by a system trained once: give split_column, not num_folds")
        if group_by is not None and trials is None:
            raise InputError(f"group_by = {group_by!r}: groups trials; give trials")
        enrolled = rows if trials_manifest is None else read_sources(trials_manifest)
        lists = [] if trials is None else self._checked_lists(trials, rows, enrolled, group_by)
        splits = [] if lists else self._checked_splits(rows, judged)

        def cell(settings: dict[str, Setting], seed: int, folder: Path) -> CellResult:
            if lists:
                tuned = self._tune(settings, rows, folder, seed, device)
                encoder = tuned if isinstance(tuned, SpeechEncoder) else tuned.encoder_
                return judge_trials(encoder, lists, folder=folder, group_by=group_by)
            return self._classify(settings, seed, folder, splits, judged, device)

        described = {"trials": {one.name: one.describe() for one in lists}, "group_by": group_by}
        identity = self._identity(rows, judged, described)
        table = run_grid(self._axes(), cell, seeds=seeds, output_folder=output_folder, identity=identity)
        if lists:
            cells = Path(output_folder) / "cells"
            draw_det(table, lambda row, seed: cells / cell_name(row.settings, seed, identity), Path(output_folder))
        return table

    def _axes(self) -> dict[str, Sequence[Setting]]:
        return {
            "system": list(self.systems),
            "strategy": list(self.strategies),
            "chunk_s": list(self.chunk_s),
            "augment": list(self.augment),
        }

    def _identity(self, rows: Manifest, judged: Mapping[str, Manifest], trials: Mapping[str, Any]) -> Identity:
        """All that a cell's figures depend on beside its settings and seed, with what their names stand for.

        Of the systems and strategies only the cell's own, so that a further one leaves the others' cells as they are.

        Raises:
            InputError: a system is no encoder.
        """
        encoders = {name: _describe_encoder(load_encoder(source)) for name, source in self.systems.items()}
        stages = {name: describe(stages) for name, stages in self.strategies.items()}
        fixed = (
            "label",
            "num_folds",
            "fold_column",
            "split_column",
            "train_splits",
            "test_splits",
            "classes",
            "objective",
            "tuner",
        )
        common = {
            **{name: describe(getattr(self, name)) for name in fixed},
            **self._identity_of_numbers([rows, *judged.values()]),
            "manifests": [describe_manifest(item) for item in (rows, *judged.values())],
            **trials,
        }

        def identity(settings: Mapping[str, Setting]) -> dict[str, Any]:
            own = {"encoder": encoders[str(settings["system"])], "stages": stages[str(settings["strategy"])]}
            return {**common, **own}

        return identity

    def _identity_of_numbers(self, manifests: Sequence[Manifest]) -> dict[str, Any]:
        """Of classes the manifests tell enough; numbers may be on another scale."""
        if self.objective != "ccc":
            return {}
        return {"labels": [describe_labels(item, shared_labels(item, self._labels())) for item in manifests]}

    def _select(self, manifest: Manifest) -> Manifest:
        if self.classes is None:
            return manifest
        if not isinstance(self.label, str):
            raise InputError(f"classes = {self.classes!r}: label names columns of numbers; leave classes out")
        return manifest.select(**{self.label: list(self.classes)})

    def _labels(self) -> list[str]:
        return [self.label] if isinstance(self.label, str) else list(self.label)

    def _checked_lists(
        self, trials: TrialSources, rows: Manifest, enrolled: Manifest, group_by: str | None
    ) -> list[TrialList]:
        """The lists of trials; what could end a cell later is refused here."""
        lists = trial_lists(trials, enrolled, group_by=group_by)
        refuse_training_speakers(lists, rows)
        if any(self.strategies.values()):
            targets_of(rows, self.label, self.objective)
        return lists

    def _checked_splits(self, rows: Manifest, others: Mapping[str, Manifest]) -> list[tuple[Manifest, Manifest]]:
        """What is trained on and judged; all that could end a cell after its training is refused here."""
        if bare := [name for name, stages in self.strategies.items() if not stages]:
            raise InputError(f"strategy {bare[0]!r} has no stages: nothing would predict {self.label}")
        splits = [(rows.subset(train.tolist()), rows.subset(test.tolist())) for train, test in self._splits(rows)]
        for train, test in splits:
            check_test(train, test, label=self.label, objective=self.objective)
            for other in others.values():
                shared = shared_labels(other, self._labels())
                label = shared if self.objective == "ccc" else self.label
                check_test(train, other, label=label, objective=self.objective)
        return splits

    def _splits(self, rows: Manifest) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        if self.split_column is None:
            drawn = None if self.fold_column else self.num_folds
            stratify = None if self.objective == "ccc" else self._labels()[0]
            given = {"column": self.fold_column, "num_folds": drawn, "stratify": stratify, "speaker": self.speaker}
            return list(manifest_folds(rows, **given, seed=FOLD_SEED).values())  # type: ignore[arg-type]
        speakers = rows.label(self.speaker, allow_blank=False)
        splits = np.array(rows.label(self.split_column))
        train, test = (np.flatnonzero(np.isin(splits, names)) for names in (self.train_splits, self.test_splits))
        if not train.size or not test.size:
            raise InputError(
                f"{rows.name}: column {self.split_column!r} gives {train.size} rows to train on and {test.size} to "
                f"judge; its values are {', '.join(sorted(set(splits)))}"
            )
        check_disjoint([speakers[row] for row in train], [speakers[row] for row in test])
        return [(train, test)]

    def _tune(
        self, settings: Mapping[str, Setting], train: Manifest, folder: Path, seed: int, device: Any
    ) -> FineTuner | SpeechEncoder:
        encoder = load_encoder(self.systems[str(settings["system"])])
        stages = [self._stage(stage, settings) for stage in self.strategies[str(settings["strategy"])]]
        if not stages:
            return encoder
        tuner = FineTuner(encoder, label=self.label, stages=stages, objective=self.objective, **self.tuner)  # type: ignore[arg-type]
        tuner.fit(train, output_folder=folder, seed=seed, device=device)
        if not self.keep_systems:
            shutil.rmtree(folder / "state", ignore_errors=True)
            shutil.rmtree(folder / "system", ignore_errors=True)
        return tuner

    def _stage(self, stage: FineTuneStage, settings: Mapping[str, Setting]) -> FineTuneStage:
        changes: dict[str, Any] = {}
        if settings["chunk_s"] is not None:
            changes["chunk_s"] = settings["chunk_s"]
        if not settings["augment"]:
            changes |= {"augment": None, "spec_augment": None}
        return replace(stage, **changes)

    def _classify(
        self,
        settings: dict[str, Setting],
        seed: int,
        folder: Path,
        splits: Sequence[tuple[Manifest, Manifest]],
        others: Mapping[str, Manifest],
        device: Any,
    ) -> CellResult:
        found: dict[str, list[Judged]] = {}  # by corpus
        for number, (train, test) in enumerate(splits):
            tuner = self._tune(settings, train, folder / f"fold_{number}", seed, device)
            assert isinstance(tuner, FineTuner)
            for name, part in {"": test, **others}.items():
                labels = shared_labels(part, self._labels())
                found.setdefault(name, []).append(judge(tuner.system_, part, labels=labels, speaker=self.speaker))
        return cell_of(found, seed=FOLD_SEED)


def _describe_encoder(encoder: SpeechEncoder) -> dict[str, Any]:
    """Not by its path, where another training may have left another encoder since."""
    return {"config": encoder.config.to_dict(), "weights": fingerprint(encoder)}
