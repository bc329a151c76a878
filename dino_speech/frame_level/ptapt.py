"""P-TAPT, pseudo-label task-adaptive pretraining: a model learns to guess hidden frames' emotion states.

An extractor is taught to say the label of the utterance at each frame; its frames are clustered, finely and coarsely;
the encoder then predicts the clusters of frames that it does not hear, as HuBERT does. Fine-tuning (V-FT) follows in
the room `transfer`. The objectives are in `states.py`. Letters: `B` utterances, `T` frames, `H` hidden, `K` clusters.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dino_speech.argument_checks import require_ranges
from dino_speech.data.atomic import write_atomically
from dino_speech.data.manifest import Manifest, read_manifest
from dino_speech.data.seeds import derive_seed
from dino_speech.distributed import join_processes
from dino_speech.errors import InputError
from dino_speech.frame_level.chunk_training import minimise
from dino_speech.frame_level.encoder_copy import frame_level_copy
from dino_speech.frame_level.frame_states import FrameLabels, MaskedStates, cluster_frames, sample_frames
from dino_speech.frame_level.parameters import StepParameters
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.fingerprint import fingerprint
from dino_speech.models.precision import choose_precision
from dino_speech.provenance import provenance
from dino_speech.training.processes import Processes
from dino_speech.training.run_identity import describe
from dino_speech.training.settings import OLD_RUN_NAMES, in_groups
from dino_speech.training.state import seed_everything
from dino_speech.training.training import Outcome

logger = logging.getLogger(__name__)

STATES, PREDICTION = "states", "prediction"


@in_groups(OLD_RUN_NAMES)
@dataclass
class PTAPT(StepParameters):
    """Adapts a frame-level encoder to a label by masked prediction of its frames' states.

    The options of the loop (`StepParameters`) are those of masked prediction; the extractor has the same but for
    `state_steps` and `state_lr`.

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
        skipped_: reason by file, of the files that could not be used.
        stop_reason_: "max_minutes" where the run was ended before its last step, else None.

    Raises:
        InputError: a value outside its range.

    Source: arXiv 2110.06309 and its authors' code (FT-w2v2-ser); on IEMOCAP UAR 69.9 with V-FT alone, 74.3 after
        P-TAPT. Here the extractor is a copy of the encoder (there wav2vec 1.0, which transformers lacks), the utterance
        is judged by the mean of its frames (there by a BiLSTM), the last extractor is taken (there the best of a tenth
        that is held out), and a chunk's states are found as it is read (there once for each file).
    """

    encoder: SpeechEncoder
    _: KW_ONLY
    label: str = "emotion"
    extractor: SpeechEncoder | None = None
    state_steps: int = 10_000
    state_lr: float = 1e-4
    num_clusters: Sequence[int] = (64, 512, 4096)
    max_frames: int = 200_000  # ours; there all
    mask_time_prob: float = 0.06
    mask_length: int = 15
    min_masks: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        require_ranges(
            self,
            counts=("state_steps", "max_frames", "mask_length", "min_masks"),
            positive=("state_lr", "mask_time_prob"),
            shares=("mask_time_prob",),
        )
        sizes = list(self.num_clusters)
        if not sizes or not all(isinstance(size, int) and size >= 2 for size in sizes) or len(set(sizes)) < len(sizes):
            raise InputError(f"num_clusters = {self.num_clusters!r}: expected different whole numbers, each at least 2")

    def fit(
        self,
        manifest: Manifest | str | PathLike[str],
        *,
        output_folder: str | PathLike[str],
        seed: int = 1986,
        device: str | torch.device | None = None,
        resume: bool = True,
    ) -> "PTAPT":
        """Train extractor and encoder, and leave the latter at `<output_folder>/encoder`, for `load_encoder`.

        A run that was stopped goes on, in whichever part it was. `states/` has the extractor's history and state,
        `prediction/` those of masked prediction, `clusters_*.safetensors` the centers. Only the files of this manifest
        are opened. Global random generators are seeded.

        Args:
            manifest: the task's training audio with the column `label`.
            output_folder: made with its parents.
            seed: of everything random.
            device: "cpu", "cuda", "cuda:N"; None: a GPU where there is one.
            resume: False starts anew.

        Raises:
            InputError: the encoder has no frames, a label is blank or the only one, fewer frames than clusters, chunks
                too short for the masks, a state of another run in `output_folder`, or most files are unusable.
            NonFiniteLoss: the loss was NaN or infinite.
            Interrupted: SIGINT or SIGTERM arrived; the state is saved.
        """
        manifest = manifest if isinstance(manifest, Manifest) else read_manifest(manifest)
        classes = _classes(manifest, self.label)
        folder, chosen = Path(output_folder), join_processes(device)
        precision = choose_precision(self.run.precision, chosen)
        identity = self._identity(manifest, classes, seed, precision)
        common: dict[str, Any] = {"device": chosen, "resume": resume}
        extractor, found = self._extractor(manifest, classes, seed, folder=folder / STATES, identity=identity, **common)
        self.states_history_, self.skipped_, self.stop_reason_ = found.history, found.skipped, found.stop_reason
        self.history_: list[dict[str, Any]] = []
        encoder = frame_level_copy(self.encoder)
        if found.stop_reason is None:
            centers = Processes().from_main(lambda: self._centers(extractor, manifest, folder, identity, seed, chosen))
            seed_everything(derive_seed(seed, PREDICTION))
            found = minimise(
                MaskedStates(encoder, extractor, centers, self, seed=seed).to(chosen),
                self,
                manifest,
                min_samples=encoder.min_samples,
                seed=derive_seed(seed, PREDICTION),
                folder=folder / PREDICTION,
                identity=identity | {"centers": _digest({name: describe(value) for name, value in centers.items()})},
                **common,
            )
            self.history_, self.stop_reason_ = found.history, found.stop_reason
        self.encoder_ = encoder.eval().cpu()
        self.encoder_.requires_grad_(True)
        origin = provenance(seed=seed, manifest=list(manifest.paths)) | {"ptapt": identity}
        Processes().from_main(lambda: self.encoder_.save(folder / "encoder", provenance=origin))
        return self

    def _extractor(
        self, manifest: Manifest, classes: list[int], seed: int, **options: Any
    ) -> tuple[SpeechEncoder, Outcome]:
        """The frame-level encoder that tells the label at each frame, frozen."""
        seed_everything(derive_seed(seed, STATES))
        extractor = frame_level_copy(self.encoder if self.extractor is None else self.extractor)
        found = minimise(
            FrameLabels(extractor, torch.tensor(classes)).to(options["device"]),
            replace(self, steps=self.state_steps, epochs=None, lr=self.state_lr),
            manifest,
            min_samples=extractor.min_samples,
            seed=derive_seed(seed, STATES),
            **options,
        )
        return extractor.eval().requires_grad_(False), found

    def _centers(
        self,
        extractor: SpeechEncoder,
        manifest: Manifest,
        folder: Path,
        identity: dict[str, Any],
        seed: int,
        device: torch.device,
    ) -> dict[str, Tensor]:
        """(K, H) by name of each set of clusters; found once and kept."""
        from safetensors.torch import load_file, save

        # Named by what they follow from, so that those of another extractor are never taken.
        path = folder / f"clusters_{_digest({**identity, 'extractor': fingerprint(extractor)})}.safetensors"
        if path.exists():
            kept = load_file(path)
            # In their own order, not the file's: a resumed optimizer knows the heads by their places.
            return {str(size): kept[str(size)] for size in self.num_clusters}
        frames = sample_frames(extractor, manifest, self, seed=derive_seed(seed, "frames"), device=device)
        centers = cluster_frames(frames, list(self.num_clusters), seed=derive_seed(seed, "clusters") % 2**32)
        write_atomically(path, lambda file: file.write(save(centers)))
        return centers

    def _identity(self, manifest: Manifest, classes: list[int], seed: int, precision: str) -> dict[str, Any]:
        extractor = self.encoder if self.extractor is None else self.extractor
        weights = {"encoder_weights": fingerprint(self.encoder), "extractor_weights": fingerprint(extractor)}
        return self.identity(manifest, seed, precision) | weights | {"classes": _digest({"classes": classes})}


def _classes(manifest: Manifest, label: str) -> list[int]:
    """The number of each utterance's class."""
    values = manifest.label(label, allow_blank=False)
    names = sorted(set(values))
    if len(names) < 2:
        raise InputError(f"{manifest.name}: column {label!r} holds the one class {names[0]!r}; expected two or more")
    return [names.index(value) for value in values]


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
