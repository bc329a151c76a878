"""What `AudioTextTuner` leaves: an encoder and its read-out, what they say of recordings and texts, and their folder.

    system.json            format version, dimensions and their scale, transcript column, read-out, provenance
    readout.safetensors    weights of layers, text branch, head
    encoder/               a folder of an encoder, which `load_encoder` reads by itself

Nothing in it can run. Letters: `N` recordings, `L` dimensions.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dino_speech.data.atomic import read_json
from dino_speech.errors import InputError
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.evaluation_mode import evaluating
from dino_speech.transfer.audio_text.readout import ReadOut, buckets_of, build_readout, layer_means, readout_to_dict
from dino_speech.transfer.system import (
    SYSTEM_FILE,
    FineTunedSystem,
    Prediction,
    Predictions,
    System,
    load_finetuned,
    read_system,
    system_folder,
)
from dino_speech.transfer.targets import Dimensions, Targets, targets_to_dict


@dataclass(eq=False)
class AudioTextSystem(System):
    """An encoder and the read-out of its layers, which a text may join.

    Args:
        encoder: gives the layers.
        readout: (N, layers, width) and texts -> (N, L), on the scale of the training set.
        targets: the dimensions and that scale.
        transcript: the column whose text joins; None: audio alone.
        provenance: where it comes from.
    """

    encoder: SpeechEncoder
    readout: ReadOut
    targets: Dimensions
    transcript: str | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)

    format, what, part = "dino_speech.audio_text_system", "audio-textual system", "readout"

    @property
    def classes(self) -> list[str]:
        """None: it says dimensions."""
        return []

    @property
    def rule(self) -> str:
        """How a recording is decided on, in words."""
        return "whole recordings" + ("" if self.transcript is None else f", joined by the text of {self.transcript!r}")

    @property
    def network(self) -> nn.Module:
        """(N, time) waves -> (N, L): what is measured as the system's cost, with an empty text where one joins."""
        return _Network(self.encoder, self.readout)

    def relevance(self) -> dict[str, list[float]]:
        """For each dimension the weight of each layer, from the first to the last."""
        return self.readout.relevance(self.targets.names)

    def predict(self, items: Sequence[Any], *, texts: Sequence[str] | None = None, **options: Any) -> Predictions:
        """Dimensions of recordings, heard whole; what cannot be read is left out and listed.

        Args:
            items: a manifest, utterances, or paths.
            texts: (N,) what was said; None: the manifest's column. An empty text is a text too.
            options: `num_workers`, `progress`, `batch_s`, `transform`, as of `FineTunedSystem.predict`.

        Raises:
            InputError: a text joins, and there is none for each recording.
        """
        said = self._texts(items, texts)
        readout, shape = self.readout, (self.readout.num_layers, self.readout.width)
        encoder, width = self.encoder, shape[0] * shape[1]
        found = self._hear(items, lambda *heard: layer_means(encoder, *heard).flatten(1), width, **options)
        with evaluating(readout), torch.inference_mode():
            layers = torch.from_numpy(found.embeddings).unflatten(1, shape).to(self.encoder.device)
            outputs = readout(layers, None if said is None else [said[name] for name in found.ids])
        values = self.targets.unscaled(outputs.double()).float().cpu().numpy()
        none: Any = np.zeros((len(found.ids), 0), np.float32)
        return Predictions(found.ids, [], [], none, list(self.targets.names), values, self.rule, found.failures)

    def predict_file(self, path: str | os.PathLike[str], text: str | None = None) -> Prediction:
        """Dimensions of one recording.

        Args:
            path: the file.
            text: what was said in it; needed where a text joins.

        Raises:
            InputError: it cannot be read, is silent, or too short; or there is no text, and one joins.
        """
        return self.predict([os.fspath(path)], texts=None if text is None else [text]).single()

    def header(self) -> dict[str, Any]:
        """What is said, and by which layers and texts."""
        content = {"targets": targets_to_dict(self.targets), "transcript": self.transcript}
        return content | {"readout": readout_to_dict(self.readout), "rule": self.rule}

    def _texts(self, items: Sequence[Any], texts: Sequence[str] | None) -> dict[str, list[int]] | None:
        """Numbers of each recording's text by its name."""
        if self.transcript is None:
            return None
        if texts is None:
            texts = [_text_of(item, self.transcript) for item in items]
        elif isinstance(texts, str) or len(texts) != len(items):
            raise InputError(f"texts: found {texts!r}; expected a text for each of {len(items)} recordings"[:300])
        assert self.readout.text is not None
        num_buckets = self.readout.text.num_buckets
        return {_name(item): buckets_of(text, num_buckets) for item, text in zip(items, texts, strict=True)}


class _Network(nn.Module):
    def __init__(self, encoder: SpeechEncoder, readout: ReadOut) -> None:
        super().__init__()
        self.encoder, self.readout = encoder, readout

    def forward(self, waves: Tensor) -> Tensor:
        found: Tensor = self.readout(layer_means(self.encoder, waves, None), [[]] * len(waves))
        return found


def load_audio_text(folder: str | os.PathLike[str], device: str | torch.device = "cpu") -> AudioTextSystem:
    """What `AudioTextTuner.fit` left, in evaluation mode.

    Args:
        folder: a system's folder, or the output folder of the run, which has one inside as `system`.
        device: where to put it.

    Raises:
        InputError: there is no such folder, or it is incomplete, damaged, or of another format version.
    """

    def readout_of(content: dict[str, Any], _: SpeechEncoder, targets: Targets) -> ReadOut:
        readout = build_readout(**content["readout"])
        if not isinstance(targets, Dimensions) or len(readout.bias) != len(targets.names):
            raise InputError(f"a read-out of {len(readout.bias)} dimensions for {targets}")
        return readout

    content, encoder, targets, readout = read_system(folder, device, AudioTextSystem, readout_of)
    assert isinstance(targets, Dimensions)
    return AudioTextSystem(encoder, readout, targets, content.get("transcript"), content.get("provenance", {}))


def load_system(
    folder: str | os.PathLike[str], device: str | torch.device = "cpu"
) -> "FineTunedSystem | AudioTextSystem":
    """A system of either kind; see `load_finetuned` and `load_audio_text`.

    Raises:
        InputError: there is no such folder, or it is incomplete, damaged, or of another format version.
    """
    try:
        content = read_json(system_folder(folder) / SYSTEM_FILE)
    except (OSError, ValueError):
        content = None  # said by `load_finetuned`
    if isinstance(content, dict) and content.get("format") == AudioTextSystem.format:
        return load_audio_text(folder, device)
    return load_finetuned(folder, device)


def _name(item: Any) -> str:
    return str(item.id) if hasattr(item, "id") else os.fspath(item)


def _text_of(item: Any, column: str) -> str:
    labels = getattr(item, "labels", None)
    if labels is None or column not in labels:
        raise InputError(
            f"{_name(item)}: no text in a column {column!r}, which this system joins to the sound; give a manifest with"
            " this column (a cell may be empty), or the text itself"
        )
    return str(labels[column])
