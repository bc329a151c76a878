"""P-TAPT, pseudo-label task-adaptive pretraining: a model learns to guess hidden frames' emotion states.

An extractor is taught to say the label of the utterance at each frame; its frames are clustered, finely and coarsely;
the encoder then predicts the clusters of frames that it does not hear, as HuBERT does; see `frame_states.py`.
Fine-tuning (V-FT) follows, in the room `transfer`. Letters: `B` utterances, `T` frames, `H` hidden, `K` clusters.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dino_speech.argument_checks import Count, Positive, PositiveShare
from dino_speech.data.atomic import write_atomically
from dino_speech.data.manifest import Manifest
from dino_speech.data.seeds import derive_seed
from dino_speech.errors import InputError
from dino_speech.frame_level.chunk_training import ChunkRun, ChunkTrainer
from dino_speech.frame_level.frame_states import FrameLabels, MaskedStates, cluster_frames, sample_frames
from dino_speech.frame_level.network import frame_level_copy
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.fingerprint import fingerprint
from dino_speech.training.processes import Processes
from dino_speech.training.run_identity import describe
from dino_speech.training.settings import OLD_RUN_NAMES, in_groups
from dino_speech.training.state import seed_everything
from dino_speech.training.training import Outcome

STATES, PREDICTION = "states", "prediction"


@in_groups(OLD_RUN_NAMES)
@dataclass
class PTAPT(ChunkTrainer):
    """Adapts a frame-level encoder to a label by masked prediction of its frames' states; `fit` is `ChunkTrainer`'s.

    The options of `ChunkTrainer` are those of masked prediction; the extractor has the same but for `state_steps` and
    `state_lr`. `states/` and `prediction/` get history and state of each, `clusters_*.safetensors` the centers.

    Args:
        encoder: where it begins (wav2vec 2.0, HuBERT or WavLM); `fit` trains a copy, without its convolutions.
        label: the column of classes that the states are to tell apart.
        extractor: another frame-level encoder to find the states with; None: a copy of `encoder`.
        state_steps: optimizer steps of the extractor.
        state_lr: peak learning rate of the extractor.
        num_clusters: `K` of each set of states; all are predicted at once.
        max_frames: frames that the clusters are found on.
        mask_time_prob: share of the frames in masked spans, if they did not overlap.
        mask_length: of a span, in frames of 20 ms.
        min_masks: spans in each chunk, at least.

    Learnt by `fit`:

    Attributes:
        encoder_: the adapted encoder.
        history_: the rows of masked prediction: `loss`, and for each `K` `accuracy_K` on masked frames.
        states_history_: the rows of the extractor: `loss`, `frame_accuracy`, `accuracy`.

    Raises:
        InputError: a value outside its range; of `fit` also: one class only, or fewer frames than clusters.

    Source: arXiv 2110.06309 and its authors' code (FT-w2v2-ser); on IEMOCAP UAR 69.9 with V-FT alone, 74.3 after
        P-TAPT. Here the extractor is a copy of the encoder (there wav2vec 1.0, which transformers lacks), the utterance
        is judged by the mean of its frames (there by a BiLSTM), the last extractor is taken (there the best of a tenth
        that is held out), and a chunk's states are found as it is read (there once for each file).
    """

    encoder: SpeechEncoder
    _: KW_ONLY
    label: str = "emotion"
    extractor: SpeechEncoder | None = None
    state_steps: Count = 10_000
    state_lr: Positive = 1e-4
    num_clusters: Sequence[int] = (64, 512, 4096)
    max_frames: Count = 200_000  # ours; there all
    mask_time_prob: PositiveShare = 0.06
    mask_length: Count = 15
    min_masks: Count = 2

    purpose = "ptapt"

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = list(self.num_clusters)
        if not sizes or not all(isinstance(size, int) and size >= 2 for size in sizes) or len(set(sizes)) < len(sizes):
            raise InputError(f"num_clusters = {self.num_clusters!r}: expected different whole numbers, each at least 2")

    def identity(self, manifest: Manifest, seed: int, precision: str) -> dict[str, Any]:
        """With the weights that the run begins with, and the classes."""
        extractor = self.encoder if self.extractor is None else self.extractor
        weights = {"encoder_weights": fingerprint(self.encoder), "extractor_weights": fingerprint(extractor)}
        classes = {"classes": _digest({"classes": _classes(manifest, self.label)})}
        return super().identity(manifest, seed, precision) | weights | classes

    def _train(self, run: ChunkRun) -> Outcome:
        extractor, states = self._extractor(run)
        self.states_history_ = states.history
        encoder, found = frame_level_copy(self.encoder), replace(states, history=[])
        if states.stop_reason is None:
            centers = Processes().from_main(lambda: self._centers(extractor, run))
            digest = _digest({name: describe(value) for name, value in centers.items()})
            part = _part(run, PREDICTION, centers=digest)
            objective = MaskedStates(encoder, extractor, centers, self, seed=run.seed)
            found = replace(part.minimise(objective.to(run.device), self), skipped=states.skipped)
        self.encoder_ = encoder.eval().cpu()
        self.encoder_.requires_grad_(True)
        return found

    def _save(self, folder: Path, origin: dict[str, Any]) -> None:
        self.encoder_.save(folder / "encoder", provenance=origin)

    def _extractor(self, run: ChunkRun) -> tuple[SpeechEncoder, Outcome]:
        """The frame-level encoder that tells the label at each frame, frozen."""
        part = _part(run, STATES)
        extractor = frame_level_copy(self.encoder if self.extractor is None else self.extractor)
        objective = FrameLabels(extractor, torch.tensor(_classes(run.manifest, self.label)))
        hyper = replace(self, steps=self.state_steps, epochs=None, lr=self.state_lr)
        found = part.minimise(objective.to(run.device), hyper)
        return extractor.eval().requires_grad_(False), found

    def _centers(self, extractor: SpeechEncoder, run: ChunkRun) -> dict[str, Tensor]:
        """(K, H) by name of each set of clusters; found once and kept."""
        from safetensors.torch import load_file, save

        # Named by what they follow from, so that those of another extractor are never taken.
        path = run.folder / f"clusters_{_digest({**run.identity, 'extractor': fingerprint(extractor)})}.safetensors"
        if path.exists():
            kept = load_file(path)
            # In their own order, not the file's: a resumed optimizer knows the heads by their places.
            return {str(size): kept[str(size)] for size in self.num_clusters}
        seed = derive_seed(run.seed, "frames")
        frames = sample_frames(extractor, run.manifest, self, self.max_frames, seed=seed, device=run.device)
        seed = derive_seed(run.seed, "clusters") % 2**32
        centers = cluster_frames(frames, list(self.num_clusters), seed=seed)
        write_atomically(path, lambda file: file.write(save(centers)))
        return centers


def _part(run: ChunkRun, name: str, **identity: str) -> ChunkRun:
    """A part of a run, with a folder and a seed of its own, which global generators are set to."""
    part = replace(run, folder=run.folder / name, seed=derive_seed(run.seed, name), identity=run.identity | identity)
    seed_everything(part.seed)
    return part


def _classes(manifest: Manifest, label: str) -> list[int]:
    """The number of each utterance's class."""
    values = manifest.label(label, allow_blank=False)
    names = sorted(set(values))
    if len(names) < 2:
        raise InputError(f"{manifest.name}: column {label!r} holds the one class {names[0]!r}; expected two or more")
    return [names.index(value) for value in values]


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
