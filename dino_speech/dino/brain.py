"""One training step of DINO on SpeechBrain's Brain, which gives the loop, autocast and loss scaling.

What is mended here: Brain clips only the first parameter group; copies the loss to the CPU in each step, so that a GPU
waits; tolerates non-finite losses; synchronises BatchNorm on CPUs, which cannot; and knows no teacher. Saving is not
Brain's either (see `state.py`), nor is logging (see `supervisor.py`).

Letters: `B` utterances of a micro-batch, `V` views, `L` long ones, `S` samples, `T` frames, `F` bands, `D` embedding,
`K` prototypes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dino_speech.compatibility import require_torchaudio
from dino_speech.data.seeds import seeded_generator
from dino_speech.dino.hyperparameters import Hyperparameters, RunSteps, StepValues
from dino_speech.dino.loss import OBJECTIVES, Center, koleo, sinkhorn_targets, softmax_targets
from dino_speech.dino.network import Network
from dino_speech.dino.teacher import Teacher
from dino_speech.distributed import rank, world_size
from dino_speech.models.recompute import recompute_activations
from dino_speech.training.finite_guard import FiniteGuard, NonFiniteLoss
from dino_speech.training.optimizer import build_optimizer, clip_gradients, set_step_values

require_torchaudio()

from speechbrain.core import Brain, Stage  # noqa: E402  (it imports torchaudio)


@dataclass(frozen=True)
class Outputs:
    """What a micro-batch gave.

    Attributes:
        embedding: (V*B, D) of the student.
        logits: (V, B, K) of the student.
        teacher_embedding: (L*B, D).
        teacher_logits: (L, B, K).
        targets: (L, B, K) the teacher's distribution over prototypes.
    """

    embedding: Tensor
    logits: Tensor
    teacher_embedding: Tensor
    teacher_logits: Tensor
    targets: Tensor


class DINOBrain(Brain):
    """Trains a student network against its own moving average.

    Args:
        hyper: the hyper-parameters.
        network: the student: encoder and head.
        steps: the lengths of the run.
        seed: of the whole run.
        device: to train on.
        precision: "bf16", "fp16" or "fp32".
        after_step: called with the outputs of the last micro-batch after each optimizer step; true ends the run.
    """

    def __init__(
        self,
        hyper: Hyperparameters,
        network: Network,
        steps: RunSteps,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
        after_step: Callable[["DINOBrain", Outputs], bool] = lambda brain, outputs: False,
    ) -> None:
        options = {"device": str(device), "precision": precision, "noprogressbar": True}
        recompute_activations(network.encoder, hyper.run.activation_checkpointing)
        student = synchronized(network, device) if hyper.run.sync_batchnorm else network
        super().__init__(modules={"student": student}, run_opts=options)
        self.hyper, self.steps, self.seed = hyper, steps, seed
        self.after_step = after_step
        self.network: Network = self.modules["student"]
        self.teacher = Teacher(self.network, batchnorm=hyper.teacher.batchnorm)
        self.center = Center(hyper.head.num_prototypes, momentum=hyper.objective.center_momentum).to(self.device)
        self.criterion = OBJECTIVES[hyper.objective.loss](
            num_long=hyper.crops.num_long,
            student_temperature=hyper.objective.student_temperature,
            teacher_temperature=hyper.objective.teacher_temperature,
        )
        self.optimizer = build_optimizer(
            hyper.optimizer.name,
            self.network,
            lr=hyper.optimizer.lr,
            weight_decay=hyper.optimizer.weight_decay,
            betas=hyper.optimizer.betas,
            momentum=hyper.optimizer.momentum,
        )
        self.optimizers_dict = {"optimizer": self.optimizer}
        self.guard = FiniteGuard(torch.device(device))
        # Sums since the last row of the history, on the device: the DINO loss, KoLeo.
        self.loss_sums = torch.zeros(2, device=self.device)
        self.loss_parts = torch.zeros(2, device=self.device)
        self.num_micro_batches = 0
        self.grad_norm = torch.zeros((), device=self.device)
        self.finished = False

    @property
    def values(self) -> StepValues:
        """What the schedules say for the step being taken."""
        return self.hyper.at(self.optimizer_step, self.steps)

    @torch.no_grad()
    def make_views(self, batch: dict[str, Tensor]) -> tuple[list[Tensor], Tensor]:
        """Augment the crops and compute their features, all crops of one length together.

        Args:
            batch: `long` and `short` (B, V, S), `index` (B,).

        Returns:
            the student's frames (V*B, T, F), one entry per length of crop, and the teacher's (L*B, T, F).
        """
        micro_batch = (self.step - 1) % self.hyper.schedule.accumulation_steps
        draw = seeded_generator(self.seed, "augment", self.optimizer_step, rank(), micro_batch)
        lengths = [batch[name].to(self.device, non_blocking=True) for name in ("long", "short")]
        # (B, V, S) -> (V*B, S): first all first views, then all second views, ...
        waves = [crops.transpose(0, 1).flatten(0, 1) for crops in lengths if crops.shape[1]]
        heard = [self._augmented(self.hyper.augment, wave, batch["index"], draw) for wave in waves]
        frames = [self.network.encoder.extract_features(wave, None)[0] for wave in heard]
        teacher_frames = frames[0]
        if self.hyper.teacher_augment is not None:
            heard_by_teacher = self._augmented(self.hyper.teacher_augment, waves[0], batch["index"], draw)
            teacher_frames = self.network.encoder.extract_features(heard_by_teacher, None)[0]
        if self.hyper.spec_augment is not None:
            frames = [self.hyper.spec_augment(view, generator=draw) for view in frames]
        return frames, teacher_frames

    def _augmented(
        self, augment: Callable[..., Tensor] | None, waves: Tensor, index: Tensor, draw: torch.Generator
    ) -> Tensor:
        if augment is None:
            return waves
        return augment(waves, generator=draw, groups=index.repeat(len(waves) // len(index)))

    def compute_forward(self, batch: tuple[list[Tensor], Tensor], stage: Stage) -> Outputs:
        """Student on all views, teacher on the long ones, and what the teacher asks for."""
        student_frames, teacher_frames = batch
        num_utterances = len(teacher_frames) // self.hyper.crops.num_long
        embedding, logits = self.modules.student(student_frames)
        with torch.no_grad():
            teacher_embedding, teacher_logits = self.teacher([teacher_frames])
            teacher_logits = teacher_logits.unflatten(0, (-1, num_utterances))  # (L*B, K) -> (L, B, K)
            targets = self._targets(teacher_logits)
        return Outputs(
            embedding=embedding,
            logits=logits.unflatten(0, (-1, num_utterances)),  # (V*B, K) -> (V, B, K)
            teacher_embedding=teacher_embedding,
            teacher_logits=teacher_logits,
            targets=targets,
        )

    def _targets(self, teacher_logits: Tensor) -> Tensor:
        temperature = self.values.teacher_temperature
        if self.hyper.objective.centering == "sinkhorn":
            return sinkhorn_targets(teacher_logits, temperature)
        return softmax_targets(teacher_logits, self.center.value, temperature)

    def compute_objectives(self, predictions: Outputs, batch: Any, stage: Stage) -> Tensor:
        """Cross-entropy between different views, and what spreads the embeddings of a batch."""
        loss = self.criterion(predictions.logits, predictions.targets)
        parts = [loss.detach(), torch.zeros_like(loss)]
        if self.hyper.objective.koleo_weight:
            num_long, num_utterances = predictions.targets.shape[:2]
            long_views = predictions.embedding[: num_long * num_utterances].unflatten(0, (num_long, num_utterances))
            spread = koleo(long_views)
            parts[1] = spread.detach()
            loss = loss + self.hyper.objective.koleo_weight * spread
        self.loss_parts = torch.stack(parts)
        return loss

    def fit_batch(self, batch: dict[str, Tensor]) -> Tensor:
        """One micro-batch: forward, loss, backward; after the last of a step: optimizer, teacher, center, log."""
        step_now = self.step % self.hyper.schedule.accumulation_steps == 0  # Brain counts micro-batches from 1
        views = self.make_views(batch)
        with self.no_sync(not step_now):
            with self.training_ctx:
                outputs = self.compute_forward(views, Stage.TRAIN)
                loss = self.compute_objectives(outputs, batch, Stage.TRAIN)
            if self.hyper.objective.centering == "mean":
                self.center.accumulate(outputs.teacher_logits)
                if step_now:
                    self.center.begin_step()  # over the ranks, beside the backward pass
            self.guard.watch(loss)
            self.scaler.scale(loss / self.hyper.schedule.accumulation_steps).backward()
        self.loss_sums += self.loss_parts
        self.num_micro_batches += 1
        if step_now:
            values = self.values
            self.optimizers_step()
            self.teacher.step(self.network, values.teacher_momentum)
            if self.hyper.objective.centering == "mean":
                self.center.step()
            self.finished = self.after_step(self, outputs)
        return loss.detach()

    def optimizers_step(self) -> None:
        """One step of the optimizer, with the values of the schedules, all gradients clipped by one norm.

        Raises:
            NonFiniteLoss: the loss of a micro-batch was NaN or infinite; the weights are as before.
        """
        values = self.values
        if not self.guard.all_finite():
            raise NonFiniteLoss(
                f"the loss is not finite at step {self.optimizer_step + 1} (lr {values.lr:.2g}); the weights were not "
                "touched, and the last saved state is sound. Likely cause: too large a learning rate, float16 "
                "overflow, or NaN in the features. Try: lower lr, lengthen warmup, lower clip_norm, or set "
                "precision to bf16 or fp32"
            )
        set_step_values(self.optimizer, lr=values.lr, weight_decay=values.weight_decay)
        if self.optimizer_step < self.steps.freeze_last_layer:
            for parameter in self.network.head.last_layer.parameters():
                parameter.grad = None  # and not zero, which weight decay and momentum would still move
        self.scaler.unscale_(self.optimizer)
        self.grad_norm = clip_gradients(self.optimizer, self.hyper.optimizer.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer_step += 1

    def state_dicts(self) -> dict[str, Any]:
        """The state of everything that training changes, by name."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dicts(self, states: dict[str, Any]) -> None:
        """The reverse of `state_dicts`."""
        for name, part in self._parts().items():
            part.load_state_dict(states[name])

    def _parts(self) -> dict[str, Any]:
        return {
            "student": self.network,
            "teacher": self.teacher,
            "center": self.center,
            "optimizer": self.optimizer,
            "scaler": self.scaler,
        }

    def on_fit_start(self) -> None:
        """Compile and wrap the networks; the optimizer exists already, and states are loaded from outside."""
        if self.hyper.run.compile:
            # In place: the names in the state stay what they are.
            self.network.compile()
            self.teacher.compile()
        if world_size() > 1:
            ids = [torch.device(self.device).index] if self.device_type == "cuda" else None
            self.modules["student"] = DistributedDataParallel(
                self.network,
                device_ids=ids,
                gradient_as_bucket_view=True,  # no second copy of the gradients
            )

    def update_average(self, loss: Tensor, avg_loss: float) -> float:
        """Nothing: Brain's own would copy the loss to the CPU in each step."""
        return avg_loss

    @property
    def _optimizer_step_limit_exceeded(self) -> bool:
        return self.finished


def synchronized(network: nn.Module, device: torch.device | str) -> nn.Module:
    """BatchNorm over the utterances of all processes, where there are several and the device can."""
    if world_size() > 1 and torch.device(device).type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return network
