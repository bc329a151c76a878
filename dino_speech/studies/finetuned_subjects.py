"""A fine-tuned system in the clinical evaluation, so that the silence control is of the very same pipeline."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dino_speech.data.atomic import write_text_atomically
from dino_speech.data.utterances import Manifest, Skipped
from dino_speech.errors import InputError
from dino_speech.evaluation.clinical.subjects import TARGET, SegmentOdds
from dino_speech.transfer.finetune import FineTuner
from dino_speech.transfer.stages import FineTuneStage
from dino_speech.transfer.system import Predictions

ROWS_FILE = "rows.sha256"
SILENT_DBFS = -120.0  # ours: below the rounding of 16 bits (-101 dBFS); a quiet pause is no broken file here
LEAST = 1e-7  # of a probability, as float32 holds it beside 1


class FineTunedSubjects:
    """A `SubjectClassifier` for `evaluate_clinical`: fine-tunes the same encoder in each fold, on speech or silence.

    The silence is trained on for as many steps as the recordings of the same fold, though there is less of it: else it
    would be told apart less well only for having been seen less. No chunk is left out for being quiet.

    Args:
        tuner: how to fine-tune; its label is replaced by the question asked.
        output_folder: each fold's run is in `recordings/<fold>` or `silence/<fold>` below it, and goes on where it was
            stopped.
        seed: of fine-tuning.
        device: as in `FineTuner.fit`.
        resume: False begins each fold anew.

    Raises:
        InputError: a tuner of dimensions, or one with `max_minutes`: half a control is none.

    Example:
        >>> from dino_speech import FineTuner, FineTuneStage, build_encoder, evaluate_clinical
        >>> stages = [FineTuneStage("affine", epochs=5), FineTuneStage("all", epochs=10, lr=1e-4)]
        >>> tuner = FineTuner(build_encoder("ecapa_tdnn", channels=16), label="diagnosis", stages=stages)
        >>> classifier = FineTunedSubjects(tuner, output_folder="results/clinic")
        >>> # evaluate_clinical(None, manifest, classifier=classifier, label="diagnosis", positive="ad", segment_s=5.0)
    """

    def __init__(
        self,
        tuner: FineTuner,
        *,
        output_folder: str | PathLike[str],
        seed: int = 1986,
        device: str | torch.device | None = None,
        resume: bool = True,
    ) -> None:
        if tuner.objective == "ccc":
            raise InputError("objective = 'ccc': a clinical question has two classes; expected cross_entropy")
        if tuner.run.max_minutes is not None:
            raise InputError(
                "max_minutes: half a control is none; leave it out, a stopped evaluation can be gone on with"
            )
        self.tuner, self.folder, self.seed = tuner, Path(output_folder), seed
        self.device, self.resume = device, resume
        self._steps_per_epoch: dict[str, int] = {}

    def __call__(self, train: Manifest, test: Manifest, *, run: str) -> SegmentOdds:
        """Fine-tune on `train`, judge `test`."""
        folder = self.folder / run
        self._refuse_other_rows(train, folder)
        stages = self._stages(train, fold=run.partition("/")[2])
        tuner = replace(self.tuner, label=TARGET, stages=stages, silent_dbfs=SILENT_DBFS)
        tuner.fit(train, output_folder=folder, seed=self.seed, device=self.device, resume=self.resume)
        found = tuner.predict(test)
        log_odds = np.full(len(test), np.nan)
        positions = test.by_id()
        prior = 0.0 if tuner.class_weights == "balanced" else _log_prior(train)
        log_odds[[positions[name] for name in found.ids]] = _log_odds(found) - prior
        unused = [Skipped(name, reason) for name, reason in tuner.skipped_.items()]
        return SegmentOdds(log_odds, [*unused, *found.skipped])

    def _stages(self, train: Manifest, *, fold: str) -> Sequence[FineTuneStage]:
        """The stages, in steps: the fold's first run, that of the recordings, says how many an epoch has."""
        steps = self._steps_per_epoch.setdefault(fold, len(train) // self.tuner.batch_of(len(train)))
        return [replace(stage, epochs=None, steps=stage.num_steps(steps)) for stage in self.tuner.stages]

    def _refuse_other_rows(self, train: Manifest, folder: Path) -> None:
        """A run goes on where the IDs are the same; silence found in another way has the same IDs."""
        text = "\n".join(f"{row.id}\x1f{row.start}\x1f{row.stop}\x1f{row.duration:.6f}" for row in train)
        digest, path = hashlib.sha256(text.encode()).hexdigest(), folder / ROWS_FILE
        if self.resume and path.exists() and path.read_text(encoding="utf-8") != digest:
            raise InputError(f"{folder}: a run on other recordings or other silence; give another output folder")
        folder.mkdir(parents=True, exist_ok=True)
        write_text_atomically(path, digest)


def _log_odds(found: Predictions) -> NDArray[np.float64]:
    """(N,) log-odds of the positive class."""
    positive = np.clip(found.probabilities[:, found.classes.index("1")].astype(np.float64), LEAST, 1 - LEAST)
    return np.log(positive) - np.log1p(-positive)


def _log_prior(train: Manifest) -> float:
    """Log-odds that a segment to learn from is positive: they are taken off where the loss did not balance."""
    classes = train.label(TARGET)
    return math.log(classes.count("1") / classes.count("0"))
