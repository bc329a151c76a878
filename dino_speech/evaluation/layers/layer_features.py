"""The layers of an encoder for every utterance of a manifest: computed in one pass, kept on disk.

A file is named by a hash of all that its numbers depend on: weights and configuration of the encoder, the utterances,
and the size and time of their files. Letters: `N` utterances, `C` width of a layer.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dino_speech.data.resumable_store import ResumableStore
from dino_speech.data.utterances import Manifest, Utterance
from dino_speech.embedding.embedded_manifest import EmbeddedManifest, Embedding, embed_rows
from dino_speech.embedding.parts_on_disk import pack, unpack
from dino_speech.errors import InputError
from dino_speech.models.embed_files import Embeddings, embed_items
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.evaluation_mode import evaluating
from dino_speech.models.fingerprint import fingerprint


@dataclass(frozen=True, eq=False)
class LayerFeatures(EmbeddedManifest):
    """Each layer's mean over the true frames of each utterance; `embeddings` holds the layers side by side."""

    widths: dict[str, int] = field(default_factory=dict)  # layer name -> C, in the order of the layers

    def layer(self, name: str) -> Embedding:
        """(N, C) of one layer."""
        begin = sum(width for _, width in zip(range(list(self.widths).index(name)), self.widths.values(), strict=False))
        return self.embeddings[:, begin : begin + self.widths[name]]

    def embedded(self, name: str) -> EmbeddedManifest:
        """One layer in the form that every evaluation takes."""
        return EmbeddedManifest(self.manifest, self.layer(name), self.skipped)


def layer_features(
    encoder: SpeechEncoder,
    manifest: Manifest,
    *,
    rows: NDArray[np.integer] | None = None,
    layers: Sequence[str] = ("*",),
    cache: str | os.PathLike[str] | None = None,
    **options: Any,
) -> LayerFeatures:
    """Embed each utterance once and keep every layer; from the cache where it has been done before.

    The arguments are those of `embed_manifest` and `probe_layers`.
    """
    widths = _widths(encoder, layers)

    def embed(utterances: list[Utterance]) -> Embeddings:
        if cache is None:
            return _embed(encoder, utterances, widths, options)
        store = ResumableStore(Path(cache), [fingerprint(encoder, encoder.config.to_dict()), list(widths.items())])
        arrays = store.arrays(
            "layers", utterances_digest(utterances), lambda: pack(_embed(encoder, utterances, widths, options))
        )
        return unpack(arrays)

    found = embed_rows(manifest, rows, embed)
    return LayerFeatures(manifest, found.embeddings, found.skipped, widths)


def _widths(encoder: SpeechEncoder, patterns: Sequence[str]) -> dict[str, int]:
    """Layers that fit the patterns and their widths, asked of the encoder by a moment of noise."""
    noise = torch.randn(1, encoder.min_samples, generator=torch.Generator().manual_seed(0))
    with evaluating(encoder), torch.inference_mode():
        found = encoder.embed_layers(noise.to(encoder.device))
    kept = {name: x.shape[1] for name, x in found.items() if any(fnmatchcase(name, one) for one in patterns)}
    if not kept:
        raise InputError(f"no layer is called like {list(patterns)}; this encoder has {', '.join(found)}")
    return kept


def _embed(
    encoder: SpeechEncoder, utterances: list[Utterance], widths: dict[str, int], options: dict[str, Any]
) -> Embeddings:
    def embed(waves: Tensor, lengths: Tensor) -> Tensor:
        found = encoder.embed_layers(waves, lengths)
        return torch.cat([found[name] for name in widths], dim=1)

    with evaluating(encoder), torch.inference_mode():
        return embed_items(encoder, utterances, embed, sum(widths.values()), on_error="skip", **options)


def utterances_digest(utterances: Sequence[Utterance]) -> str:
    """SHA-256 of IDs, files, spans, and size and time of each file as far as there is one."""
    digest = hashlib.sha256()
    for utterance in utterances:
        facts: list[Any] = [utterance.id, utterance.wav, utterance.start, utterance.stop]
        with suppress(OSError):
            status = os.stat(utterance.wav)  # noqa: PTH116 - a path of another kind is no reason to stop
            facts += [status.st_size, status.st_mtime_ns]
        digest.update(json.dumps(facts).encode())
    return digest.hexdigest()
