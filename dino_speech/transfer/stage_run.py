"""The steps of one stage: chunks in, loss, optimizer. What goes on between the steps is in `run.py`.

Not SpeechBrain's Brain: it is one loop with one optimizer from its first to its last step, and each stage here has an
optimizer and a loader of its own. What Brain would give besides, autocast and loss scaling, are two lines.

Letters: `B` utterances, `S` samples, `T` frames, `F` bands, `D` embedding.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dino_speech.data.seeds import seeded_generator
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.training.finite_guard import FiniteGuard, NonFiniteLoss
from dino_speech.training.optimizer import clip_gradients, optimizer_of
from dino_speech.training.schedules import warmup_cosine
from dino_speech.transfer.heads import MarginHead
from dino_speech.transfer.hyperparameters import TuningParameters
from dino_speech.transfer.losses import ccc_loss
from dino_speech.transfer.stages import FineTuneStage, freeze_for, parameter_groups
from dino_speech.transfer.system import Head


class StageRun:
    """Freezes what the stage freezes, and takes its steps.

    Args:
        hyper: the hyper-parameters.
        stage: the stage.
        encoder: trained in place.
        head: trained in place.
        num_steps: of the stage.
        targets: of all utterances, (N,) classes or (N, L) values.
        class_weights: (C,) of the loss; None: all the same.
        seed: of the stage.
        device: to train on.
        precision: "bf16", "fp16" or "fp32".

    Attributes:
        grad_norm: of all gradients, before clipping, at the last step.
    """

    def __init__(
        self,
        hyper: TuningParameters,
        stage: FineTuneStage,
        encoder: SpeechEncoder,
        head: Head,
        *,
        num_steps: int,
        targets: Tensor,
        class_weights: Tensor | None,
        seed: int,
        device: torch.device,
        precision: str,
    ) -> None:
        freeze_for(encoder, stage)
        head.train()
        self.hyper, self.stage, self.encoder, self.head, self.num_steps = hyper, stage, encoder, head, num_steps
        self.targets = targets.to(device)
        self.class_weights = None if class_weights is None else class_weights.to(device)
        self.seed, self.device, self.precision = seed, device, precision
        self.optimizer = optimizer_of(
            hyper.optimizer,
            parameter_groups(head, encoder, stage),
            lr=stage.lr,
            betas=hyper.betas,
            momentum=hyper.momentum,
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.guard = FiniteGuard(device)
        self.grad_norm = torch.zeros((), device=device)
        # Not from 0: the first step would be lost.
        self.warmup_steps = min(round(stage.warmup_fraction * num_steps), num_steps - 1)

    def lr_factor(self, step: int) -> float:
        """What the peak learning rates are multiplied by at a step of the stage."""
        start = 1 / max(1, self.warmup_steps)
        return warmup_cosine(step, self.num_steps, 1.0, 0.0, warmup_steps=self.warmup_steps, start=start)

    def take(self, batch: dict[str, Tensor], step: int, *, margin: float | None = None) -> Tensor:
        """One optimizer step on `batch` (`long` (B, 1, S), `index` (B,)); the loss, 0-d, without gradient.

        Raises:
            NonFiniteLoss: the loss was NaN or infinite; the weights are as before.
        """
        if margin is not None and isinstance(self.head, MarginHead):
            self.head.margin = margin
        frames = self._features(batch, step)
        dtype = torch.float16 if self.precision == "fp16" else torch.bfloat16
        with torch.autocast(self.device.type, dtype, enabled=self.precision != "fp32"):
            embedding = self.encoder.embed_frames(frames, None)
        loss = self.loss(embedding, self.targets[batch["index"].to(self.device)])
        self.guard.watch(loss)
        self.scaler.scale(loss).backward()
        self._update(step)
        return loss.detach()

    @torch.no_grad()
    def _features(self, batch: dict[str, Tensor], step: int) -> Tensor:
        """Augmented chunks (B, S) -> frames (B, T, F)."""
        draw = seeded_generator(self.seed, "augment", step)
        waves = batch["long"].squeeze(1).to(self.device, non_blocking=True)
        if self.stage.augment is not None:
            waves = self.stage.augment(waves, generator=draw, groups=batch["index"])
        frames, _ = self.encoder.extract_features(waves, None)
        return frames if self.stage.spec_augment is None else self.stage.spec_augment(frames, generator=draw)

    def loss(self, embedding: Tensor, targets: Tensor) -> Tensor:
        """(B, D) and (B,) or (B, L) -> 0-d, in float32."""
        if self.hyper.objective == "ccc":
            return ccc_loss(self.head(embedding), targets)
        logits = self.head(embedding, targets)
        return F.cross_entropy(logits, targets, weight=self.class_weights, label_smoothing=self.hyper.label_smoothing)

    def _update(self, step: int) -> None:
        if not self.guard.all_finite():
            raise NonFiniteLoss(
                f"the loss is not finite at step {step + 1} of this stage (lr {self.stage.lr:.2g}); the weights were "
                "not touched, and the last saved state is sound. Try: lower lr and encoder_lr, raise warmup_fraction, "
                "lower clip_norm, or set precision to bf16 or fp32"
            )
        factor = self.lr_factor(step)
        for group in self.optimizer.param_groups:
            group["lr"] = factor * group["peak_lr"]
        self.scaler.unscale_(self.optimizer)
        self.grad_norm = clip_gradients(self.optimizer, self.hyper.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def state_dicts(self) -> dict[str, Any]:
        """The state of everything that the steps change, by name."""
        parts = {"encoder": self.encoder, "head": self.head, "optimizer": self.optimizer, "scaler": self.scaler}
        return {name: part.state_dict() for name, part in parts.items()}

    def load_state_dicts(self, states: dict[str, Any]) -> None:
        """The reverse for what belongs to the stage alone: optimizer and scaler."""
        self.optimizer.load_state_dict(states["optimizer"])
        self.scaler.load_state_dict(states["scaler"])
