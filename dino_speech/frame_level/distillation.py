"""Distillation: a small student learns to say what several layers of a frame-level teacher say, frame by frame.

No label is read. The student is the teacher's own first layers, or any other encoder of this library (an ECAPA-TDNN).
Letters: `B` utterances, `S` samples, `T` frames of the teacher, `H` hidden, `C` channels of the student, `D` embedding.
"""

import copy
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dino_speech.argument_checks import Count, NotNegative
from dino_speech.data.atomic import write_atomically
from dino_speech.data.loading.loaders import StepSampler
from dino_speech.data.manifest import Manifest, read_manifest
from dino_speech.distributed import join_processes
from dino_speech.errors import InputError
from dino_speech.frame_level.chunk_training import ChunkRun, ChunkTrainer, Objective
from dino_speech.frame_level.network import Wav2Vec2, embedding_dim_of, frame_level_copy, network_of
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.encoder_config import EncoderConfig
from dino_speech.models.fingerprint import fingerprint
from dino_speech.models.registry import encoder_from_config
from dino_speech.training.settings import OLD_RUN_NAMES, in_groups
from dino_speech.training.training import read_batches

HEADS_FILE = "heads.safetensors"
MAX_HELD_OUT_STEPS = 50


@in_groups(OLD_RUN_NAMES)
@dataclass
class Distiller(ChunkTrainer):
    """Trains a student on a teacher's layers; other options and `fit`: `ChunkTrainer`. Heads: `heads.safetensors`.

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
        history_: among others `cosine`, and `loss_N` for each layer.

    Raises:
        InputError: a value outside its range; of `fit` also: the teacher has no frames, or lacks a layer.

    Source: student, layers and loss: DistilHuBERT, arXiv 2110.01900, Eq. 1 and Sec. 3.1 (two layers, 4, 8, 12);
        numbers of the loop in the recipe from its code (s3prl); distillation for dimensional emotion: 2305.19184.
        `utterance_weight` and other students are ours.
    """

    teacher: SpeechEncoder
    _: KW_ONLY
    student: SpeechEncoder | None = None
    num_layers: Count = 2
    layers: Sequence[int] | None = None
    layer_weights: Sequence[float] | None = None
    loss: Literal["l1_cosine", "mse"] = "l1_cosine"
    cosine_weight: NotNegative = 1.0
    utterance_weight: NotNegative | None = None

    purpose = "distillation"

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = self.layer_weights
        if weights is not None and not (len(weights) == len(self.layers or (0, 0, 0)) and all(w > 0 for w in weights)):
            raise InputError(f"layer_weights = {weights!r}: expected a positive number for each of the layers")

    def identity(self, manifest: Manifest, seed: int, precision: str) -> dict[str, Any]:
        """With the weights of the teacher, and of the student where one was given."""
        start = None if self.student is None else fingerprint(self.student)
        weights = {"teacher_weights": fingerprint(self.teacher), "student_weights": start}
        return super().identity(manifest, seed, precision) | weights

    def _objective(self, run: ChunkRun) -> "Imitation":
        return self.objective()

    def _keep(self, objective: "Imitation", run: ChunkRun) -> None:
        self.objective_, self.student_, self.heads_ = objective, objective.student.eval().cpu(), objective.heads.cpu()

    def _save(self, folder: Path, origin: dict[str, Any]) -> None:
        from safetensors.torch import save

        self.student_.save(folder / "encoder", provenance=origin)
        tensors = {name: value.detach().contiguous() for name, value in self.heads_.state_dict().items()}
        write_atomically(folder / HEADS_FILE, lambda file: file.write(save(tensors)))

    def objective(self) -> "Imitation":
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
        objective: "Imitation | None" = None,
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
        size = min(self.batch_size, len(manifest))
        steps = min(MAX_HELD_OUT_STEPS, len(manifest) // size)
        sums: dict[str, float] = {}
        sampler = StepSampler(len(manifest), size, seed=0, num_steps=steps)
        chunks = self.chunks_of(manifest, min_samples=judged.min_samples, seed=0)
        with torch.inference_mode():
            for batch in read_batches(chunks, sampler, self.run, chosen):
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
    """An encoder with the convolutions and the first transformer layers of a teacher, which has more; same weights."""
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


class Imitation(Objective):
    """The loss between what the student's heads say and what the teacher's layers say; options as of `Distiller`."""

    def __init__(
        self,
        student: SpeechEncoder,
        teacher: SpeechEncoder,
        layers: Sequence[int],
        *,
        weights: Sequence[float] | None = None,
        loss: str = "l1_cosine",
        cosine_weight: float = 1.0,
        utterance_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.student, self.layers, self.kind = student, list(layers), loss
        self.cosine_weight, self.utterance_weight = cosine_weight, utterance_weight
        whole = sum(weights) if weights else 1.0
        self.weights = [w / whole for w in weights] if weights else [1 / len(layers)] * len(layers)
        self.min_samples = max(student.min_samples, teacher.min_samples)
        # In a tuple: neither trained nor saved with the objective.
        self.fixed = (teacher.eval().requires_grad_(False),)
        hidden, width = network_of(teacher).model.config.hidden_size, frame_width(student)
        self.heads = nn.ModuleDict({str(layer): nn.Linear(width, hidden) for layer in layers})
        heads = {str(layer): nn.Linear(student.embedding_dim, hidden) for layer in (layers if utterance_weight else [])}
        self.utterance_heads = nn.ModuleDict(heads)

    def losses(self, waves: Tensor, index: Tensor, step: int) -> dict[str, Tensor]:
        """`loss`; each layer's `loss_N`; of frames the mean `cosine`, and how much of their variance is `explained`."""
        targets = self.targets(waves)
        last = LastFrames()
        embedding = self.student.run(waves, None, last)
        frames = match_length(last.frames, targets[0].shape[1])
        figures = {"loss": frames.new_zeros((), dtype=torch.float32)}
        cosines, shares = [], []
        for layer, weight, target in zip(self.layers, self.weights, targets, strict=True):
            said = self.heads[str(layer)](frames)
            loss, cosine = self.distance(said, target)
            if self.utterance_weight:
                whole, _ = self.distance(self.utterance_heads[str(layer)](embedding), target.mean(1))
                figures["loss"] = figures["loss"] + weight * self.utterance_weight * whole
            figures["loss"] = figures["loss"] + weight * loss
            figures[f"loss_{layer}"] = loss
            cosines.append(cosine)
            spread = (target - target.mean((0, 1))).square().mean()
            shares.append(1 - F.mse_loss(said.detach().float(), target) / spread)
        return {**figures, "cosine": torch.stack(cosines).mean(), "explained": torch.stack(shares).mean()}

    @torch.no_grad()
    def targets(self, waves: Tensor) -> list[Tensor]:
        """Chunks (B, S) -> what the teacher's layers say, each (B, T, H) float32."""
        teacher = self.fixed[0].to(waves.device)
        network = network_of(teacher)
        conv, _ = network.convolve(teacher.extract_features(waves)[0], None)
        states = network.transform(conv, None)
        return [states[layer].float() for layer in self.layers]

    def distance(self, said: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
        """(..., H) and (..., H) -> the loss and the cosine, means over all but the last axis."""
        said = said.float()
        cosine = F.cosine_similarity(said, true, dim=-1)
        if self.kind == "mse":
            return F.mse_loss(said, true), cosine.mean()
        return F.l1_loss(said, true) - self.cosine_weight * F.logsigmoid(cosine).mean(), cosine.mean()


class LastFrames:
    """A note that keeps the last layer that has frames."""

    frames: Tensor  # (B, T, C)

    def __call__(self, name: str, x: Tensor, mask: Tensor | None = None) -> None:
        """Keep (B, T, C); what is pooled already is not of interest."""
        if x.ndim == 3:
            self.frames = x


def frame_width(encoder: SpeechEncoder) -> int:
    """Channels of an encoder's last frames."""
    last, was_training = LastFrames(), encoder.training
    encoder.eval()
    with torch.inference_mode():
        encoder.run(torch.zeros(1, 2 * encoder.min_samples, device=encoder.device), None, last)
    encoder.train(was_training)
    return last.frames.shape[2]


def match_length(frames: Tensor, num_frames: int) -> Tensor:
    """(B, T', C) -> (B, T, C), by means over time (of 10 ms to 20 ms), or by repetition."""
    if frames.shape[1] == num_frames:
        return frames
    return F.adaptive_avg_pool1d(frames.transpose(1, 2), num_frames).transpose(1, 2)
