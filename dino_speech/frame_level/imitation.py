"""The loss of distillation: heads on a student's frames say what the teacher's layers say.

Letters: `B` utterances, `S` samples, `T` frames of the teacher, `H` hidden, `C` channels of the student, `D` embedding.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dino_speech.frame_level.chunk_training import Objective
from dino_speech.frame_level.encoder_copy import network_of
from dino_speech.models.encoder import SpeechEncoder


class Imitation(Objective):
    """The loss between what the student's heads say and what the teacher's layers say.

    Args:
        student: trained in place.
        teacher: hears the same chunk; not trained.
        layers: of the teacher.
        weights: of each layer's loss; None: all the same.
        loss: "l1_cosine" or "mse".
        cosine_weight: of the cosine's part.
        utterance_weight: of the loss of the embedding; 0: none.
    """

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
        # In a tuple: neither trained nor saved with the objective.
        self.fixed = (teacher.eval().requires_grad_(False),)
        hidden, width = network_of(teacher).model.config.hidden_size, frame_width(student)
        self.heads = nn.ModuleDict({str(layer): nn.Linear(width, hidden) for layer in layers})
        dim = student.embedding_dim
        names = layers if utterance_weight else []
        self.utterance_heads = nn.ModuleDict({str(layer): nn.Linear(dim, hidden) for layer in names})

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
    """A note that keeps the last layer that has frames.

    Attributes:
        frames: (B, T, C).
    """

    frames: Tensor

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
