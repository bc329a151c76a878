"""The adaptation study: is a frame-level encoder better fine-tuned as it is, or adapted to the task's audio before?

All that a fold's system learns from, its adaptation too, is the fold's training part: nothing else is given to it.
"""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dino_speech.data.atomic import write_json_atomically
from dino_speech.data.folds import unknown_speakers, warn_once
from dino_speech.data.manifest import read_manifest
from dino_speech.data.resumable_store import place_of, safe_name
from dino_speech.data.seeds import derive_seed
from dino_speech.data.utterances import Manifest
from dino_speech.errors import InputError
from dino_speech.evaluation.probing.learnt_elsewhere import Judged, judge
from dino_speech.frame_level.ptapt import PTAPT
from dino_speech.frame_level.tapt import TAPT
from dino_speech.models.checkpoint import load_encoder
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.fingerprint import fingerprint
from dino_speech.studies.fine_tuning_study import FOLD_SEED, FineTuningStudy, cell_of, split_folds
from dino_speech.studies.fold_systems import fold_row
from dino_speech.studies.grid import CellResult, GridTable, Setting, run_grid
from dino_speech.training.run_identity import describe, describe_manifest
from dino_speech.transfer.finetune import FineTuner
from dino_speech.transfer.stages import FineTuneStage
from dino_speech.transfer.targets import describe_labels


@dataclass
class AdaptationStudy(FineTuningStudy):
    """Compares fine-tuning alone (V-FT) with fine-tuning after TAPT or P-TAPT, fold by fold.

    Args:
        encoder: a frame-level encoder, where every strategy begins.
        adapters: what is done before fine-tuning, by the strategy's name; None: nothing. Their own `encoder` is not
            used. For each fold they are given its training part, once: only fine-tuning is repeated over seeds.
        stages: of the fine-tuning, the same for all. `FineTuneStage(["backbone.model.encoder"])` trains the transformer
            and leaves convolutions and projection as they are, as the source does.
        fractions: shares of each fold's training speakers to learn from; a smaller share is part of a larger one.
        adaptation_seed: of everything random in the adaptation.

    Further arguments are those of `FineTuningStudy`. Adapted encoders are kept.

    Source: arXiv 2110.06309 (IEMOCAP, leave-one-session-out, UAR: V-FT 69.9, TAPT 73.5, P-TAPT 74.3; five repetitions).
    """

    encoder: SpeechEncoder
    _: KW_ONLY
    adapters: Mapping[str, TAPT | PTAPT | None]
    stages: Sequence[FineTuneStage]
    fractions: Sequence[float] = (1.0,)
    adaptation_seed: int = 1986

    def __post_init__(self) -> None:
        for name, adapter in self.adapters.items():
            if not isinstance(adapter, TAPT | PTAPT | None):
                raise InputError(f"adapters[{name!r}] is {type(adapter).__name__}; expected TAPT, PTAPT or None")
        if not self.fractions or not all(0 < fraction <= 1 for fraction in self.fractions):
            raise InputError(f"fractions = {self.fractions!r}: expected numbers above 0, at most 1")

    def run(
        self,
        manifest: Manifest | str | PathLike[str],
        *,
        output_folder: str | PathLike[str],
        seeds: Sequence[int] = (1986, 1987, 1988),
        device: str | torch.device | None = None,
    ) -> GridTable:
        """Run what is not finished yet; `table.md`, `table.csv`, `cells/` and `adapted/` are in the output folder.

        Each cell has its figures over all folds together, intervals over speakers, and each fold's in `folds.json`.
        `seeds` are of fine-tuning; `output_folder` and `device` are as in `FineTuner.fit`.

        Raises:
            InputError: folds, labels, speakers or settings do not fit the data.
        """
        manifest = manifest if isinstance(manifest, Manifest) else read_manifest(manifest)
        columns = {"column": self.fold_column, "speaker": self.speaker}
        folds = split_folds(manifest, self.classes_column, num_folds=self.num_folds, **columns)  # type: ignore[arg-type]
        root = Path(output_folder)

        def cell(settings: dict[str, Setting], seed: int, folder: Path) -> CellResult:
            judged: dict[str, Judged] = {}
            rows: dict[str, Any] = {}
            for name, (whole, test) in folds.items():
                train = self.subset(whole, float(str(settings["fraction"])), name)
                self.tuner_of(self.encoder, self.stages).check_test(train, test)
                places: dict[str, Any] = {"folder": folder / f"fold_{safe_name(name)}", "adapted": root / "adapted"}
                tuner = self.train(str(settings["strategy"]), train, **places, seed=seed, device=device)
                judged[name] = judge(tuner.system_, test, speaker=self.speaker)
                rows[name] = fold_row(judged[name], train)
            write_json_atomically(folder / "folds.json", rows)
            return cell_of({"": list(judged.values())}, seed=FOLD_SEED)

        axes: dict[str, Sequence[Setting]] = {"strategy": list(self.adapters), "fraction": list(self.fractions)}
        notes = warn_once(unknown_speakers([manifest], self.speaker))
        return run_grid(axes, cell, seeds=seeds, output_folder=root, identity=self._identity(manifest), notes=notes)

    def subset(self, train: Manifest, fraction: float, fold: str) -> Manifest:
        """The utterances of a share of the speakers, at least one; the same ones for every strategy and seed."""
        speakers = train.label(self.speaker, allow_blank=False)
        names = sorted(set(speakers))
        order = np.random.default_rng(derive_seed(FOLD_SEED, "speakers", fold)).permutation(len(names))
        kept = {names[number] for number in order[: math.ceil(fraction * len(names))]}
        return train.subset([row for row, name in enumerate(speakers) if name in kept])

    def train(
        self,
        strategy: str,
        train: Manifest,
        *,
        folder: Path,
        adapted: Path,
        seed: int,
        device: str | torch.device | None = None,
    ) -> FineTuner:
        """Adapt and fine-tune on the training part of a fold: the only files that are opened are its own.

        `adapted` is the folder of all adapted encoders; one that is there is taken. `folder`, `seed`: of fine-tuning.
        """
        adapter, encoder = self.adapters[strategy], self.encoder
        if adapter is not None:
            encoder = self._adapt(strategy, adapter, train, adapted, device)
        return self.fine_tune(encoder, self.stages, train, folder, seed, device)

    def _adapt(self, strategy: str, adapter: TAPT | PTAPT, train: Manifest, root: Path, device: Any) -> SpeechEncoder:
        adapter = replace(adapter, encoder=self.encoder)
        depends_on = {
            "adapter": describe(adapter),
            "seed": self.adaptation_seed,
            "weights": fingerprint(self.encoder),
            "train": describe_manifest(train),
            "labels": describe_labels(train, adapter.label) if isinstance(adapter, PTAPT) else None,
        }
        folder = place_of(root, strategy, depends_on)
        if (folder / "complete").exists():
            return load_encoder(folder / "encoder")
        adapter.fit(train, output_folder=folder, seed=self.adaptation_seed, device=device)
        if adapter.stop_reason_ is not None:
            raise InputError(f"{strategy}: its max_minutes are over; the same call goes on from there")
        for state in folder.rglob("state"):
            shutil.rmtree(state)
        write_json_atomically(folder / "complete", depends_on)
        return load_encoder(folder / "encoder")

    def _identity(self, manifest: Manifest) -> dict[str, Any]:
        names = ("adapters", "label", "stages", "fold_column", "num_folds", "objective", "speaker", "tuner")
        numbers = {"labels": describe_labels(manifest, self.label)} if self.objective == "ccc" else {}
        data = {"weights": fingerprint(self.encoder), "manifest": describe_manifest(manifest)}
        return self.described(*names, "adaptation_seed") | numbers | data
