"""The transfer study: encoders x ways of fine-tuning x chunk lengths x augmentation, as one table for any corpus."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dino_speech.data.folds import check_disjoint, check_recordings, unknown_speakers, warn_once
from dino_speech.data.utterances import Manifest
from dino_speech.errors import InputError
from dino_speech.evaluation.probing.learnt_elsewhere import Judged, judge, shared_labels
from dino_speech.models.checkpoint import load_encoder
from dino_speech.models.fingerprint import fingerprint
from dino_speech.studies.fine_tuning_study import FOLD_SEED, FineTuningStudy, cell_of, split_folds
from dino_speech.studies.grid import CellResult, GridTable, Identity, Setting, run_grid
from dino_speech.studies.pictures import draw_det
from dino_speech.studies.trial_lists import (
    Sources,
    TrialList,
    TrialSources,
    check_backends,
    judge_trials,
    read_sources,
    refuse_training_speakers,
    trial_lists,
)
from dino_speech.training.run_identity import describe, describe_manifest
from dino_speech.transfer.stages import FineTuneStage
from dino_speech.transfer.targets import check_test, describe_labels, targets_of

Split = tuple[Manifest, Manifest]


@dataclass
class TransferStudy(FineTuningStudy):
    """Compares encoders and ways of fine-tuning them, over seeds.

    Classes are judged by UAR and F1, dimensions by CCC, on speakers that were not trained on: in cross-validation, or
    on the rows whose `split_column` says so. With trials, the label is the speaker, and the fine-tuned encoder is
    judged by EER.

    Args:
        systems: an encoder by name, as `load_encoder` takes it: a folder, "untrained:FOLDER" (the same network without
            pretraining), "random:NAME".
        strategies: the stages of fine-tuning by name; no stages leave the encoder as it is (with trials only).
        chunk_s: training chunk lengths to try; None: as each stage says.
        augment: whether to augment, as each stage says, or not at all.
        num_folds: speaker-disjoint folds, where neither `fold_column` nor `split_column` is given.
        split_column: a column that says which rows are trained on and which are judged.
        train_splits: its values for training.
        test_splits: its values for judging.
        classes: use the rows with these values of the label only; for other corpora the classes that both have.
        backends: with trials: how embeddings are scored, "cosine", "cosine_mean" or "plda", each alone or with a score
            normalisation as in "plda+as", learnt from the speakers that are trained on. Figures of all but the first
            end in its name, such as `eer_plda_as`.

    Further arguments are those of `FineTuningStudy`.

    Source: the comparisons of arXiv 2208.05445 (stepwise against one-shot, chunk length, augmentation).
    """

    systems: Mapping[str, str]
    strategies: Mapping[str, Sequence[FineTuneStage]]
    _: KW_ONLY
    chunk_s: Sequence[float | None] = (None,)
    augment: Sequence[bool] = (True,)
    num_folds: int | None = 5
    split_column: str | None = None
    train_splits: Sequence[str] = ("train",)
    test_splits: Sequence[str] = ("test",)
    classes: Sequence[str] | None = None
    backends: Sequence[str] = ("cosine",)

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
        """Run what is not finished yet; `table.md`, `table.csv`, `cells/`, and DET curves of trials are in the folder.

        Args:
            manifest: what is trained on (and, in cross-validation or by `split_column`, judged on).
            output_folder: made with its parents.
            seeds: of fine-tuning; splits do not depend on them.
            trials: judge the fine-tuned encoder on these: one list, or several by name, each alone or with its own
                manifest, such as `{"mixed": (trials, "mixed.csv")}`, which gives `eer_mixed` and `min_dcf_mixed`.
            trials_manifest: the utterances of the trials that come without a manifest; None: `manifest`.
            group_by: a column of those manifests: also report the EER within each of its values, such as
                `eer_mixed_LibriSpeech`, for values with targets and non-targets.
            others: further corpora by name, judged whole (with `split_column` only), by the `classes` that all have or
                the dimensions that they have, on the scale of `manifest` (see `rescale_labels`).
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
        lists, notes = ([], []) if trials is None else self._checked_lists(trials, rows, trials_manifest, group_by)
        splits, notes = ([], notes) if lists else self._checked_splits(rows, judged)

        def cell(settings: dict[str, Setting], seed: int, folder: Path) -> CellResult:
            encoder, stages = load_encoder(self.systems[str(settings["system"])]), self._stages(settings)
            if lists:
                if stages:
                    encoder = self.fine_tune(encoder, stages, rows, folder, seed, device).encoder_
                return judge_trials(encoder, lists, self.backends, rows, folder=folder, group_by=group_by)
            found: dict[str, list[Judged]] = {}  # by corpus
            for number, (train, test) in enumerate(splits):
                system = self.fine_tune(encoder, stages, train, folder / f"fold_{number}", seed, device).system_
                for name, part in {"": test, **judged}.items():
                    labels = shared_labels(part, self.labels)
                    found.setdefault(name, []).append(judge(system, part, labels=labels, speaker=self.speaker))
            return cell_of(found, seed=FOLD_SEED)

        axes: dict[str, Sequence[Setting]] = {"system": list(self.systems), "strategy": list(self.strategies)}
        axes |= {"chunk_s": self.chunk_s, "augment": self.augment}
        given: Any = {"seeds": seeds, "output_folder": output_folder, "notes": warn_once(notes)}
        table = run_grid(axes, cell, identity=self._identity(rows, judged, lists, group_by), **given)
        if lists:
            draw_det(table, Path(output_folder))
        return table

    def _identity(
        self, rows: Manifest, judged: Mapping[str, Manifest], lists: Sequence[TrialList], group_by: str | None
    ) -> Identity:
        """All that a cell's figures depend on beside its settings and seed, with what their names stand for.

        Of the systems and strategies only the cell's own, so that a further one leaves the others' cells as they are.
        """
        # Not by their paths, where another training may have left another encoder since.
        loaded = ((name, load_encoder(source)) for name, source in self.systems.items())
        encoders = {name: {"config": x.config.to_dict(), "weights": fingerprint(x)} for name, x in loaded}
        stages = {name: describe(stages) for name, stages in self.strategies.items()}
        splits = ("num_folds", "fold_column", "split_column", "train_splits", "test_splits")
        manifests = [rows, *judged.values()]
        common: dict[str, Any] = {
            **self.described("label", *splits, "classes", "objective", "speaker", "tuner"),
            "manifests": [describe_manifest(item) for item in manifests],
            "trials": {one.name: one.describe() for one in lists},
            "group_by": group_by,
        }
        if list(self.backends) != ["cosine"]:  # cells of former versions stay as they are
            common |= self.described("backends")
        if self.objective == "ccc":  # of classes the manifests tell enough; numbers may be on another scale
            common["labels"] = [describe_labels(item, shared_labels(item, self.labels)) for item in manifests]

        def identity(settings: Mapping[str, Setting]) -> dict[str, Any]:
            own = {"encoder": encoders[str(settings["system"])], "stages": stages[str(settings["strategy"])]}
            return {**common, **own}

        return identity

    def _select(self, manifest: Manifest) -> Manifest:
        if self.classes is None:
            return manifest
        if not isinstance(self.label, str):
            raise InputError(f"classes = {self.classes!r}: label names columns of numbers; leave classes out")
        return manifest.select(**{self.label: list(self.classes)})

    def _checked_lists(
        self, trials: TrialSources, rows: Manifest, manifest: Sources | None, group_by: str | None
    ) -> tuple[list[TrialList], list[str]]:
        """The lists of trials; what could end a cell later is refused here, what could not be looked at is told."""
        lists = trial_lists(trials, rows if manifest is None else read_sources(manifest), group_by=group_by)
        unknown = refuse_training_speakers(lists, rows, speaker=self.speaker)
        check_backends(self.backends, rows)
        if any(self.strategies.values()):
            targets_of(rows, self.label, self.objective)
        return lists, unknown

    def _checked_splits(self, rows: Manifest, others: Mapping[str, Manifest]) -> tuple[list[Split], list[str]]:
        """What is trained on and judged, likewise."""
        if bare := [name for name, stages in self.strategies.items() if not stages]:
            raise InputError(f"strategy {bare[0]!r} has no stages: nothing would predict {self.label}")
        splits, unknown = self._splits(rows), unknown_speakers([rows, *others.values()], self.speaker)
        options: Any = {"objective": self.objective, "speaker": self.speaker}
        for train, test in splits:
            check_test(train, test, label=self.label, **options)
            check_recordings(train, test)
            for other in others.values():
                shared = shared_labels(other, self.labels)
                label = shared if self.objective == "ccc" else self.label
                check_test(train, other, label=label, **options)
                check_recordings(train, other)
        return splits, unknown

    def _splits(self, rows: Manifest) -> list[Split]:
        if self.split_column is None:
            num_folds = None if self.fold_column else self.num_folds
            columns = {"column": self.fold_column, "speaker": self.speaker}
            return list(split_folds(rows, self.classes_column, num_folds=num_folds, **columns).values())  # type: ignore[arg-type]
        speakers = rows.label(self.speaker, allow_blank=False)
        splits = np.array(rows.label(self.split_column))
        train, test = (np.flatnonzero(np.isin(splits, names)) for names in (self.train_splits, self.test_splits))
        if not train.size or not test.size:
            raise InputError(
                f"{rows.name}: column {self.split_column!r} gives {train.size} rows to train on and {test.size} to "
                f"judge; its values are {', '.join(sorted(set(splits)))}"
            )
        check_disjoint([speakers[row] for row in train], [speakers[row] for row in test])
        return [(rows.subset(train.tolist()), rows.subset(test.tolist()))]

    def _stages(self, settings: Mapping[str, Setting]) -> list[FineTuneStage]:
        """Of a cell's strategy, with its chunk length and with or without augmentation."""
        changes: dict[str, Any] = {} if settings["chunk_s"] is None else {"chunk_s": settings["chunk_s"]}
        changes |= {} if settings["augment"] else {"augment": None, "spec_augment": None}
        return [replace(stage, **changes) for stage in self.strategies[str(settings["strategy"])]]
