"""Distillation: a small student learns to say what several layers of a frame-level teacher say, frame by frame.

No label is read. The student is the teacher's own first layers, or any other encoder of this library (an ECAPA-TDNN).
The loss is in `imitation.py`.
"""

import copy
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch

from dino_speech.argument_checks import require_choice, require_ranges
from dino_speech.data.atomic import write_atomically
from dino_speech.data.loading.loaders import StepSampler
from dino_speech.data.manifest import Manifest, read_manifest
from dino_speech.distributed import join_processes
from dino_speech.errors import InputError
from dino_speech.frame_level.chunk_training import chunks_of, minimise
from dino_speech.frame_level.encoder_copy import frame_level_copy, network_of
from dino_speech.frame_level.imitation import Imitation
from dino_speech.frame_level.network import Wav2Vec2, embedding_dim_of
from dino_speech.frame_level.parameters import StepParameters
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.encoder_config import EncoderConfig
from dino_speech.models.fingerprint import fingerprint
from dino_speech.models.precision import choose_precision
from dino_speech.models.registry import encoder_from_config
from dino_speech.provenance import provenance
from dino_speech.training.processes import Processes
from dino_speech.training.settings import OLD_RUN_NAMES, in_groups
from dino_speech.training.state import seed_everything
from dino_speech.training.training import read_batches

HEADS_FILE = "heads.safetensors"
MAX_HELD_OUT_STEPS = 50


@in_groups(OLD_RUN_NAMES)
@dataclass
class Distiller(StepParameters):
    """Trains a student on a teacher's layers; the loop's options are `StepParameters`'.

    Args:
        teacher: a wav2vec 2.0, HuBERT or WavLM; stays as it is.
        student: where the student begins; None: the teacher's convolutions and first `num_layers` layers, copied.
        num_layers: transformer layers of a student that is made from the teacher.
        layers: of the teacher, 0 being what enters the transformer; None: at a third, two thirds and the whole depth
            (4, 8 and 12 of 12). Each is predicted from the student's last frames by a linear head of its own.
        layer_weights: of each layer's loss; None: all the same. What a layer is worth for a task, `probe_layers` and
            `AudioTextTuner` tell.
        loss: "l1_cosine": mean absolute difference minus the log of the sigmoid of the cosine; "mse".
        cosine_weight: of the cosine's part.
        utterance_weight: of the same loss between the student's embedding, by heads of its own, and the means of the
            teacher's layers over time; without it, what stands behind a student's frames would learn nothing. None: 1
            where the student has such layers, else 0.

    Learnt by `fit`:

    Attributes:
        student_: the trained student.
        heads_: its heads.
        history_: the rows of `history.jsonl`: `loss`, `cosine`, and `loss_N` for each layer.
        skipped_: reason by file, of the files that could not be used.
        stop_reason_: "max_minutes" where the run was ended before its last step, else None.

    Raises:
        InputError: a value outside its range.

    Source: student, layers and loss: DistilHuBERT, arXiv 2110.01900, Eq. 1 and Sec. 3.1 (two layers, 4, 8, 12);
        numbers of the loop in the recipe from its code (s3prl); distillation for dimensional emotion: 2305.19184.
        `utterance_weight` and other students are ours.
    """

    teacher: SpeechEncoder
    _: KW_ONLY
    student: SpeechEncoder | None = None
    num_layers: int = 2
    layers: Sequence[int] | None = None
    layer_weights: Sequence[float] | None = None
    loss: Literal["l1_cosine", "mse"] = "l1_cosine"
    cosine_weight: float = 1.0
    utterance_weight: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "loss", ("l1_cosine", "mse"))
        require_ranges(self, counts=("num_layers",), not_negative=("cosine_weight", "utterance_weight"))
        weights = self.layer_weights
        if weights is not None and not (len(weights) == len(self.layers or (0, 0, 0)) and all(w > 0 for w in weights)):
            raise InputError(f"layer_weights = {weights!r}: expected a positive number for each of the layers")

    def fit(
        self,
        manifest: Manifest | str | PathLike[str],
        *,
        output_folder: str | PathLike[str],
        seed: int = 1986,
        device: str | torch.device | None = None,
        resume: bool = True,
    ) -> "Distiller":
        """Train the student, and leave it at `<output_folder>/encoder`, for `load_encoder`.

        A run that was stopped goes on from its last saved state, to the same numbers. The heads are kept in
        `heads.safetensors`. Global random generators are seeded.

        Args:
            manifest: audio; its labels are not read.
            output_folder: made with its parents.
            seed: of everything random.
            device: "cpu", "cuda", "cuda:N"; None: a GPU where there is one.
            resume: False starts anew.

        Raises:
            InputError: the teacher has no frames or lacks a layer, a state of another run is in `output_folder`, or
                most files are unusable.
            NonFiniteLoss: the loss was NaN or infinite.
            Interrupted: SIGINT or SIGTERM arrived; the state is saved.
        """
        manifest = manifest if isinstance(manifest, Manifest) else read_manifest(manifest)
        folder, chosen = Path(output_folder), join_processes(device)
        precision = choose_precision(self.run.precision, chosen)
        start = None if self.student is None else fingerprint(self.student)
        weights = {"teacher_weights": fingerprint(self.teacher), "student_weights": start}
        identity = self.identity(manifest, seed, precision) | weights
        seed_everything(seed)
        objective = self.objective().to(chosen)
        student = objective.student
        found = minimise(
            objective,
            self,
            manifest,
            min_samples=max(student.min_samples, self.teacher.min_samples),
            folder=folder,
            identity=identity,
            seed=seed,
            device=chosen,
            resume=resume,
        )
        self.objective_ = objective
        self.student_, self.heads_ = student.eval().cpu(), objective.heads.cpu()
        self.history_, self.skipped_, self.stop_reason_ = found.history, found.skipped, found.stop_reason
        origin = provenance(seed=seed, manifest=list(manifest.paths)) | {"distillation": identity}
        Processes().from_main(lambda: self._save(folder, origin))
        return self

    def _save(self, folder: Path, origin: dict[str, Any]) -> None:
        from safetensors.torch import save

        self.student_.save(folder / "encoder", provenance=origin)
        tensors = {name: value.detach().contiguous() for name, value in self.heads_.state_dict().items()}
        write_atomically(folder / HEADS_FILE, lambda file: file.write(save(tensors)))

    def objective(self) -> Imitation:
        """What is minimised, with the student as it begins and new heads."""
        student = first_layers(self.teacher, self.num_layers) if self.student is None else copy.deepcopy(self.student)
        weight = self.utterance_weight
        if weight is None:
            weight = 1.0 if not isinstance(student.backbone, Wav2Vec2) or student.affine_modules else 0.0
        return Imitation(
            student.requires_grad_(True),
            frame_level_copy(self.teacher),
            self._layers(),
            weights=self.layer_weights,
            loss=self.loss,
            cosine_weight=self.cosine_weight,
            utterance_weight=weight,
        )

    def held_out(
        self,
        manifest: Manifest | str | PathLike[str],
        *,
        objective: Imitation | None = None,
        device: str | torch.device | None = None,
    ) -> dict[str, float]:
        """The figures of the history on other speech, nothing trained: means over one random chunk of each utterance.

        Args:
            manifest: audio that was not trained on.
            objective: student and heads; None: those that `fit` gave. `objective()` is what training began with.
            device: to compute on.

        Raises:
            InputError: nothing is fitted yet.
        """
        if objective is None and not hasattr(self, "objective_"):
            raise InputError("nothing is fitted yet: call fit first")
        judged = self.objective_ if objective is None else objective
        manifest = manifest if isinstance(manifest, Manifest) else read_manifest(manifest)
        chosen = join_processes(device)
        judged.to(chosen).eval()
        least = max(judged.student.min_samples, self.teacher.min_samples)
        size = min(self.batch_size, len(manifest))
        steps = min(MAX_HELD_OUT_STEPS, len(manifest) // size)
        sums: dict[str, float] = {}
        sampler = StepSampler(len(manifest), size, seed=0, num_steps=steps)
        loader = read_batches(chunks_of(manifest, self, min_samples=least, seed=0), sampler, self.run, chosen)
        with torch.inference_mode():
            for batch in loader:
                waves = batch["long"].squeeze(1).to(chosen)
                for name, value in judged.losses(waves, batch["index"], 0).items():
                    sums[name] = sums.get(name, 0.0) + float(value) / steps
        return sums

    def _layers(self) -> list[int]:
        depth = len(network_of(frame_level_copy(self.teacher)).model.encoder.layers)
        if self.layers is None:
            return sorted({max(1, round(depth * part / 3)) for part in (1, 2, 3)})
        wrong = [layer for layer in self.layers if not isinstance(layer, int) or not 0 <= layer <= depth]
        if wrong or not self.layers or len(set(self.layers)) < len(self.layers):
            raise InputError(f"layers = {self.layers!r}: expected different numbers from 0 to {depth}")
        return list(self.layers)


def first_layers(teacher: SpeechEncoder, num_layers: int) -> SpeechEncoder:
    """An encoder with the convolutions and the first transformer layers of another, and their weights.

    Raises:
        InputError: the teacher has no more layers than that.
    """
    network = network_of(frame_level_copy(teacher))
    depth = len(network.model.encoder.layers)
    if not num_layers < depth:
        raise InputError(f"num_layers = {num_layers}: expected fewer than the {depth} layers of the teacher")
    given = teacher.config
    architecture = {**given.backbone["config"], "num_hidden_layers": num_layers, "layerdrop": 0.0}
    backbone = {**given.backbone, "config": architecture, "num_layers": None, "layer": "last"}
    dim = embedding_dim_of(architecture, "last", backbone["pooling"])
    student = encoder_from_config(EncoderConfig(given.name, dim, given.features, backbone), seed=0)
    weights = teacher.state_dict()
    student.load_state_dict({name: weights[name] for name in student.state_dict()})
    return student
