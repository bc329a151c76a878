"""A fine-tuned system: an encoder with its head, what it says of recordings, and the safe folder that it is kept in.

    system.json         format version, what is learnt, classes in order, head, segment rule, provenance
    head.safetensors    weights of the head
    encoder/            a folder of an encoder, which `load_encoder` reads by itself

Letters: `N` utterances, `C` classes, `L` dimensions, `D` embedding.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dino_speech.audio.io import seconds_to_samples
from dino_speech.data.utterances import Skipped
from dino_speech.errors import InputError
from dino_speech.models.checkpoint import load_encoder
from dino_speech.models.embed_files import Transform, embed_items
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.encoder_folder import read_header
from dino_speech.models.evaluation_mode import evaluating
from dino_speech.transfer.heads import LinearHead, MarginHead
from dino_speech.transfer.system_folder import ENCODER_FOLDER, SYSTEM_FILE, refusing_damage, system_folder, write_system
from dino_speech.transfer.targets import Classes, Dimensions, Targets, targets_from_dict, targets_to_dict

FORMAT = "dino_speech.system"
FORMAT_VERSION = 1
HEAD_FILE = "head.safetensors"
OBJECTIVES = ("cross_entropy", "aam_softmax", "subcenter_arcface", "ccc")
MARGIN_OBJECTIVES = ("aam_softmax", "subcenter_arcface")
SEGMENTS_AT_ONCE_S = 120.0  # ours: as many seconds of segments go through the encoder together

Head = LinearHead | MarginHead


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a system says of N recordings.

    Attributes:
        ids: (N,) names, in the order asked for.
        labels: (N,) the most probable class; empty for dimensions.
        classes: the C classes in the order of the columns of `probabilities`; empty for dimensions.
        probabilities: (N, C); (N, 0) for dimensions.
        dimensions: the L names of the columns of `values`; empty for classes.
        values: (N, L); (N, 0) for classes.
        rule: how a recording was decided on, in words.
        skipped: recordings left out, and why.
    """

    ids: list[str]
    labels: list[str]
    classes: list[str]
    probabilities: NDArray[np.float32] = field(repr=False)
    dimensions: list[str]
    values: NDArray[np.float32] = field(repr=False)
    rule: str
    skipped: list[Skipped]

    @property
    def predicted(self) -> NDArray[np.str_]:
        """`labels` as an array."""
        return np.array(self.labels)


@dataclass(frozen=True)
class Prediction:
    """What a system says of one recording: `label` and `probabilities` by class, or `values` by dimension."""

    id: str
    label: str | None
    probabilities: dict[str, float]
    values: dict[str, float]


@dataclass(eq=False)
class FineTunedSystem:
    """An encoder and the head that was trained on it.

    Args:
        encoder: waves -> (N, D).
        head: (N, D) -> (N, C) or (N, L).
        targets: what the head's outputs mean.
        objective: that it was trained with.
        segment_s: a recording is cut into segments of this length, which cover it evenly and overlap where they must;
            None: it is heard whole.
        provenance: where it comes from.
    """

    encoder: SpeechEncoder
    head: Head
    targets: Targets
    objective: str
    segment_s: float | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def classes(self) -> list[str]:
        """The classes in the order of the outputs; empty for dimensions."""
        return list(self.targets.names) if isinstance(self.targets, Classes) else []

    @property
    def rule(self) -> str:
        """How a recording is decided on, in words."""
        pooled = "mean log-probabilities" if isinstance(self.targets, Classes) else "mean values"
        return "whole recordings" if self.segment_s is None else f"{pooled} of segments of {self.segment_s:g} s"

    def predict(
        self,
        items: Sequence[Any],
        *,
        num_workers: int = 0,
        progress: bool = False,
        batch_s: float | None = None,
        transform: Transform | None = None,
    ) -> Predictions:
        """Classes or dimensions of many recordings; what cannot be read is left out and listed.

        Args:
            items: a manifest, or paths.
            num_workers: threads that read ahead.
            progress: show a bar on stderr.
            batch_s: seconds of sound in a batch; None: what suits the device.
            transform: called with each wave (time,) and its ID; what it returns is judged instead.
        """
        with evaluating(self.encoder), evaluating(self.head), torch.inference_mode():
            found = embed_items(
                self.encoder,
                items,
                self._decide,
                len(self.targets.names),
                batch_s=batch_s,
                num_workers=num_workers,
                progress=progress,
                on_error="skip",
                transform=transform,
            )
        names, none = list(self.targets.names), np.zeros((len(found.ids), 0), np.float32)
        if isinstance(self.targets, Dimensions):
            return Predictions(found.ids, [], [], none, names, found.embeddings, self.rule, found.failures)
        labels = [names[number] for number in found.embeddings.argmax(axis=1)]
        return Predictions(found.ids, labels, names, found.embeddings, [], none, self.rule, found.failures)

    def predict_file(self, path: str | os.PathLike[str]) -> Prediction:
        """Class or dimensions of one recording.

        Raises:
            InputError: it cannot be read, is silent, or too short.
        """
        found = self.predict([os.fspath(path)])
        if found.skipped:
            raise InputError(found.skipped[0].reason)
        return Prediction(
            id=found.ids[0],
            label=found.labels[0] if found.labels else None,
            probabilities=dict(zip(found.classes, found.probabilities[0].tolist(), strict=True)),
            values=dict(zip(found.dimensions, found.values[0].tolist(), strict=True)),
        )

    def _decide(self, waves: Tensor, num_samples: Tensor) -> Tensor:
        """(B, time) and (B,) -> (B, C) probabilities or (B, L) values, pooled over the segments of each."""
        pieces, owners = _segments(waves, num_samples.tolist(), self.segment_s)
        outputs = []
        for batch in _batches(pieces, self.encoder.config.sample_rate):
            lengths = torch.tensor([len(piece) for piece in batch])
            padded = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True)
            outputs.append(self.head(self.encoder(padded.to(self.encoder.device), lengths.to(self.encoder.device))))
        decided = torch.cat(outputs)
        if isinstance(self.targets, Classes):
            decided = decided.log_softmax(1)
        owner = torch.tensor(owners, device=decided.device)
        pooled = decided.new_zeros(len(waves), decided.shape[1]).index_add_(0, owner, decided)
        pooled = pooled / owner.bincount(minlength=len(waves))[:, None]
        return pooled.softmax(1) if isinstance(self.targets, Classes) else self.targets.unscaled(pooled)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the system's folder, for `load_finetuned`; a system that is there is replaced.

        Raises:
            InputError: the folder holds an encoder's folder with other things in it.
        """
        header = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "objective": self.objective,
            "targets": targets_to_dict(self.targets),
            "head": head_to_dict(self.head),
            "segment_s": self.segment_s,
            "rule": self.rule,
        }
        return write_system(folder, header, self.encoder, self.head, HEAD_FILE, self.provenance)


def load_finetuned(folder: str | os.PathLike[str], device: str | torch.device = "cpu") -> FineTunedSystem:
    """A fine-tuned system in evaluation mode.

    Args:
        folder: a system's folder, or the output folder of a fine-tuning, which has one inside as `system`.
        device: where to put it.

    Raises:
        InputError: there is no such folder, or it is incomplete, damaged, or of another format version.
    """
    from safetensors.torch import load_file

    found = system_folder(folder)
    content = read_header(found / SYSTEM_FILE, format_name=FORMAT, version=FORMAT_VERSION, what="fine-tuned system")
    encoder = load_encoder(found / ENCODER_FOLDER, device=device)
    with refusing_damage(found):
        targets = targets_from_dict(content["targets"])
        head = build_head(content["objective"], encoder.embedding_dim, len(targets.names), **content["head"])
        head.load_state_dict(load_file(found / HEAD_FILE))
    head = head.eval().to(device)
    return FineTunedSystem(
        encoder, head, targets, content["objective"], content["segment_s"], content.get("provenance", {})
    )


def build_head(objective: str, embedding_dim: int, num_outputs: int, **options: Any) -> Head:
    """The head of an objective, with random weights; `options` are those of `head_to_dict`."""
    kind = MarginHead if objective in MARGIN_OBJECTIVES else LinearHead
    return kind(embedding_dim, num_outputs, **options)


def head_to_dict(head: Head) -> dict[str, Any]:
    """What `build_head` needs beside the objective and the sizes."""
    if isinstance(head, LinearHead):
        return {"dropout": head.dropout.p}
    return {name: getattr(head, name) for name in ("num_subcenters", "margin", "scale", "easy_margin")}


def _segments(waves: Tensor, lengths: list[int], segment_s: float | None) -> tuple[list[Tensor], list[int]]:
    """Pieces of each wave, and the number of the wave that each is of."""
    size = None if segment_s is None else seconds_to_samples(segment_s)
    pieces, owners = [], []
    for owner, (wave, length) in enumerate(zip(waves, lengths, strict=True)):
        if size is None or length <= size:
            starts, span = [0], length
        else:
            starts, span = np.linspace(0, length - size, -(-length // size)).round().astype(int).tolist(), size
        pieces += [wave[start : start + span] for start in starts]
        owners += [owner] * len(starts)
    return pieces, owners


def _batches(pieces: list[Tensor], sample_rate: int) -> list[list[Tensor]]:
    """Pieces in their order, as many at once as fill `SEGMENTS_AT_ONCE_S` with padding, at least one."""
    batches: list[list[Tensor]] = []
    longest = 0
    for piece in pieces:
        longest = max(longest, len(piece))
        if not batches or (len(batches[-1]) + 1) * longest > SEGMENTS_AT_ONCE_S * sample_rate:
            batches.append([])
            longest = len(piece)
        batches[-1].append(piece)
    return batches
