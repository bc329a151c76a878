"""`SpeechEncoder`: waves in, one vector per utterance out. What every evaluation and every transfer works with.

Letters: `B` utterances, `T` frames, `F` bands, `D` embedding. Networks live in `backbones/` and in the room
`frame_level/`, their names in `registry.py`, loading in `checkpoint.py`.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from dino_speech.audio.arrays import Waves, waves_of
from dino_speech.audio.io import SAMPLE_RATE
from dino_speech.errors import InputError
from dino_speech.models.backbones.pooling import StatisticsShortcut
from dino_speech.models.embed_files import Embeddings, Span, Transform, embed_items, embed_waves, in_precision
from dino_speech.models.encoder_config import EncoderConfig, Features
from dino_speech.models.encoder_folder import write_folder
from dino_speech.models.evaluation_mode import evaluating
from dino_speech.models.layer_means import LayerMeans, Note
from dino_speech.models.recompute import run_part
from dino_speech.models.whitening import Whitening
from dino_speech.provenance import provenance as new_provenance

MIN_S = 0.1  # ours: below a tenth of a second there is not one syllable
MAX_S = 1_800.0  # ours: half an hour takes ECAPA 8 GB, and no one utterance is as long


class SpeechEncoder(nn.Module):
    """Features and a network; made by `build_encoder` or `load_encoder`.

    Args:
        config: describes the parts that follow.
        features: (waves, num_samples) -> (frames, num_frames).
        backbone: (frames, num_frames) -> embedding.

    Example:
        >>> from dino_speech import build_encoder
        >>> encoder = build_encoder("ecapa_tdnn", embedding_dim=32, channels=16, seed=0).eval()
        >>> encoder(torch.randn(3, 16_000), torch.tensor([16_000, 12_000, 8_000])).shape
        torch.Size([3, 32])
    """

    features: Features
    _here: Tensor

    def __init__(self, config: EncoderConfig, features: Features, backbone: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.features = features
        self.backbone = backbone
        self.min_frames = int(getattr(backbone, "min_frames", 1))
        self.max_s = float(getattr(backbone, "max_s", MAX_S))
        dim = config.embedding_dim
        self.register_buffer("_here", torch.empty(0), persistent=False)
        self.shortcut = StatisticsShortcut(features.num_bands, dim) if config.statistics_shortcut else None
        self.embedding_norm = nn.BatchNorm1d(dim, affine=False) if config.embedding_batchnorm else nn.Identity()
        self.whitening = Whitening(dim) if config.whitening else None
        self.recompute = False  # see `recompute.py`

    @property
    def embedding_dim(self) -> int:
        """`D`."""
        return self.config.embedding_dim

    @property
    def device(self) -> torch.device:
        """Where the encoder computes."""
        return self._here.device

    @property
    def min_samples(self) -> int:
        """Samples of the shortest utterance that can be embedded: a tenth of a second, or what the network needs."""
        return max(round(MIN_S * self.config.sample_rate), self.features.num_samples(self.min_frames))

    @property
    def affine_modules(self) -> tuple[str, ...]:
        """Names of the last affine layers: the network's own, and the statistics shortcut's."""
        own = tuple(f"backbone.{name}" for name in getattr(self.backbone, "affine_modules", ()))
        return own if self.shortcut is None else (*own, "shortcut.affine")

    @property
    def depth_modules(self) -> list[tuple[str, ...]]:
        """Names of all parts that hold parameters, from the input to the embedding, those of one depth together."""
        levels = [
            tuple(f"backbone.{name}" for name in names) for names in getattr(self.backbone, "depth_modules", ())
        ] or [("backbone",)]
        return levels if self.shortcut is None else [*levels[:-1], (*levels[-1], "shortcut")]

    def forward(self, waves: Tensor, num_samples: Tensor | None = None) -> Tensor:
        """(B, time) waves at `config.sample_rate` and their true lengths (B,), None: all are whole -> (B, D) float32.

        The embedding of an utterance does not depend on what it is batched with (while evaluating; in training, batch
        normalisation makes it).
        """
        return self.embed_frames(*self.extract_features(waves, num_samples))

    def extract_features(self, waves: Tensor, num_samples: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, time) -> frames (B, T, F) float32 and num_frames (B,), None where `num_samples` is."""
        return self.features(waves, num_samples)

    def embed_frames(self, frames: Tensor, num_frames: Tensor | None = None) -> Tensor:
        """(B, T, F) -> (B, D) float32. Whitening, if fitted, applies in training too: a fixed map, through which
        gradients flow, so that what is trained further begins with the very embeddings that were evaluated.
        """
        return self._finish(run_part(self, self.backbone, frames, num_frames), frames, num_frames)

    def embed_layers(self, waves: Tensor, num_samples: Tensor | None = None) -> dict[str, Tensor]:
        """What each layer says of each utterance: its mean over the true frames.

        Args:
            waves: (B, time) at `config.sample_rate`.
            num_samples: (B,) true lengths; None: all are whole.

        Returns:
            Layer name -> (B, C) float32, from the first layer to the last; then `embedding`, as `forward` gives it.
            While evaluating, a row does not depend on the rest of the batch.
        """
        means = LayerMeans()
        embedding = self.run(waves, num_samples, means)
        return {**means.found, "embedding": embedding}

    def run(self, waves: Tensor, num_samples: Tensor | None, note: Note) -> Tensor:
        """The forward pass, (B, time) -> (B, D) float32; `note` hears of each layer of the network."""
        frames, num_frames = self.extract_features(waves, num_samples)
        return self._finish(self.backbone(frames, num_frames, note), frames, num_frames)

    def _finish(self, embedding: Tensor, frames: Tensor, num_frames: Tensor | None) -> Tensor:
        """The network's output -> embedding, (B, D) float32."""
        if self.shortcut is not None:
            embedding = embedding + self.shortcut(frames, num_frames)
        embedding = self.embedding_norm(embedding).float()
        return embedding if self.whitening is None else self.whitening(embedding)

    def embed(
        self,
        waves: Waves,
        sample_rate: float = SAMPLE_RATE,
        *,
        lengths: Any = None,
        precision: str = "fp32",
        **batching: Any,
    ) -> Tensor:
        """Embeddings of waves in memory: (D,) of one, (N, D) of several; float32 on the CPU, as of equal files.

        Args:
            waves: (time,), (batch, time) or a list of (time,) ones; see `waves_of`, as of `sample_rate` and `lengths`.
            precision: as in `embed_files`, like the others, which are `batch_s` and `max_s`.

        Raises:
            InputError: a wave of another shape or type, empty, silent, too short or long, with NaN or Inf; which.
        """
        heard, single = waves_of(waves, sample_rate, lengths, new_rate=self.config.sample_rate)
        with evaluating(self), torch.inference_mode():
            rows = embed_waves(self, heard, in_precision(self, precision), self.embedding_dim, **batching)
        return torch.from_numpy(rows[0] if single else rows)

    def embed_file(self, path: str | os.PathLike[str], *, start: int = 0, stop: int | None = None) -> Tensor:
        """The embedding of one file, or of the samples `start` to `stop` in it: (D,) float32 on the CPU.

        Raises:
            InputError: the file is missing, unreadable, silent, or shorter than `min_samples`.
        """
        item = Span(os.fspath(path), start, stop)
        return torch.from_numpy(self.embed_files([item]).embeddings[0])

    def embed_files(
        self,
        items: Sequence[Any],
        *,
        batch_s: float | None = None,
        max_s: float | None = None,
        num_workers: int = 0,
        progress: bool = False,
        on_error: Literal["raise", "skip"] = "raise",
        transform: Transform | None = None,
        precision: str = "fp32",
    ) -> Embeddings:
        """Embeddings of many files, while evaluating, in batches of like length, in the order asked for.

        Args:
            items: paths, or utterances of a manifest (whose `start` and `stop` are honoured).
            batch_s: seconds in a batch, padding included; a longer file is one of its own; None: what suits the device.
            max_s: longer utterances are refused, as the memory grows with the length; None: `self.max_s`.
            num_workers: threads that read ahead; 0 reads in this one.
            progress: show a bar on stderr.
            on_error: "raise" stops at the first file that cannot be embedded; "skip" lists it in `failures`.
            transform: called with each wave (time,) and its utterance's ID; what it returns is embedded instead.
            precision: "fp32", "bf16", "fp16" (GPUs) or "auto", the fastest that the device has, of the network;
                features and what is returned are float32 always.

        Raises:
            InputError: a file is missing, unreadable, silent, shorter than `min_samples` or longer than `max_s`, and
                `on_error` is "raise"; the device does not have the precision.
        """
        options: dict[str, Any] = {"max_s": max_s, "num_workers": num_workers, "on_error": on_error}
        options |= {"batch_s": batch_s, "progress": progress, "transform": transform}
        with evaluating(self), torch.inference_mode():
            return embed_items(self, items, in_precision(self, precision), self.embedding_dim, **options)

    def fit_whitening(self, embeddings: Tensor | np.ndarray, *, shrinkage: float = 0.1) -> None:
        """Whiten all further embeddings (see `Whitening`), by the statistics of unlabelled ones of this encoder.

        Args:
            embeddings: (N, D), for instance `encoder.embed_files(train).embeddings`; never those of a test set.
            shrinkage: 0 to 1; ours: 0.1.

        Raises:
            InputError: the encoder whitens already, or the embeddings do not allow it.
        """
        if self.whitening is not None:
            raise InputError("this encoder whitens already; fit on the embeddings of one that does not")
        whitening = Whitening(self.embedding_dim)
        whitening.fit(torch.as_tensor(embeddings), shrinkage=shrinkage)
        self.whitening = whitening.to(self.device)
        self.config = replace(self.config, whitening=True)

    def save(self, folder: str | os.PathLike[str], provenance: Mapping[str, Any] | None = None) -> Path:
        """Write the folder that `load_encoder` reads (see `encoder_folder.py`); an encoder that is there is replaced.

        Args:
            folder: made with its parents.
            provenance: where the weights come from; None: versions and command of this process.

        Raises:
            InputError: `folder` is a file, or holds other things.
        """
        record = new_provenance() if provenance is None else provenance
        return write_folder(folder, self.config.to_dict(), self.state_dict(), record)
