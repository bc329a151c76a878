"""What studies of fine-tuning share: what is learnt, the folds, one system's training, and a cell's figures."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

import torch

from dino_speech.data.folds import manifest_folds
from dino_speech.data.utterances import Manifest
from dino_speech.evaluation.probing.classification import ClassificationReport
from dino_speech.evaluation.probing.learnt_elsewhere import Judged, pooled_report
from dino_speech.intervals import Interval
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.studies.grid import CellResult
from dino_speech.training.run_identity import describe
from dino_speech.transfer.finetune import FineTuner
from dino_speech.transfer.stages import FineTuneStage

FOLD_SEED = 0  # drawn folds are the same for every seed of fine-tuning: systems are compared on the same splits


@dataclass
class FineTuningStudy:
    """The settings that are the same in all cells of a study.

    Args:
        label: the column to learn; with "ccc" a list of columns that hold numbers.
        num_folds: of folds drawn without a speaker in two; or else
        fold_column: a column with folds as published, such as sessions, each judged by systems trained on the others.
        objective: of the fine-tuning; margin objectives for speakers, "ccc" for dimensions.
        speaker: the column that may not be on both sides.
        tuner: further options of `FineTuner`, by name.
        keep_systems: keep the fine-tuned systems; else only figures and predictions.
    """

    _: KW_ONLY
    label: str | Sequence[str]
    num_folds: int | None = None
    fold_column: str | None = None
    objective: str = "cross_entropy"
    speaker: str = "speaker"
    tuner: Mapping[str, Any] = field(default_factory=dict)
    keep_systems: bool = False

    @property
    def labels(self) -> list[str]:
        """The columns that are learnt."""
        return [self.label] if isinstance(self.label, str) else list(self.label)

    @property
    def classes_column(self) -> str | None:
        """The column that drawn folds spread evenly."""
        return None if self.objective == "ccc" else self.labels[0]

    def tuner_of(self, encoder: SpeechEncoder, stages: Sequence[FineTuneStage]) -> FineTuner:
        """A tuner with the settings of the study."""
        common: Any = {"label": self.label, "objective": self.objective, "speaker": self.speaker}
        return FineTuner(encoder, stages=stages, **{**common, **self.tuner})

    def fine_tune(
        self,
        encoder: SpeechEncoder,
        stages: Sequence[FineTuneStage],
        train: Manifest,
        folder: Path,
        seed: int,
        device: str | torch.device | None,
    ) -> FineTuner:
        """Train one system; unless systems are kept, its weights stay in memory only."""
        tuner = self.tuner_of(encoder, stages).fit(train, output_folder=folder, seed=seed, device=device)
        for name in () if self.keep_systems else ("state", "system"):
            shutil.rmtree(folder / name, ignore_errors=True)
        return tuner

    def described(self, *names: str) -> dict[str, Any]:
        """Settings as plain data, for the identity of a cell."""
        return {name: describe(getattr(self, name)) for name in names}


def split_folds(
    manifest: Manifest, classes: str | None, *, column: str | None, num_folds: int | None, speaker: str
) -> dict[str, tuple[Manifest, Manifest]]:
    """Training and test part by fold, as `manifest_folds`; `classes` are spread evenly over drawn folds."""
    drawn: dict[str, Any] = {"num_folds": num_folds, "stratify": classes, "seed": FOLD_SEED}
    folds = manifest_folds(manifest, column=column, speaker=speaker, **drawn)
    parts = {name: [manifest.subset(rows.tolist()) for rows in both] for name, both in folds.items()}
    return {name: (train, test) for name, (train, test) in parts.items()}


FIGURES = ("uar", "micro_f1", "macro_f1")


def cell_of(parts: Mapping[str, Sequence[Judged]], *, seed: int) -> CellResult:
    """Figures of all folds together, with intervals over speakers, of what each fold's system said by corpus.

    The names of those of another corpus than "", the one that was trained on, end in its name; of classes only UAR.
    """
    figures: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    for corpus, judged in parts.items():
        suffix = f"_{corpus}" if corpus else ""
        report = pooled_report(judged, provenance={}, num_folds=len(judged), seed=seed)
        if isinstance(report, ClassificationReport):
            names = FIGURES[:1] if corpus else FIGURES
            figures |= {f"{name}{suffix}": float(getattr(report, name)) for name in names}
            found = {f"uar{suffix}": report.intervals["uar"]}
        else:
            figures |= {f"ccc_{name}{suffix}": float(value) for name, value in report.ccc.items()}
            found = {f"ccc_{name}{suffix}": interval for name, interval in report.intervals.items()}
        intervals |= known_bounds(found)
    return CellResult(figures, intervals)


def known_bounds(intervals: Mapping[str, Interval]) -> dict[str, tuple[float, float]]:
    """Low and high bound by name, of those that are known."""
    return {name: (one.low, one.high) for name, one in intervals.items() if one.is_known}
