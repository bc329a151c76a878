"""Dimensions such as arousal and valence from a weighted sum of an encoder's layers, and from what was said.

What a layer is worth for each dimension is learnt and told; see `readout.py`.
"""

import copy
import json
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dino_speech.argument_checks import Count
from dino_speech.data.atomic import write_text_atomically
from dino_speech.data.folds import SPEAKER, check_recordings, check_speakers
from dino_speech.data.manifest import Manifest, read_manifest
from dino_speech.errors import InputError
from dino_speech.frame_level.chunk_training import ChunkRun, ChunkTrainer, Objective
from dino_speech.frame_level.frame_states import freeze_convolutions
from dino_speech.frame_level.network import Wav2Vec2
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.evaluation_mode import evaluating
from dino_speech.models.fingerprint import fingerprint
from dino_speech.training.processes import whole_batch
from dino_speech.training.settings import OLD_RUN_NAMES, in_groups
from dino_speech.transfer.audio_text.readout import ReadOut, TextBranch, buckets_of, layer_means
from dino_speech.transfer.audio_text.system import AudioTextSystem
from dino_speech.transfer.heads import ccc_loss
from dino_speech.transfer.system import Predictions
from dino_speech.transfer.targets import Dimensions, describe_labels


@in_groups(OLD_RUN_NAMES)
@dataclass
class AudioTextTuner(ChunkTrainer):
    """Learns dimensions by CCC, with or without text; other options and `fit`: `ChunkTrainer`.

    `fit` leaves the system at `<output_folder>/system`, for `load_audio_text`, and beside it `relevance.json`.

    Args:
        encoder: for instance a distilled student; `fit` trains a copy. Of a frame-level encoder the mean of each layer
            over time is read, of another one its embedding.
        labels: columns of numbers.
        transcript: a column of text, written or recognised; None: audio alone.
        text_for: the dimensions that the text joins for.
        train_encoder: False: only weights of layers, text branch and head; else also the encoder, without the
            convolutions of a frame-level one.
        text_dim: width of the text branch.
        num_buckets: vectors of the text branch.
        speaker: the column that training and test may not share a value of.

    Learnt by `fit`:

    Attributes:
        system_: encoder and read-out, as they are kept.
        encoder_: the encoder.
        readout_: weights of layers, text branch, head.
        relevance_: for each dimension the weight of each layer, from the first to the last; they sum to 1.
        num_parameters_: of encoder and read-out together, and how many of them were trained.

    Raises:
        InputError: a value outside its range, or a dimension in `text_for` that is not in `labels`.

    Source: text beside a distilled student, for valence above all: arXiv 2305.19184, abstract; sum of layers:
        2105.01051 (SUPERB); one for each dimension is ours.
    """

    encoder: SpeechEncoder
    _: KW_ONLY
    labels: Sequence[str]
    transcript: str | None = None
    text_for: Sequence[str] = ("valence",)
    train_encoder: bool = True
    text_dim: Count = 64
    num_buckets: Count = 16_384
    speaker: str = SPEAKER

    purpose = "fine_tuning"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.labels, str) or not self.labels:
            raise InputError(f"labels = {self.labels!r}: expected a list of columns that hold numbers")
        unknown = sorted(set(self.text_for) - set(self.labels)) if self.transcript is not None else []
        if unknown:
            raise InputError(f"text_for names {unknown[0]!r}, which is not among the labels {', '.join(self.labels)}")

    def identity(self, manifest: Manifest, seed: int, precision: str) -> dict[str, Any]:
        """With the weights of the encoder, and what the columns say."""
        Dimensions.of(manifest, self.labels)  # names what is wrong with the columns
        columns = [*self.labels, *([] if self.transcript is None else [self.transcript])]
        identity = super().identity(manifest, seed, precision) | {"encoder_weights": fingerprint(self.encoder)}
        del identity["speaker"]  # by it things are only refused
        identity["train"] |= {"labels": describe_labels(manifest, columns)}
        return identity

    def _objective(self, run: ChunkRun) -> "Joint":
        self.targets_ = Dimensions.of(run.manifest, self.labels)
        texts = self._texts(run.manifest)
        return Joint(copy.deepcopy(self.encoder), self, self.targets_.of_rows(run.manifest), texts)

    def _keep(self, objective: "Joint", run: ChunkRun) -> None:
        sizes = [(value.numel(), value.requires_grad) for value in objective.parameters()]
        self.num_parameters_ = {"all": sum(n for n, _ in sizes), "trained": sum(n for n, is_free in sizes if is_free)}
        self.encoder_, self.readout_ = objective.encoder.eval().requires_grad_(True), objective.readout.eval()
        origin = run.origin | {self.purpose: run.identity}
        self.system_ = AudioTextSystem(self.encoder_, self.readout_, self.targets_, self.transcript, origin)
        self.relevance_ = self.system_.relevance()

    def predict(self, manifest: Manifest | str | PathLike[str], *, num_workers: int = 0) -> Predictions:
        """What is said of recordings, heard whole; what cannot be read is left out and listed.

        Raises:
            InputError: nothing is fitted yet, or there is no transcript column.
        """
        if not hasattr(self, "system_"):
            raise InputError("nothing is fitted yet: call fit first, or load_audio_text for a system on disk")
        manifest = manifest if isinstance(manifest, Manifest) else read_manifest(manifest)
        self._texts(manifest)  # names what is wrong with the column
        return self.system_.predict(manifest, num_workers=num_workers)

    def check_test(self, train_part: Manifest, test: Manifest) -> list[str]:
        """Refuse (`InputError`) a test set with speakers or speech of the training set, or without labels or texts.

        Gives what could not be looked at, as `FineTuner.check_test` does.
        """
        unknown = check_speakers(train_part, test, self.labels, speaker=self.speaker)
        check_recordings(train_part, test)
        Dimensions.of(train_part, self.labels).of_rows(test)
        for part in (train_part, test):
            self._texts(part)
        return unknown

    def _texts(self, manifest: Manifest) -> list[list[int]] | None:
        if self.transcript is None:
            return None
        return [buckets_of(text, self.num_buckets) for text in manifest.label(self.transcript)]

    def _save(self, folder: Path, origin: dict[str, Any]) -> None:
        self.system_.save(folder / "system")
        content = {"relevance": self.relevance_, "num_parameters": self.num_parameters_}
        write_text_atomically(folder / "relevance.json", json.dumps(content, indent=2) + "\n")


class Joint(Objective):
    """The CCC loss of an encoder, trained in place where `hyper` says so, and its read-out; all targets are scaled."""

    def __init__(
        self, encoder: SpeechEncoder, hyper: AudioTextTuner, targets: Tensor, texts: list[list[int]] | None
    ) -> None:
        super().__init__()
        self.encoder, self.trains, self.texts = encoder, hyper.train_encoder, texts
        self.min_samples = encoder.min_samples
        encoder.requires_grad_(self.trains)
        if self.trains and isinstance(encoder.backbone, Wav2Vec2):
            freeze_convolutions(encoder)
        with evaluating(encoder), torch.inference_mode():
            shape = layer_means(encoder, torch.randn(1, encoder.min_samples, device=encoder.device), None).shape
        text = None if texts is None else TextBranch(hyper.text_dim, num_buckets=hyper.num_buckets)
        joined = [name in hyper.text_for for name in hyper.labels]
        self.readout = ReadOut(shape[1], shape[2], len(joined), text=text, joined=joined)
        self.register_buffer("targets", targets, persistent=False)

    def train(self, mode: bool = True) -> "Joint":
        """As of any module; an encoder that is not trained goes on evaluating."""
        super().train(mode)
        if not self.trains:
            self.encoder.eval()
        return self

    def losses(self, waves: Tensor, index: Tensor, step: int) -> dict[str, Tensor]:
        """`loss` is 1 minus the mean CCC of the batch."""
        texts = None if self.texts is None else [self.texts[row] for row in index.tolist()]
        with torch.set_grad_enabled(self.trains and torch.is_grad_enabled()):
            layers = layer_means(self.encoder, waves, None)
        targets: Tensor = self.targets[index]  # type: ignore[index]
        return {"loss": ccc_loss(whole_batch(self.readout(layers, texts)), whole_batch(targets))}
