"""A fine-tuned system: an encoder with its head, what it says of recordings, and the safe folder that it is kept in.

    system.json         format version, what is learnt, classes in order, head, segment rule, provenance
    head.safetensors    weights of the head
    encoder/            a folder of an encoder, which `load_encoder` reads by itself

Nothing in it can run. Letters: `N` utterances, `C` classes, `L` dimensions, `D` embedding.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dino_speech.audio.io import seconds_to_samples
from dino_speech.data.atomic import replace_folder
from dino_speech.data.utterances import Skipped
from dino_speech.errors import InputError
from dino_speech.models.bounded_memory import bounded_for
from dino_speech.models.checkpoint import load_encoder
from dino_speech.models.embed_files import Embeddings, Transform, embed_items
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.encoder_folder import read_header, read_weights, refuse_others, write_weights
from dino_speech.models.evaluation_mode import evaluating
from dino_speech.provenance import provenance as new_provenance
from dino_speech.transfer.heads import Head, build_head, head_to_dict
from dino_speech.transfer.targets import Classes, Dimensions, Targets, targets_from_dict, targets_to_dict

SYSTEM_FILE, ENCODER_FOLDER = "system.json", "encoder"
FORMAT_VERSION = 1
SEGMENTS_AT_ONCE_S = 120.0  # ours: as many seconds of segments go through the encoder together

Module = TypeVar("Module", bound=nn.Module)


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

    def single(self) -> "Prediction":
        """The one recording's; where it could not be used, an `InputError` says why."""
        if self.skipped:
            raise InputError(self.skipped[0].reason)
        return Prediction(
            id=self.ids[0],
            label=self.labels[0] if self.labels else None,
            probabilities=dict(zip(self.classes, self.probabilities[0].tolist(), strict=True)),
            values=dict(zip(self.dimensions, self.values[0].tolist(), strict=True)),
        )


@dataclass(frozen=True)
class Prediction:
    """What a system says of one recording: `label` and `probabilities` by class, or `values` by dimension."""

    id: str
    label: str | None
    probabilities: dict[str, float]
    values: dict[str, float]


class System:
    """What systems have in common: an encoder, a module on top of it, and the folder that both are kept in."""

    format: ClassVar[str]
    what: ClassVar[str]  # its name in messages
    part: ClassVar[str]  # its attribute that sits on the encoder, and the file of its weights
    encoder: SpeechEncoder
    provenance: Mapping[str, Any]

    def header(self) -> dict[str, Any]:
        """What `system.json` says beside the format and the provenance."""
        raise NotImplementedError

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the system's folder, for `load_finetuned` or `load_audio_text`; a system that is there is replaced.

        Raises:
            InputError: `folder` is a file, or holds what is no part of a system, or cannot be written.
        """
        target, weights = Path(folder).absolute(), f"{self.part}.safetensors"
        refuse_others(target, {SYSTEM_FILE, ENCODER_FOLDER, weights}, self.what)
        record = dict(self.provenance) or new_provenance()
        header = {"format": self.format, "format_version": FORMAT_VERSION, **self.header(), "provenance": record}

        def fill(partial: Path) -> None:
            self.encoder.save(partial / ENCODER_FOLDER, provenance=record)
            write_weights(partial / weights, getattr(self, self.part).state_dict())
            (partial / SYSTEM_FILE).write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")

        replace_folder(target, fill)
        return target

    def _hear(
        self, items: Sequence[Any], embed: Callable[[Tensor, Tensor], Tensor], dim: int, **options: Any
    ) -> Embeddings:
        """What `embed` gives for each recording, (N, dim); what cannot be read is left out."""
        with evaluating(self.encoder), evaluating(getattr(self, self.part)), torch.inference_mode():
            return embed_items(self.encoder, items, embed, dim, on_error="skip", **options)


@dataclass(eq=False)
class FineTunedSystem(System):
    """An encoder and the head that was trained on it.

    Args:
        encoder: waves -> (N, D).
        head: (N, D) -> (N, C) or (N, L), trained with `objective`; `targets` say what its outputs mean.
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

    format, what, part = "dino_speech.system", "fine-tuned system", "head"

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
        options: dict[str, Any] = {"batch_s": batch_s, "num_workers": num_workers, "progress": progress}
        found = self._hear(items, self._decide, len(self.targets.names), transform=transform, **options)
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
        return self.predict([os.fspath(path)]).single()

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

    def header(self) -> dict[str, Any]:
        """What is learnt and how a recording is decided on."""
        content = {"objective": self.objective, "targets": targets_to_dict(self.targets)}
        return content | {"head": head_to_dict(self.head), "segment_s": self.segment_s, "rule": self.rule}


def load_finetuned(folder: str | os.PathLike[str], device: str | torch.device = "cpu") -> FineTunedSystem:
    """A fine-tuned system in evaluation mode.

    Args:
        folder: a system's folder, or the output folder of a fine-tuning, which has one inside as `system`.
        device: where to put it.

    Raises:
        InputError: there is no such folder, or it is incomplete, damaged, or of another format version.
    """

    def head_of(content: dict[str, Any], encoder: SpeechEncoder, targets: Targets) -> Head:
        if content["segment_s"] is not None and seconds_to_samples(content["segment_s"]) < 1:
            raise InputError(f"segment_s is {content['segment_s']}; expected a positive number of seconds, or none")
        return build_head(content["objective"], encoder.embedding_dim, len(targets.names), **content["head"])

    content, encoder, targets, head = read_system(folder, device, FineTunedSystem, head_of)
    options = content["objective"], content["segment_s"], content.get("provenance", {})
    return FineTunedSystem(encoder, head, targets, *options)


def system_folder(folder: str | os.PathLike[str]) -> Path:
    """The folder itself, or the `system` inside it."""
    found, inside = Path(folder), Path(folder) / "system"
    return inside if not (found / SYSTEM_FILE).is_file() and (inside / SYSTEM_FILE).is_file() else found


def read_system(
    folder: str | os.PathLike[str],
    device: str | torch.device,
    kind: type[System],
    build: Callable[[dict[str, Any], SpeechEncoder, Targets], Module],
) -> tuple[dict[str, Any], SpeechEncoder, Targets, Module]:
    """Header, encoder, targets, and the module that `build` makes of them, with its weights; for evaluation."""
    found = system_folder(folder)
    content = read_header(found / SYSTEM_FILE, format_name=kind.format, version=FORMAT_VERSION, what=kind.what)
    encoder = load_encoder(found / ENCODER_FOLDER, device=device)
    tensors = read_weights(found / f"{kind.part}.safetensors")
    try:
        targets = targets_from_dict(content["targets"])
        with bounded_for(sum(tensor.numel() for tensor in tensors.values())):
            module = build(content, encoder, targets)
        module.load_state_dict(tensors)
    except Exception as error:  # whatever a value of the wrong kind or size leads to
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{found}: incomplete or damaged ({reason}); copy the whole folder again") from error
    return content, encoder, targets, module.eval().to(device)


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
