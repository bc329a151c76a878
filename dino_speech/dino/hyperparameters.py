"""The hyper-parameters of pretraining: flat, each with the source of its default, checked before anything runs.

Sources: [C] the configuration of arXiv 2208.05445 as its authors published it (hyperion, Nov 2021); [DINO] arXiv
2104.14294; [DINOv2] arXiv 2304.07193; [ours] chosen here, with the reason. Paper values are for VoxCeleb2 (1.1 million
utterances) and two GPUs; where a value of ours differs, it is for one machine and tens of hours of speech.
"""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, Literal

from torch import Tensor

from dino_speech.argument_checks import require_choice, require_ranges
from dino_speech.audio.crops import MultiCrop
from dino_speech.errors import InputError
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.precision import PRECISIONS
from dino_speech.training.optimizer import OPTIMIZERS
from dino_speech.training.schedules import cosine, linear_warmup, warmup_cosine

# How a run is carried out, not what it computes: these may change when it is resumed.
RUN_ONLY = frozenset(
    (
        *(
            "compile",
            "activation_checkpointing",
            "num_workers",
            "cache_gib",
            "log_every",
            "monitor_every",
            "save_every_minutes",
        ),
        *("save_every_steps", "stop_on_collapse", "max_minutes", "num_epochs", "num_steps"),
        "sync_batchnorm",  # concerns several processes only, whose number may change too
        "shards_at_once",  # changes the order of the data, as the number of processes then does too
        *("whitening_shrinkage", "whitening_utterances"),  # after the last step: a finished run can be whitened anew
    )
)


@dataclass(frozen=True)
class StepValues:
    """What the schedules say for one optimizer step."""

    lr: float
    weight_decay: float
    teacher_momentum: float
    teacher_temperature: float


@dataclass
class Hyperparameters:
    """Everything that can be set about a pretraining run.

    Args:
        encoder: the network to train; `fit` trains a copy.
        crops: how many crops of what length.
        transforms: changes to each crop's waveform in the reading processes, `transforms(wave, generator=...)`.
        augment: changes to batches of waveforms on the training device, `augment(waves, generator=...)`.
        teacher_augment: the same for the teacher's long views, drawn independently; None: it hears what the student
            hears.
        spec_augment: masks on the student's features, `spec_augment(frames, generator=...)`.
        num_prototypes: K, outputs of the head.
        head_hidden_dim: width of the head's hidden layers.
        head_bottleneck_dim: width of its normalised bottleneck.
        head_num_layers: layers before the last one.
        head_batch_norm: BatchNorm in the hidden layers.
        student_temperature: of the student's softmax, > 0.
        teacher_temperature: of the teacher's, > 0; lower is sharper.
        teacher_temperature_start: where it begins; None: constant.
        teacher_temperature_warmup_steps: steps of its linear way from start to end.
        centering: "mean" (moving average of the teacher's logits) or "sinkhorn" (balanced within the batch).
        center_momentum: of the moving average, in [0, 1).
        koleo_weight: of the regulariser that spreads embeddings of a batch; 0: off.
        teacher_momentum: weight of the old teacher in its moving average at the first step, in [0, 1].
        teacher_momentum_end: the same at the last step; a cosine in between.
        teacher_batchnorm: "train" or "ema", see `Teacher`.
        whitening_shrinkage: whiten the finished encoder's embeddings by those of `whitening_utterances` of the training
            utterances, no labels needed; 0 to 1, see `Whitening`; None: leave them as they are.
        whitening_utterances: how many, drawn by the seed.
        optimizer: "adamw", "adam" or "sgd".
        lr: the peak learning rate, used as given, whatever the batch size.
        lr_end: the last one; a cosine leads there.
        warmup_steps: of the learning rate, from 0; None: a tenth of the run.
        weight_decay: at the first step; not for biases and other one-dimensional parameters.
        weight_decay_end: at the last step, by a cosine; None: constant.
        betas: of Adam and AdamW.
        momentum: of SGD.
        clip_norm: limit of the global norm of all gradients; None: no limit.
        freeze_last_layer_steps: first steps in which the head's last layer stands still; None: one epoch, but at most
            a twentieth of the run.
        batch_size: utterances per optimizer step, over all processes and micro-batches together.
        accumulation_steps: micro-batches per optimizer step, for a batch that does not fit into memory.
        num_steps: optimizer steps; or else
        num_epochs: passes over the data (70 where neither is given).
        precision: "auto", "bf16", "fp16" or "fp32".
        compile: compile the networks with torch.compile.
        activation_checkpointing: keep few activations of the student for the backward pass and compute the others
            again: less memory, about a third more work, the same numbers. Not with `compile`.
        sync_batchnorm: BatchNorm over the utterances of all processes; GPUs only, on CPUs each process has its own.
        num_workers: reading processes; None: what the cores allow.
        cache_gib: memory for decoded waves, in GiB; a corpus that fits is decoded once.
        shards_at_once: for shards on slow or remote storage: mix the utterances of so many shards at a time, other ones
            on each process; None: mix all utterances.
        log_every: optimizer steps between rows of the history.
        monitor_every: optimizer steps between calls of the monitor.
        save_every_minutes: minutes between saved states.
        save_every_steps: optimizer steps between saved states, in addition; None: only by minutes.
        stop_on_collapse: stop where the collapse doctor finds something; otherwise it only warns.
        max_minutes: stop cleanly after this long, wherever the schedules are; `fit` again goes on. None: no limit.

    Raises:
        InputError: a value outside its range; the message names it.
    """

    encoder: SpeechEncoder
    crops: MultiCrop
    _: KW_ONLY
    transforms: Callable[..., Tensor] | None = None
    augment: Callable[..., Tensor] | None = None
    teacher_augment: Callable[..., Tensor] | None = None  # [C]: the student's own
    spec_augment: Callable[..., Tensor] | None = None  # [C]: none
    num_prototypes: int = 4_096  # [ours] [C]: 65_536, for 1.1 million utterances
    head_hidden_dim: int = 2_048  # [C]
    head_bottleneck_dim: int = 256  # [C]
    head_num_layers: int = 3  # [C]
    head_batch_norm: bool = True  # [ours]: learns faster at small scale; [C]: without
    student_temperature: float = 0.1  # [C]
    teacher_temperature: float = 0.04  # [C]
    teacher_temperature_start: float | None = None  # [C]: constant
    teacher_temperature_warmup_steps: int = 0  # [C]
    centering: Literal["mean", "sinkhorn"] = (
        "sinkhorn"  # [ours]: steadier in small batches; [DINOv2], Sec. 4; [C]: mean
    )
    center_momentum: float = 0.9  # [C]
    koleo_weight: float = 0.1  # [DINOv2], Sec. 4; [C]: none
    teacher_momentum: float = 0.996  # [C]
    teacher_momentum_end: float = 1.0  # [C]
    teacher_batchnorm: Literal["train", "ema"] = "train"  # [DINO], official code
    whitening_shrinkage: float | None = None  # [C]: none
    whitening_utterances: int = 2_000  # [ours]: ten times the usual dimensions
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"  # [DINO]; [C]: Adam with amsgrad
    lr: float = 2e-3  # [ours]; [C]: 2.5e-3 at a batch of 128
    lr_end: float = 1e-6  # [C]
    warmup_steps: int | None = None  # [ours]; [C]: 10 of 70 epochs
    weight_decay: float = 1e-4  # [C]
    weight_decay_end: float | None = None  # [C]: constant
    betas: tuple[float, float] = (0.9, 0.95)  # [C]
    momentum: float = 0.9  # SGD as in the speech recipes of wespeaker and 3D-Speaker
    clip_norm: float | None = 3.0  # [DINO], there per parameter; [C]: none
    freeze_last_layer_steps: int | None = None  # [C]: one epoch
    batch_size: int = 64  # [ours]: fits a laptop; [C]: 128
    accumulation_steps: int = 1
    num_steps: int | None = None
    num_epochs: int | None = None  # [C]: 70
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    compile: bool = False
    activation_checkpointing: bool = False
    sync_batchnorm: bool = True  # [DINO], official code
    num_workers: int | None = None
    cache_gib: float = 2.0  # [ours]: 18 hours of speech; only what is used is taken
    shards_at_once: int | None = None
    log_every: int = 20
    monitor_every: int = 250
    save_every_minutes: float = 10.0
    save_every_steps: int | None = None
    stop_on_collapse: bool = False
    max_minutes: float | None = None

    def __post_init__(self) -> None:
        require_choice(self, "centering", ("mean", "sinkhorn"))
        require_choice(self, "teacher_batchnorm", ("train", "ema"))
        require_choice(self, "optimizer", OPTIMIZERS)
        require_choice(self, "precision", PRECISIONS)
        require_ranges(
            self,
            counts=_COUNTS,
            counts_from_zero=_COUNTS_FROM_ZERO,
            positive=_POSITIVE,
            not_negative=_NOT_NEGATIVE,
            shares=_SHARES,
        )
        if self.num_steps is not None and self.num_epochs is not None:
            raise InputError("num_steps and num_epochs are both given; give one of them, and null for the other")
        if self.compile and self.activation_checkpointing:
            raise InputError("compile and activation_checkpointing are both set; set one of them to false")

    def total_steps(self, steps_per_epoch: int) -> int:
        """Optimizer steps of the whole run."""
        return self.num_steps or (self.num_epochs or 70) * steps_per_epoch

    def frozen_steps(self, num_steps: int, steps_per_epoch: int) -> int:
        """First steps in which the head's last layer stands still."""
        if self.freeze_last_layer_steps is not None:
            return self.freeze_last_layer_steps
        return min(steps_per_epoch, num_steps // 20)

    def at(self, step: int, num_steps: int) -> StepValues:
        """The schedules' values for an optimizer step (0-based): functions of the step, so nothing has to be saved."""
        warmup = num_steps // 10 if self.warmup_steps is None else self.warmup_steps
        decay_end = self.weight_decay if self.weight_decay_end is None else self.weight_decay_end
        temperature = self.teacher_temperature
        if self.teacher_temperature_start is not None:
            temperature = linear_warmup(
                step, self.teacher_temperature_warmup_steps, self.teacher_temperature_start, self.teacher_temperature
            )
        return StepValues(
            # Not from 0: the first step would be lost.
            lr=warmup_cosine(
                step, num_steps, self.lr, self.lr_end, warmup_steps=warmup, start=self.lr / max(1, warmup)
            ),
            weight_decay=cosine(step, num_steps, self.weight_decay, decay_end),
            teacher_momentum=cosine(step, num_steps, self.teacher_momentum, self.teacher_momentum_end),
            teacher_temperature=temperature,
        )

    def settings(self) -> dict[str, Any]:
        """The hyper-parameters by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "_"}


_COUNTS = (
    *("num_prototypes", "head_hidden_dim", "head_bottleneck_dim", "head_num_layers", "batch_size"),
    *(
        "whitening_utterances",
        "accumulation_steps",
        "num_steps",
        "num_epochs",
        "log_every",
        "monitor_every",
        "save_every_steps",
        "shards_at_once",
    ),
)
_COUNTS_FROM_ZERO = ("teacher_temperature_warmup_steps", "warmup_steps", "freeze_last_layer_steps", "num_workers")
_POSITIVE = (
    *("student_temperature", "teacher_temperature", "teacher_temperature_start", "lr", "clip_norm"),
    *("save_every_minutes", "max_minutes"),
)
_SHARES = ("center_momentum", "teacher_momentum", "teacher_momentum_end", "momentum", "whitening_shrinkage")
_NOT_NEGATIVE = ("koleo_weight", "lr_end", "weight_decay", "weight_decay_end", "cache_gib")
