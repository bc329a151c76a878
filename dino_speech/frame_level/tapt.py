"""TAPT, task-adaptive pretraining: wav2vec 2.0's own contrastive pretraining goes on, on the audio of the task.

No label is read. What follows is fine-tuning (V-FT), in the room `transfer`. Letters: `B` utterances, `S` samples, `T`
frames.
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

from dino_speech.argument_checks import require_ranges
from dino_speech.data.manifest import Manifest, read_manifest
from dino_speech.data.seeds import derive_seed
from dino_speech.distributed import join_processes, world_size
from dino_speech.errors import InputError
from dino_speech.frame_level.architecture import config_object, require_transformers
from dino_speech.frame_level.chunk_training import Objective, minimise
from dino_speech.frame_level.encoder_copy import frame_level_copy, network_of
from dino_speech.frame_level.masking import draw_negatives, span_mask
from dino_speech.frame_level.parameters import StepParameters
from dino_speech.frame_level.pretrained import read_quantizer
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.fingerprint import fingerprint
from dino_speech.models.precision import choose_precision
from dino_speech.provenance import provenance
from dino_speech.training.processes import Processes, own_rows, share, whole_batch
from dino_speech.training.settings import OLD_RUN_NAMES, in_groups
from dino_speech.training.state import seed_everything

logger = logging.getLogger(__name__)

NEW = "new"


@in_groups(OLD_RUN_NAMES)
@dataclass
class TAPT(StepParameters):
    """Goes on with the contrastive pretraining of a wav2vec 2.0 encoder; the loop's options are `StepParameters`'.

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
        history_: the rows of `history.jsonl`: `loss`, `contrastive`, `diversity`, `codewords` (in use).
        skipped_: reason by file, of the files that could not be used.
        stop_reason_: "max_minutes" where the run was ended before its last step, else None.

    Raises:
        InputError: a value outside its range.

    Source: TAPT: arXiv 2110.06309 (wav2vec2-base on IEMOCAP: UAR 69.9 with V-FT alone, 73.5 after TAPT); the loss, its
        masks and temperatures: arXiv 2006.11477, Sec. 3 and 4.2, by transformers' `Wav2Vec2ForPreTraining`, which has
        neither the penalty on the features nor the smaller gradient of the convolutions.
    """

    encoder: SpeechEncoder
    _: KW_ONLY
    quantizer: str | PathLike[str] | None = None
    mask_time_prob: float = 0.65
    mask_length: int = 10
    num_negatives: int = 100
    diversity_weight: float | None = None  # 0.1 in all published models
    max_temperature: float = 2.0
    min_temperature: float = 0.5
    temperature_decay: float = 0.999995

    def __post_init__(self) -> None:
        super().__post_init__()
        require_ranges(
            self,
            counts=("mask_length", "num_negatives"),
            positive=("mask_time_prob", "max_temperature", "min_temperature", "temperature_decay"),
            not_negative=("diversity_weight",),
            shares=("mask_time_prob", "temperature_decay"),
        )
        if self.mask_length < 2:
            raise InputError("mask_length = 1: expected at least 2, so that a masked frame has another to be told from")

    def fit(
        self,
        manifest: Manifest | str | PathLike[str],
        *,
        output_folder: str | PathLike[str],
        seed: int = 1986,
        device: str | torch.device | None = None,
        resume: bool = True,
    ) -> "TAPT":
        """Train on, and leave the encoder at `<output_folder>/encoder`, for `load_encoder`.

        A run that was stopped goes on from its last saved state, to the same numbers. Beside the encoder the folder
        gets `history.jsonl`, `hyperparameters.json`, `state/`, and `skipped.csv` if files were skipped. Only the files
        of this manifest are opened. Global random generators are seeded.

        Args:
            manifest: the task's training audio; its labels are not read.
            output_folder: made with its parents.
            seed: of everything random.
            device: "cpu", "cuda", "cuda:N"; None: a GPU where there is one.
            resume: False starts anew.

        Raises:
            InputError: the encoder is not a wav2vec 2.0, chunks are too short for the masks, a state of another run is
                in `output_folder`, or most files are unusable.
            NonFiniteLoss: the loss was NaN or infinite.
            Interrupted: SIGINT or SIGTERM arrived; the state is saved.
        """
        manifest = manifest if isinstance(manifest, Manifest) else read_manifest(manifest)
        folder, chosen = Path(output_folder), join_processes(device)
        precision = choose_precision(self.run.precision, chosen)
        identity = self.identity(manifest, seed, precision) | {"encoder_weights": fingerprint(self.encoder)}
        seed_everything(seed)
        encoder = frame_level_copy(self.encoder, kinds=("wav2vec2",))
        objective = Contrastive(encoder, self, seed=seed, tensors=self._quantizer_weights()).to(chosen)
        found = minimise(
            objective,
            self,
            manifest,
            min_samples=encoder.min_samples,
            folder=folder,
            identity=identity,
            seed=seed,
            device=chosen,
            resume=resume,
        )
        objective.release()
        self.encoder_ = encoder.eval().cpu()
        self.history_, self.skipped_, self.stop_reason_ = found.history, found.skipped, found.stop_reason
        origin = provenance(seed=seed, manifest=list(manifest.paths)) | {"tapt": identity}
        Processes().from_main(lambda: self.encoder_.save(folder / "encoder", provenance=origin))
        return self

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
            logger.warning(
                "%s has no quantizer: a new one is learnt, which takes long; see TAPT(quantizer=...)", source
            )
        return found


class Contrastive(Objective):
    """wav2vec 2.0's loss on the model of an encoder, which it trains in place.

    Args:
        encoder: of the kind wav2vec 2.0.
        hyper: masks, negatives, temperatures.
        seed: of masks and negatives, at each step.
        tensors: weights of quantizer and projections by name; those that are not there begin at random.
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
        self.hyper, self.seed, self.features, self.network = hyper, seed, encoder.features, [network]
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
    """A quantizer's `own` figure of how many code words are in use, over the masked frames of all processes.

    Args:
        own: takes (N, groups, code words), of which it takes the mean.
        probs: (B * T, groups, code words).
        mask: (B, T) bool.
    """
    count = mask.sum().float()
    used = torch.where(mask.flatten()[:, None, None], probs, 0.0).sum(0) / count
    return own(whole_batch((share(count) * used)[None]))
