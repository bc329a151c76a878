"""wav2vec 2.0, HuBERT and WavLM as networks of a `SpeechEncoder`: samples in, one vector per utterance out.

The modules are those of transformers; how they are called is ours, so that an utterance has the same embedding whatever
it is batched with. Letters: `B` utterances, `T` frames of 20 ms, `C` channels, `D` embedding, `L` transformer layers.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dino_speech.errors import InputError
from dino_speech.frame_level.architecture import CLASSES, build_model, complete_config
from dino_speech.models.backbones.pooling import AttentivePooling, StatisticsPooling, frame_mask, masked_mean
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.layer_means import Note, ignore

POOLINGS = ("mean", "mean_std", "attention")


class Wav2Vec2(nn.Module):
    """A frame-level model, one layer or a mixture of its layers, and pooling over true frames.

    Layer 0 is what enters the transformer, layer `L` what leaves it (behind the last normalisation, where the model has
    one there). Layers beyond the one asked for are left out: they cost neither time nor space.

    Args:
        num_bands: 1: the frames are samples.
        embedding_dim: what `embedding_dim_of` says.
        config: options of the architecture, as in a checkpoint's config.json; None: the base model.
        num_layers: `L`, the transformer layers to keep, from the first on; None: all. Where a model normalises behind
            its last layer, it does so behind the last one that is left.
        layer: "last", a number from 0 to `L`, "mean" of all, or "weighted": a sum with softmax weights that are learnt
            in fine-tuning, and equal before.
        pooling: "mean"; "mean_std", mean and deviation; or "attention", which is learnt in fine-tuning.
        source: where the weights came from, for the record; nothing is read from it here.

    Attributes:
        affine_modules: names of what is learnt behind the model: none where one layer is averaged over time.
        depth_modules: names of all parts in the order of depth, those of one depth together.

    Raises:
        InputError: an option is out of its range, or transformers is not installed.

    Source:
        arXiv 2006.11477 (wav2vec 2.0), 2106.07447 (HuBERT), 2110.13900 (WavLM); sum of layers: 2105.01051 (SUPERB);
        without the top layers: 2203.07378 (24 to 12 without loss, below that valence suffers first).
    """

    model_type: ClassVar[str] = "wav2vec2"
    max_s: ClassVar[float] = 300.0  # ours: the base model takes 19 MB for each second

    def __init__(
        self,
        num_bands: int,
        embedding_dim: int,
        *,
        source: str | None = None,
        config: Mapping[str, Any] | None = None,
        num_layers: int | None = None,
        layer: str | int = "last",
        pooling: str = "mean",
    ) -> None:
        super().__init__()
        architecture = pruned(complete_config(self.model_type, config), num_layers)
        width = embedding_dim_of(architecture, layer, pooling)
        if embedding_dim != width:
            gives = f"this model pooled by {pooling!r} gives {width}"
            raise InputError(f"embedding_dim={embedding_dim}: {gives}; leave it out")
        self.layer, self.source = layer, source
        self.model: Any = build_model(self.model_type, architecture)
        self.num_layers = int(architecture["num_hidden_layers"])
        if isinstance(layer, int):
            del self.model.encoder.layers[layer:]
        hidden: int = architecture["hidden_size"]
        self.mixture = LayerSum(self.num_layers + 1) if layer == "weighted" else None
        self.pooling: nn.Module | None = None
        self._name_parts(pooling)
        if pooling != "mean":
            self.pooling = StatisticsPooling() if pooling == "mean_std" else AttentivePooling(hidden)
        self.kernels = list(zip(architecture["conv_kernel"], architecture["conv_stride"], strict=True))
        self.min_frames = 1
        for kernel, stride in reversed(self.kernels):
            self.min_frames = (self.min_frames - 1) * stride + kernel

    def _name_parts(self, pooling: str) -> None:
        learnt = {"mixture": self.mixture is not None, "pooling": pooling == "attention"}
        self.affine_modules = tuple(name for name, is_there in learnt.items() if is_there)
        self.depth_modules = [
            ("model.feature_extractor",),
            ("model.feature_projection",),
            ("model.encoder.pos_conv_embed", "model.encoder.layer_norm"),
            *((f"model.encoder.layers.{number}",) for number in range(len(self.model.encoder.layers))),
            *([self.affine_modules] if self.affine_modules else []),
        ]

    def forward(self, frames: Tensor, num_frames: Tensor | None = None, note: Note = ignore) -> Tensor:
        """Waves (B, time, 1), true lengths (B,) -> (B, D); `note` hears of `conv` and each `layer_N` that is there.

        Raises:
            InputError: an utterance is shorter than `min_frames` samples, the reach of the model's first frame.
        """
        conv, num_frames = self.convolve(frames, num_frames)
        mask = frame_mask(num_frames, conv.shape[1])
        note("conv", conv, mask)
        states = self.transform(conv, mask)
        for number, state in enumerate(states):
            note(f"layer_{number}", state, mask)
        x = torch.stack(states).mean(0) if self.layer == "mean" else states[-1]
        if self.mixture is not None:
            x = self.mixture(states)
        return masked_mean(x, mask).squeeze(1) if self.pooling is None else self.pooling(x, mask)

    def convolve(self, frames: Tensor, num_samples: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The convolutional front: waves (B, time, 1) -> (B, T, C) and true frames (B,), None where all are true.

        The base models normalise each channel of the first convolution over time. Over a padded batch that would let
        the padding, and so the longest utterance, change every other one; here each is normalised over itself.
        """
        num_samples = self._true_lengths(frames, num_samples)
        x, lengths = frames.transpose(1, 2), num_samples
        for layer, (kernel, stride) in zip(self.model.feature_extractor.conv_layers, self.kernels, strict=True):
            lengths = None if lengths is None else (lengths - kernel) // stride + 1
            norm = getattr(layer, "layer_norm", None)
            if isinstance(norm, nn.GroupNorm) and lengths is not None:
                x = layer.activation(_normalize_each(norm, layer.conv(x), lengths))
            else:
                x = layer(x)
        return x.transpose(1, 2), lengths

    def transform(self, conv: Tensor, mask: Tensor | None) -> list[Tensor]:
        """(B, T, C) and true frames (B, T, 1) -> layers 0 to L, each (B, T, hidden)."""
        with self._listening(mask) as states:
            attention_mask = None if mask is None else mask.squeeze(2)
            last = self.model.encoder(self.project(conv), attention_mask=attention_mask)[0]
        if len(states) == self.num_layers + 1:
            states[-1] = last
        return states

    def project(self, conv: Tensor) -> Tensor:
        """(B, T, C) -> what enters the transformer, (B, T, hidden)."""
        projected: Any = self.model.feature_projection(conv)
        # wav2vec 2.0 gives what its quantizer needs beside it
        return projected[0] if isinstance(projected, tuple) else projected

    @contextmanager
    def _listening(self, mask: Tensor | None) -> Iterator[list[Tensor]]:
        """Within, what enters the transformer and what leaves each layer is kept; a layer that is dropped, repeated."""
        encoder = self.model.encoder
        states: list[Tensor] = []

        def keep(position: int) -> Any:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                states.extend(states[-1:] * (position - len(states)))
                states.append(output[0] if isinstance(output, tuple) else output)

            return hook

        handles = [encoder.dropout.register_forward_hook(keep(0))]
        handles += [layer.register_forward_hook(keep(number + 1)) for number, layer in enumerate(encoder.layers)]
        if mask is not None and getattr(encoder.pos_conv_embed, "batch_norm", None) is not None:
            # This normalisation makes the zeros beyond an end something else before the convolution reaches there.
            hide = mask.transpose(1, 2)
            handles.append(encoder.pos_conv_embed.conv.register_forward_pre_hook(lambda _, inputs: inputs[0] * hide))
        try:
            yield states
        finally:
            for handle in handles:
                handle.remove()
        states.extend(states[-1:] * (len(encoder.layers) + 1 - len(states)))

    def _true_lengths(self, frames: Tensor, num_samples: Tensor | None) -> Tensor | None:
        size = frames.shape[1]
        shortest = size if num_samples is None else int(num_samples.min())
        if shortest < self.min_frames:
            reach = f"the first frame of this model reaches over {self.min_frames} samples"
            raise InputError(f"an utterance of {shortest} samples is too short; {reach}")
        return None if shortest == size else num_samples


class LayerSum(nn.Module):
    """Sum of layers with softmax weights."""

    def __init__(self, num_layers: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(num_layers))

    def forward(self, states: list[Tensor]) -> Tensor:
        """Layers, each (B, T, hidden) -> (B, T, hidden)."""
        # l layers, b batch, t frames, c channels
        return torch.einsum("l,lbtc->btc", self.logits.softmax(0).to(states[0].dtype), torch.stack(states))


class HuBERT(Wav2Vec2):
    """The same with HuBERT's modules."""

    model_type = "hubert"


class WavLM(Wav2Vec2):
    """The same with WavLM's modules."""

    model_type = "wavlm"


def pruned(config: Mapping[str, Any], num_layers: int | None) -> dict[str, Any]:
    """An architecture without the transformer layers above the first `num_layers`, which must be there; None: all."""
    depth = int(config["num_hidden_layers"])
    if num_layers is None:
        return dict(config)
    if not isinstance(num_layers, int) or isinstance(num_layers, bool) or not 1 <= num_layers <= depth:
        raise InputError(f"num_layers={num_layers!r}: expected 1 to {depth}, the layers of this model; or None for all")
    return {**config, "num_hidden_layers": num_layers}


def embedding_dim_of(config: Mapping[str, Any], layer: str | int, pooling: str) -> int:
    """`D` of an architecture with this pooling; no such layer or pooling: an `InputError`."""
    depth = int(config["num_hidden_layers"])
    is_number = isinstance(layer, int) and not isinstance(layer, bool)
    if not (0 <= layer <= depth if is_number else layer in ("last", "mean", "weighted")):  # type: ignore[operator]
        raise InputError(f"layer={layer!r}: expected 0 to {depth}, 'last', 'mean' or 'weighted'")
    if pooling not in POOLINGS:
        raise InputError(f"pooling={pooling!r}: expected one of {', '.join(POOLINGS)}")
    return int(config["hidden_size"]) * (1 if pooling == "mean" else 2)


def frame_level_copy(encoder: SpeechEncoder, *, kinds: tuple[str, ...] = tuple(CLASSES)) -> SpeechEncoder:
    """A copy of an encoder, which must be of one of the `kinds` and have a transformer; all of it can be trained."""
    network = encoder.backbone
    if not isinstance(network, Wav2Vec2) or encoder.config.name not in kinds:
        expected = f"{' or '.join(map(repr, kinds))}, for instance build_encoder({kinds[0]!r}, source=...)"
        raise InputError(f"the encoder is {encoder.config.name!r}; expected {expected}")
    if not len(network.model.encoder.layers):
        raise InputError("the encoder has layer=0, and so no transformer to train; build it with layer='last'")
    found = copy.deepcopy(encoder)
    found.requires_grad_(True)
    return found


def network_of(encoder: SpeechEncoder) -> Wav2Vec2:
    """The network of a frame-level encoder, by its own type."""
    assert isinstance(encoder.backbone, Wav2Vec2)
    return encoder.backbone


def _normalize_each(norm: nn.GroupNorm, x: Tensor, lengths: Tensor) -> Tensor:
    """Group normalisation of each utterance (B, C, T) over its true frames; zero beyond."""
    whole = [norm(row[None, :, :length]) for row, length in zip(x, lengths.tolist(), strict=True)]
    return torch.cat([nn.functional.pad(row, (0, x.shape[2] - row.shape[2])) for row in whole])
