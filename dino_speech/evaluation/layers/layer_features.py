"""The layers of an encoder for every utterance of a manifest: computed in one pass, kept on disk.

The file is an npz without pickles, named by a hash of all that its numbers depend on: weights and configuration of the
encoder, the utterances, and the size and time of their files. Letters: `N` utterances, `C` width of a layer.
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

from dino_speech import __version__
from dino_speech.data.atomic import write_atomically
from dino_speech.data.utterances import Manifest, Skipped, Utterance, list_some
from dino_speech.embedding.embedded_manifest import EmbeddedManifest
from dino_speech.errors import InputError
from dino_speech.models.embed_files import Embeddings, embed_items
from dino_speech.models.encoder import SpeechEncoder, evaluating


@dataclass(frozen=True, eq=False)
class LayerFeatures:
    """Each layer's mean over the true frames of each utterance.

    Args:
        manifest: N utterances.
        widths: layer name -> C, in the order of the layers.
        values: (N, sum of C) float32, the layers side by side; a row of NaN where there is nothing.
        skipped: utterances that could not be embedded, and why.
    """

    manifest: Manifest
    widths: dict[str, int]
    values: NDArray[np.float32] = field(repr=False)
    skipped: list[Skipped]

    @property
    def usable(self) -> NDArray[np.bool_]:
        """(N,) where there are features."""
        return np.asarray(~np.isnan(self.values[:, 0]))

    def layer(self, name: str) -> NDArray[np.float32]:
        """(N, C) of one layer."""
        begin = sum(width for _, width in zip(range(list(self.widths).index(name)), self.widths.values(), strict=False))
        return self.values[:, begin : begin + self.widths[name]]

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

    Args:
        encoder: any; put into eval mode while it embeds.
        manifest: the utterances.
        rows: positions of those that are needed; None: all.
        layers: names or patterns (`layer_*`) of the layers to keep.
        cache: folder for the files; None: nothing is kept on disk.
        options: `batch_s`, `num_workers`, `progress`, as of `embed_files`.

    Raises:
        InputError: no layer fits the patterns, or nothing could be embedded.
    """
    wanted = np.arange(len(manifest)) if rows is None else np.asarray(rows)
    widths = _widths(encoder, layers)
    utterances = [manifest[row] for row in wanted.tolist()]
    file = None if cache is None else Path(cache) / f"layers-{_digest(encoder, utterances, widths)}.npz"
    found = _read(file) if file is not None and file.is_file() else None
    if found is None:
        found = _embed(encoder, utterances, widths, options)
        if file is not None:
            _write(file, found)
    if not found.ids:
        reasons = list_some([f"{item.name}: {item.reason}" for item in found.failures])
        raise InputError(f"{manifest.name}: none of {len(utterances)} utterances could be embedded ({reasons})")
    positions = manifest.by_id()
    values = np.full((len(manifest), sum(widths.values())), np.nan, dtype=np.float32)
    values[[positions[name] for name in found.ids]] = found.embeddings
    return LayerFeatures(manifest, widths, values, found.failures)


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
        found = encoder.embed_layers(waves.to(encoder.device), lengths.to(encoder.device))
        return torch.cat([found[name] for name in widths], dim=1)

    with evaluating(encoder), torch.inference_mode():
        return embed_items(
            utterances,
            embed,
            min_samples=encoder.min_samples,
            sample_rate=encoder.config.sample_rate,
            embedding_dim=sum(widths.values()),
            device=encoder.device,
            on_error="skip",
            **options,
        )


def _digest(encoder: SpeechEncoder, utterances: Sequence[Utterance], widths: dict[str, int]) -> str:
    digest = hashlib.sha256(json.dumps([__version__, encoder.config.to_dict(), widths], sort_keys=True).encode())
    for name, tensor in encoder.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    digest.update(utterances_digest(utterances).encode())
    return digest.hexdigest()[:32]


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


def _write(file: Path, found: Embeddings) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    ids = np.array(found.ids, dtype=np.str_)
    failures = np.array([(item.name, item.reason) for item in found.failures], dtype=np.str_).reshape(-1, 2)
    write_atomically(file, lambda out: np.savez(out, ids=ids, embeddings=found.embeddings, failures=failures))


def _read(file: Path) -> Embeddings | None:
    """What `_write` wrote; None where the file is damaged, which is then made again."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            failures = [Skipped(name, reason) for name, reason in arrays["failures"].tolist()]
            return Embeddings(arrays["ids"].tolist(), arrays["embeddings"], failures)
    except (OSError, ValueError, KeyError):
        return None
