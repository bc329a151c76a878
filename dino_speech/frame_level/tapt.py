"""TAPT, task-adaptive pretraining: wav2vec 2.0's own contrastive pretraining goes on, on the audio of the task.

No label is read. Fine-tuning (V-FT) follows, in the room `transfer`. Letters: `B` utterances, `S` samples, `T` frames.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dino_speech.argument_checks import Count, NotNegative, Positive, PositiveShare
from dino_speech.data.manifest import Manifest
from dino_speech.data.seeds import derive_seed
from dino_speech.distributed import world_size
from dino_speech.errors import InputError
from dino_speech.frame_level.architecture import config_object, require_transformers
from dino_speech.frame_level.chunk_training import ChunkRun, ChunkTrainer, Objective
from dino_speech.frame_level.masking import draw_negatives, span_mask
from dino_speech.frame_level.network import frame_level_copy, network_of
from dino_speech.frame_level.pretrained import read_quantizer
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.fingerprint import fingerprint
from dino_speech.training.processes import own_rows, share, whole_batch
from dino_speech.training.settings import OLD_RUN_NAMES, in_groups

logger = logging.getLogger(__name__)

NEW = "new"


@in_groups(OLD_RUN_NAMES)
@dataclass
class TAPT(ChunkTrainer):
    """Goes on with the contrastive pretraining of a wav2vec 2.0 encoder; other options and `fit`: `ChunkTrainer`.

    Args:
        encoder: where it begins; `fit` trains a copy, all of it.
        quantizer: a checkpoint whose quantizer and projections pretraining goes on with: an id of the Hugging Face hub,
            or a folder; None: the one that the encoder was built from; "new": random ones.
        mask_time_prob: share of the frames in masked spans, if they did not overlap.
        mask_length: of a span, in frames of 20 ms.
        num_negatives: other masked frames that a true one is told from.
        diversity_weight: of the loss that asks for all of the quantizer's code words; None: as the model's
            configuration says.
        max_temperature: of the quantizer's choice, at the first step.
        min_temperature: which it does not go below.
        temperature_decay: factor on it for each step.

    Learnt by `fit`:

    Attributes:
        encoder_: the adapted encoder.
        history_: among others `contrastive`, `diversity`, `codewords` (in use).

    Source: TAPT: arXiv 2110.06309 (wav2vec2-base on IEMOCAP: UAR 69.9 with V-FT alone, 73.5 after TAPT); the loss, its
        masks and temperatures: arXiv 2006.11477, Sec. 3 and 4.2, by transformers' `Wav2Vec2ForPreTraining`, which has
        neither the penalty on the features nor the smaller gradient of the convolutions.
    """

    encoder: SpeechEncoder
    _: KW_ONLY
    quantizer: str | PathLike[str] | None = None
    mask_time_prob: PositiveShare = 0.65
    mask_length: Count = 10
    num_negatives: Count = 100
    diversity_weight: NotNegative | None = None  # 0.1 in all published models
    max_temperature: Positive = 2.0
    min_temperature: Positive = 0.5
    temperature_decay: PositiveShare = 0.999995

    purpose = "tapt"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask_length < 2:
            raise InputError("mask_length = 1: expected at least 2, so that a masked frame has another to be told from")

    def identity(self, manifest: Manifest, seed: int, precision: str) -> dict[str, Any]:
        """With the weights that the run begins with."""
        return super().identity(manifest, seed, precision) | {"encoder_weights": fingerprint(self.encoder)}

    def _objective(self, run: ChunkRun) -> "Contrastive":
        encoder = frame_level_copy(self.encoder, kinds=("wav2vec2",))
        return Contrastive(encoder, self, seed=run.seed, tensors=self._quantizer_weights())

    def _keep(self, objective: "Contrastive", run: ChunkRun) -> None:
        objective.release()
        self.encoder_ = objective.encoder[0].eval().cpu()

    def _save(self, folder: Path, origin: dict[str, Any]) -> None:
        self.encoder_.save(folder / "encoder", provenance=origin)

    def _quantizer_weights(self) -> Mapping[str, Tensor]:
        source = getattr(self.encoder.backbone, "source", None) if self.quantizer is None else fspath(self.quantizer)
        if source is None or source == NEW:
            return {}
        config = getattr(self.encoder.config, "backbone", {}).get("config") or {}
        try:
            found = read_quantizer(source, config)
        except InputError as error:
            raise InputError(f"{error}. For a new quantizer: quantizer='new'") from error
        if not found:
            logger.warning("%s has no quantizer: a new one is learnt, and takes long; see TAPT(quantizer=...)", source)
        return found


class Contrastive(Objective):
    """wav2vec 2.0's loss on the model of an encoder, trained in place; `seed` is of masks and negatives, at each step.

    Weights of quantizer and projections that are not in `tensors` begin at random.
    """

    def __init__(self, encoder: SpeechEncoder, hyper: TAPT, *, seed: int, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        transformers, network = require_transformers(), network_of(encoder)
        options = {**network.model.config.to_dict(), "num_hidden_layers": 1}  # the layers are replaced by the encoder's
        if hyper.diversity_weight is not None:
            options["diversity_loss_weight"] = hyper.diversity_weight
        self.model: Any = transformers.Wav2Vec2ForPreTraining(config_object("wav2vec2", options))
        self.model.wav2vec2 = network.model
        self.model.load_state_dict(dict(tensors), strict=False)
        if world_size() > 1:
            quantizer = self.model.quantizer
            quantizer._compute_perplexity = partial(perplexity_of_all, quantizer._compute_perplexity)
        self.hyper, self.seed, self.features, self.min_samples = hyper, seed, encoder.features, encoder.min_samples
        self.encoder = [encoder]  # in a list: its model is trained and saved as `wav2vec2` already
        config = network.model.config
        self.before = {"apply_spec_augment": config.apply_spec_augment, "mask_feature_prob": config.mask_feature_prob}
        config.apply_spec_augment, config.mask_feature_prob = True, 0.0  # the masks of the loss, and no others
        self.filler_is_new = not hasattr(network.model, "masked_spec_embed")
        if self.filler_is_new:
            network.model.masked_spec_embed = nn.Parameter(torch.empty(config.hidden_size).uniform_())

    def losses(self, waves: Tensor, index: Tensor, step: int) -> dict[str, Tensor]:
        """`loss` for each masked frame, and its parts; `codewords` is how many the quantizer makes use of."""
        hyper = self.hyper
        temperature = max(hyper.max_temperature * hyper.temperature_decay**step, hyper.min_temperature)
        self.model.set_gumbel_temperature(temperature)
        frames, _ = self.features(waves)
        num_frames = int(self.model._get_feat_extract_output_lengths(waves.shape[1]))
        rng = np.random.default_rng(derive_seed(self.seed, "mask", step))
        size = len(waves) * world_size()  # of the whole batch
        mask = span_mask(size, num_frames, share=hyper.mask_time_prob, length=hyper.mask_length, min_spans=1, rng=rng)
        negatives = draw_negatives(mask, hyper.num_negatives, rng, rows=own_rows())
        mask = mask[own_rows()]
        found = self.model(
            frames.squeeze(2),
            mask_time_indices=torch.from_numpy(mask).to(waves.device),
            sampled_negative_indices=torch.from_numpy(negatives).to(waves.device),
        )
        num_masked = int(mask.sum())
        counts = share(torch.tensor(float(num_masked), device=waves.device))
        return {
            # The diversity is that of the whole batch already.
            "loss": (found.loss + (counts - 1) * found.contrastive_loss) / num_masked,
            "contrastive": counts * found.contrastive_loss / num_masked,
            "diversity": found.diversity_loss / num_masked,
            "codewords": found.codevector_perplexity,
        }

    def release(self) -> None:
        """Leave the encoder's model as it was found, but for its weights."""
        model: Any = self.model.wav2vec2
        for name, value in self.before.items():
            setattr(model.config, name, value)
        if self.filler_is_new:
            del model.masked_spec_embed


def perplexity_of_all(own: Callable[..., Tensor], probs: Tensor, mask: Tensor) -> Tensor:
    """A quantizer's `own` figure (of (N, groups, code words)) of code words in use, over all processes' masked frames.

    Takes (B * T, groups, code words) and (B, T) bool.
    """
    count = mask.sum().float()
    used = torch.where(mask.flatten()[:, None, None], probs, 0.0).sum(0) / count
    return own(whole_batch((share(count) * used)[None]))
