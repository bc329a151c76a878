"""The parts of P-TAPT: frames that say the label, their clusters, and the prediction of hidden frames' clusters.

Letters: `B` utterances, `S` samples, `T` frames, `H` hidden, `C` classes, `K` clusters.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dino_speech.audio.io import seconds_to_samples
from dino_speech.data.loading.loaders import StepSampler
from dino_speech.data.manifest import Manifest
from dino_speech.data.seeds import derive_seed
from dino_speech.distributed import world_size
from dino_speech.errors import InputError
from dino_speech.frame_level.chunk_training import ChunkTrainer, Objective
from dino_speech.frame_level.masking import MaskFiller, masked_states, span_mask
from dino_speech.frame_level.network import network_of
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.evaluation_mode import evaluating
from dino_speech.training.processes import own_rows, share
from dino_speech.training.training import read_batches

ITERATIONS = 20  # of k-means; [C] FT-w2v2-ser
FRAME_WIDTH, PREDICTION_WIDTH = 128, 256  # of the heads; [C] FT-w2v2-ser


def frames_of(encoder: SpeechEncoder, waves: Tensor) -> Tensor:
    """Chunks (B, S), all true -> last layer of a frame-level encoder (B, T, H)."""
    network = network_of(encoder)
    conv, _ = network.convolve(encoder.extract_features(waves)[0], None)
    return network.transform(conv, None)[-1]


class FrameLabels(Objective):
    """Each frame says the label of its utterance, and so does their mean; trains the encoder above its convolutions.

    `classes` (N,) are those of the utterances; the losses let each class count the same.

    Source: arXiv 2110.06309; see `PTAPT` for where this departs from it.
    """

    def __init__(self, encoder: SpeechEncoder, classes: Tensor) -> None:
        super().__init__()
        self.encoder, self.min_samples = encoder, encoder.min_samples
        freeze_convolutions(encoder)
        hidden, num_classes = network_of(encoder).model.config.hidden_size, int(classes.max()) + 1
        self.frame_head = _tanh_mlp(hidden, FRAME_WIDTH, num_classes)
        self.utterance_head = _tanh_mlp(hidden, FRAME_WIDTH, num_classes)
        self.register_buffer("classes", classes, persistent=False)
        weights = len(classes) / (num_classes * classes.bincount(minlength=num_classes))
        self.register_buffer("weights", weights.float(), persistent=False)

    def losses(self, waves: Tensor, index: Tensor, step: int) -> dict[str, Tensor]:
        """`loss` of frames and utterances, and the share of each that are right."""
        frames, true = frames_of(self.encoder, waves), self.classes[index]  # type: ignore[index]
        by_frame = self.frame_head(frames).float().transpose(1, 2)  # (B, T, H) -> (B, C, T)
        by_utterance = self.utterance_head(frames.relu().mean(1)).float()
        repeated = true[:, None].expand(-1, frames.shape[1])
        loss = F.cross_entropy(by_frame, repeated, weight=self.weights)  # type: ignore[arg-type]
        loss = loss + F.cross_entropy(by_utterance, true, weight=self.weights)  # type: ignore[arg-type]
        return {
            "loss": loss * share(self.weights[true].sum()),  # type: ignore[index]
            "frame_accuracy": (by_frame.argmax(1) == repeated).float().mean(),
            "accuracy": (by_utterance.argmax(1) == true).float().mean(),
        }


class MaskedStates(Objective):
    """The clusters of frames that the encoder does not hear; trains the encoder above its convolutions.

    The extractor, which is not trained, hears the chunk whole, and gives the frames that are looked up among the
    centers, (K, H) by name. The masks are drawn as `PTAPT` says, by the seed, at each step.

    Source: arXiv 2110.06309, as HuBERT (2106.07447, Sec. II-B) with cross-entropy on masked frames only.
    """

    def __init__(
        self,
        encoder: SpeechEncoder,
        extractor: SpeechEncoder,
        centers: Mapping[str, Tensor],
        masks: Any,
        *,
        seed: int,
    ) -> None:
        super().__init__()
        self.encoder, self.min_samples, self.masks, self.seed = encoder, encoder.min_samples, masks, seed
        freeze_convolutions(encoder)
        model: Any = network_of(encoder).model
        self.filler = MaskFiller(model)
        heads = {k: _tanh_mlp(model.config.hidden_size, PREDICTION_WIDTH, len(found)) for k, found in centers.items()}
        self.heads = nn.ModuleDict(heads)
        # In a tuple: neither trained nor saved with the objective.
        self.fixed: tuple[SpeechEncoder, dict[str, Tensor]] = (extractor.eval(), dict(centers))

    @torch.no_grad()
    def states(self, waves: Tensor) -> dict[str, Tensor]:
        """Chunks (B, S) -> for each set of clusters the nearest center of each frame, (B, T) int64."""
        extractor, centers = self.fixed
        with torch.autocast(waves.device.type, enabled=False):
            frames = frames_of(extractor.to(waves.device), waves).float()
            return {name: nearest(frames, found.to(waves.device)) for name, found in centers.items()}

    def losses(self, waves: Tensor, index: Tensor, step: int) -> dict[str, Tensor]:
        """`loss`, the sum over the sets of clusters, and for each the share of masked frames that are right."""
        targets = self.states(waves)
        network = network_of(self.encoder)
        conv, _ = network.convolve(self.encoder.extract_features(waves)[0], None)
        drawn = span_mask(
            len(waves) * world_size(),  # those of the whole batch
            conv.shape[1],
            share=self.masks.mask_time_prob,
            length=self.masks.mask_length,
            min_spans=self.masks.min_masks,
            rng=np.random.default_rng(derive_seed(self.seed, "mask", step)),
        )
        mask = torch.from_numpy(drawn[own_rows()]).to(waves.device)
        hidden = masked_states(network, conv, mask, self.filler.value)[mask]  # (masked frames, H)
        figures: dict[str, Tensor] = {"loss": hidden.new_zeros(())}
        for name, head in self.heads.items():
            logits, true = head(hidden).float(), targets[name][mask]
            figures["loss"] = figures["loss"] + F.cross_entropy(logits, true)
            figures[f"accuracy_{name}"] = (logits.argmax(1) == true).float().mean()
        figures["loss"] = figures["loss"] * share(mask.sum().float())
        return figures


def sample_frames(
    extractor: SpeechEncoder, manifest: Manifest, hyper: ChunkTrainer, num: int, *, seed: int, device: torch.device
) -> np.ndarray:
    """Frames of random chunks, (N, H) float32: one chunk of each utterance, then a second..., up to `num` frames."""
    size = min(hyper.batch_size, len(manifest))
    shape = frames_of(extractor.to(device), torch.zeros(1, seconds_to_samples(hyper.chunk_s), device=device)).shape
    # No more than ten chunks of an utterance: a small corpus has no more to say.
    num_steps = max(1, min(num // (size * shape[1]), 10 * len(manifest) // size))
    sampler = StepSampler(len(manifest), size, seed=seed, num_steps=num_steps)
    chunks = hyper.chunks_of(manifest, min_samples=extractor.min_samples, seed=seed)
    found = []
    with evaluating(extractor), torch.inference_mode():
        for batch in read_batches(chunks, sampler, hyper.run, device):
            found.append(frames_of(extractor, batch["long"].squeeze(1).to(device)).flatten(0, 1).float().cpu().numpy())
    return np.concatenate(found)[:num]


def cluster_frames(frames: np.ndarray, sizes: Sequence[int], *, seed: int) -> dict[str, Tensor]:
    """Centers (K, H) float32 of k-means for each `K`, by the name of `K`; fewer frames than that: an `InputError`.

    Source: Euclidean, from random frames, 20 iterations, as the authors of arXiv 2110.06309 with faiss.
    """
    if len(frames) < max(sizes):
        expected = "expected as many as clusters, better a hundred times as many"
        cure = "ask for fewer clusters, or raise max_frames"
        raise InputError(f"{len(frames)} frames for num_clusters = {max(sizes)}: {expected}; {cure}")
    from sklearn.cluster import KMeans

    found = {}
    for size in sizes:
        model = KMeans(size, init="random", n_init=1, max_iter=ITERATIONS, random_state=seed).fit(frames)
        found[str(size)] = torch.from_numpy(model.cluster_centers_.astype(np.float32))
    return found


def nearest(frames: Tensor, centers: Tensor) -> Tensor:
    """(B, T, H) and (K, H) -> (B, T) number of the center with the smallest Euclidean distance."""
    # ||f - c||^2 without the part that is the same for all centers
    return (centers.square().sum(1) - 2 * frames @ centers.T).argmin(-1)


def freeze_convolutions(encoder: SpeechEncoder) -> None:
    """The convolutional front is not trained; it has neither dropout nor running statistics that could go on moving."""
    network_of(encoder).model.feature_extractor.requires_grad_(False)
    # The pooling behind the frames has no part in these losses.
    for name, parameter in network_of(encoder).named_parameters():
        if name.startswith(("mixture.", "pooling.")):
            parameter.requires_grad_(False)


def _tanh_mlp(inputs: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, outputs))
