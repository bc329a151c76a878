"""Fine-tuning from an encoder and labelled speech to a system on disk: the parts are put together here."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from dino_speech.audio.io import SAMPLE_RATE
from dino_speech.data.folds import check_recordings, check_speakers, warn_once
from dino_speech.data.manifest import Manifest, read_manifest
from dino_speech.data.sole_use import alone
from dino_speech.distributed import join_processes
from dino_speech.errors import InputError
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.fingerprint import fingerprint
from dino_speech.models.precision import choose_precision
from dino_speech.provenance import provenance
from dino_speech.training.loop import train as train_by
from dino_speech.training.processes import Processes
from dino_speech.training.run_identity import describe, describe_manifest
from dino_speech.training.settings import OLD_RUN_NAMES, in_groups
from dino_speech.training.state import seed_everything
from dino_speech.training.training import Outcome
from dino_speech.transfer.heads import MarginHead, build_head
from dino_speech.transfer.hyperparameters import LATER, TuningParameters
from dino_speech.transfer.staged_training import StagedTraining
from dino_speech.transfer.stages import trained_modules, unfreeze
from dino_speech.transfer.system import FineTunedSystem, Prediction, Predictions
from dino_speech.transfer.targets import Targets, check_test, describe_labels, targets_of
from dino_speech.transfer.validation import Validation

Source = Manifest | str | PathLike[str] | Sequence[str | PathLike[str]]


@in_groups(OLD_RUN_NAMES)
@dataclass
class FineTuner(TuningParameters):
    """Trains an encoder, stage after stage, for a label that people gave.

    The hyper-parameters, their ranges, defaults and sources are those of `TuningParameters`. After `fit`:

    Attributes:
        system_: encoder and head, as they are kept in `<output_folder>/system`.
        encoder_: the fine-tuned encoder.
        head_: its head.
        classes_: the classes in the order of the head's outputs; empty for dimensions.
        history_: the rows of `history.jsonl`.
        best_: the best validation figures with their `step` and `stage`; None without a validation set.
        skipped_: reason by file, of the training files that could not be used.
        stop_reason_: "max_minutes" where the run was ended before its last step, else None.

    Example:
        >>> from dino_speech import FineTuner, FineTuneStage, build_encoder
        >>> stages = [FineTuneStage("affine", epochs=5, lr=1e-3), FineTuneStage("all", epochs=20, lr=1e-4)]
        >>> tuner = FineTuner(build_encoder("ecapa_tdnn", channels=16), label="emotion", stages=stages)
        >>> # tuner.fit(read_manifest("train.csv"), valid=read_manifest("valid.csv"), output_folder="results/emotion")

    Source: arXiv 2208.05445 (stages, chunk lengths, augmentation in transfer).
    """

    @alone()
    def fit(
        self,
        train: Source,
        *,
        valid: Source | None = None,
        output_folder: str | PathLike[str],
        seed: int = 1986,
        device: str | torch.device | None = None,
        resume: bool = True,
    ) -> "FineTuner":
        """Train, and leave the system at `<output_folder>/system`, for `load_finetuned`.

        A run that was stopped goes on from its last saved state when called again, to the same numbers; one that is
        complete is only loaded. With a validation set each stage begins with the best weights so far, and the best of
        all are kept; without one the last. Beside the system the folder gets `history.jsonl`, `hyperparameters.json`,
        `tensorboard/`, `skipped.csv` (if files were skipped) and `state/`. Under torchrun each process trains its part
        of each batch. Global random generators are seeded.

        Speakers on both sides of train and valid are refused, by the tuner's column `speaker`; it is said where they
        are not known. Where that column is the label itself they are not: there valid holds other recordings of the
        same speakers (judged by UAR) or, with a margin objective, other speakers (judged by EER).

        Args:
            train: the labelled utterances, or the manifest's file or files.
            valid: likewise, to judge by after each epoch.
            output_folder: made with its parents.
            seed: of everything random.
            device: "cpu", "cuda", "cuda:N"; None: a GPU where there is one.
            resume: False starts anew, and deletes the former run in `output_folder`.

        Raises:
            InputError: a label is blank, unknown or the only one; speakers or recordings on both sides; a stage that
                does not fit the encoder; another run, or other things, in `output_folder`; most files are unusable.
            NonFiniteLoss: the loss was NaN or infinite.
            Interrupted: SIGINT or SIGTERM arrived; the state is saved.
        """
        train, valid = _read(train), None if valid is None else _read(valid)
        targets = targets_of(train, self.label, self.objective)
        validation = self._validation(train, valid, targets, seed)
        self._check_stages()
        folder, chosen = Path(output_folder), join_processes(device)
        precision = choose_precision(self.run.precision, chosen)
        identity = self._identity(train, valid, seed=seed, precision=precision)
        origin = provenance(seed=seed, manifest=[path for part in (train, valid) if part for path in part.paths])
        system = self._new_system(targets, seed, chosen, origin | {"fine_tuning": identity})
        training = StagedTraining(self, system, train, validation, seed=seed)
        run = replace(self.run, precision=precision)  # type: ignore[arg-type]
        found = train_by(training, run, folder=folder, identity=identity, origin=origin, seed=seed, resume=resume)
        self._conclude(training, found, folder)
        return self

    def predict(self, manifest: Source, **options: Any) -> Predictions:
        """What the fine-tuned system says of recordings; see `FineTunedSystem.predict`.

        Raises:
            InputError: nothing is fitted yet.
        """
        return self._fitted().predict(_read(manifest), **options)

    def predict_file(self, path: str | PathLike[str]) -> Prediction:
        """What the fine-tuned system says of one recording.

        Raises:
            InputError: nothing is fitted yet, or the file cannot be used.
        """
        return self._fitted().predict_file(path)

    def check_test(self, train: Manifest, test: Manifest) -> list[str]:
        """Refuse a test set that a system trained on `train` could not be judged on; before anything is trained.

        Returns:
            What could not be looked at, in sentences for the report: speakers that are not known.

        Raises:
            InputError: a label is blank, unknown or no number; speakers or recordings on both sides; too few of them.
        """
        unknown = check_test(train, test, label=self.label, objective=self.objective, speaker=self.speaker)
        check_recordings(train, test)
        return unknown

    def _fitted(self) -> FineTunedSystem:
        if not hasattr(self, "system_"):
            raise InputError("nothing is fitted yet: call fit first, or load_finetuned for a system on disk")
        return self.system_

    def _validation(self, train: Manifest, valid: Manifest | None, targets: Targets, seed: int) -> Validation | None:
        if valid is None:
            if self.patience is not None:
                counted = "counts epochs without a better validation"
                raise InputError(f"patience = {self.patience}: {counted}; give valid, too")
            return None
        warn_once(check_speakers(train, valid, self.label, speaker=self.speaker))
        check_recordings(train, valid)
        return Validation(valid, targets, self.objective, seed=seed)

    def _check_stages(self) -> None:
        """What only shows when stages meet the encoder; before anything runs."""
        for stage in self.stages:
            trained_modules(self.encoder, stage)
            if round(stage.chunk_s * SAMPLE_RATE) < self.encoder.min_samples:
                least_s = self.encoder.min_samples / SAMPLE_RATE
                raise InputError(f"chunk_s = {stage.chunk_s:g}: the encoder needs at least {least_s:.3g} s")

    def _identity(self, train: Manifest, valid: Manifest | None, **resolved: Any) -> dict[str, Any]:
        """What must be the same where a run goes on."""
        settings = {n: value for n, value in self.settings().items() if n not in LATER or value != LATER[n]}
        identity = {name: describe(value) for name, value in settings.items()} | resolved
        identity["encoder_weights"] = fingerprint(self.encoder)
        for name, manifest in (("train", train), ("valid", valid)):
            labels = None if manifest is None else {"labels": describe_labels(manifest, self.label)}
            identity[name] = labels and describe_manifest(manifest) | labels  # type: ignore[arg-type]
        return identity

    def _new_system(self, targets: Targets, seed: int, device: torch.device, origin: dict[str, Any]) -> FineTunedSystem:
        """A copy of the encoder with a new head."""
        seed_everything(seed)
        head = build_head(self.objective, self.encoder.embedding_dim, len(targets.names), **self.head_options())
        encoder: SpeechEncoder = copy.deepcopy(self.encoder).to(device)
        return FineTunedSystem(encoder, head.to(device), targets, self.objective, self.segment_s, origin)

    def _conclude(self, training: StagedTraining, found: Outcome, folder: Path) -> None:
        system = training.system
        unfreeze(system.encoder)
        system.encoder.eval()
        system.head.eval()
        if isinstance(system.head, MarginHead):
            system.head.margin = self.margin
        self.system_, self.encoder_, self.head_, self.classes_ = system, system.encoder, system.head, system.classes
        self.history_, self.best_, self.stop_reason_ = found.history, training.best, found.stop_reason
        self.skipped_ = found.skipped
        Processes().from_main(lambda: system.save(folder / "system"))


def _read(source: Source) -> Manifest:
    return source if isinstance(source, Manifest) else read_manifest(source)
