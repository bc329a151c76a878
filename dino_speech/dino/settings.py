"""The settings of pretraining in groups by subject, each with the source of its default, checked before anything runs.

Sources: [C] the configuration of arXiv 2208.05445 as its authors published it (hyperion, Nov 2021); [DINO] arXiv
2104.14294; [DINOv2] arXiv 2304.07193; [ours] chosen here, with the reason. Paper values are for VoxCeleb2 (1.1 million
utterances) and two GPUs; where a value of ours differs, it is for one machine and tens of hours of speech.

A length is steps, a share of the run ("5 %"), "3 epochs" or "200000 utterances": see `training/lengths.py`.
"""

from dataclasses import dataclass
from typing import Literal

from dino_speech.argument_checks import Count, NotNegative, Positive, Share
from dino_speech.errors import InputError
from dino_speech.training.lengths import Length, LengthOfRun
from dino_speech.training.settings import OLD_RUN_NAMES, RunSettings, Settings


@dataclass
class ObjectiveSettings(Settings):
    """What the student is to achieve: the teacher's targets, and what is added to the loss, each with its weight.

    Args:
        student_temperature: of the student's softmax, > 0.
        teacher_temperature: of the teacher's, > 0; lower is sharper.
        teacher_temperature_start: where it begins; None: constant.
        teacher_temperature_warmup: length of its linear way from start to end.
        centering: "mean" (moving average of the teacher's logits) or "sinkhorn" (balanced within the batch).
        center_momentum: of the moving average, in [0, 1).
        koleo_weight: of the regulariser that spreads embeddings of a batch; 0: off.
    """

    student_temperature: Positive = 0.1  # [C]
    teacher_temperature: Positive = 0.04  # [C]
    teacher_temperature_start: Positive | None = None  # [C]: constant
    teacher_temperature_warmup: Length = 0  # [C]
    centering: Literal["mean", "sinkhorn"] = "sinkhorn"  # [ours], [DINOv2]: steadier in small batches; [C]: mean
    center_momentum: Share = 0.9  # [C]
    koleo_weight: NotNegative = 0.1  # [DINOv2], Sec. 4; [C]: none


@dataclass
class HeadSettings(Settings):
    """The head on the encoder, which only training needs.

    Args:
        num_prototypes: K, its outputs.
        hidden_dim: width of the hidden layers.
        bottleneck_dim: width of the normalised bottleneck.
        num_layers: layers before the last one.
        batch_norm: BatchNorm in the hidden layers.
    """

    num_prototypes: Count = 4_096  # [ours] [C]: 65_536, for 1.1 million utterances
    hidden_dim: Count = 2_048  # [C]
    bottleneck_dim: Count = 256  # [C]
    num_layers: Count = 3  # [C]
    batch_norm: bool = True  # [ours]: learns faster at small scale; [C]: without


@dataclass
class TeacherSettings(Settings):
    """How the teacher follows the student.

    Args:
        momentum: weight of the old teacher in its moving average at the first step, in [0, 1].
        momentum_end: the same at the last step; a cosine in between.
        batchnorm: "train" or "ema", see `Teacher`.
    """

    momentum: Share = 0.996  # [C]
    momentum_end: Share = 1.0  # [C]
    batchnorm: Literal["train", "ema"] = "train"  # [DINO], official code


@dataclass
class ScheduleSettings(Settings):
    """How long, in what batches, and what changes on the way.

    Args:
        length: of the run; not a share.
        batch_size: utterances per optimizer step, over all processes and micro-batches together.
        accumulation_steps: micro-batches per optimizer step, for a batch that does not fit into memory.
        warmup: length in which the learning rate rises, from 0; None: a tenth of the run.
        lr_end: the last learning rate; a cosine leads there.
        weight_decay_end: at the last step, by a cosine; None: constant.
        freeze_last_layer: length in which the head's last layer stands still; None: one epoch, but at most a twentieth
            of the run.
    """

    length: LengthOfRun = "70 epochs"  # [C]
    batch_size: Count = 64  # [ours]: fits a laptop; [C]: 128
    accumulation_steps: Count = 1
    warmup: Length | None = None  # [ours]; [C]: 10 of 70 epochs
    lr_end: NotNegative = 1e-6  # [C]
    weight_decay_end: NotNegative | None = None  # [C]: constant
    freeze_last_layer: Length | None = None  # [C]: one epoch


@dataclass
class OptimizerSettings(Settings):
    """How the weights move.

    Args:
        name: "adamw", "adam" or "sgd".
        lr: the peak learning rate, used as given, whatever the batch size.
        weight_decay: at the first step; not for biases and other one-dimensional parameters.
        betas: of Adam and AdamW.
        momentum: of SGD.
        clip_norm: limit of the global norm of all gradients; None: no limit.
    """

    name: Literal["adamw", "adam", "sgd"] = "adamw"  # [DINO]; [C]: Adam with amsgrad
    lr: Positive = 2e-3  # [ours]; [C]: 2.5e-3 at a batch of 128
    weight_decay: NotNegative = 1e-4  # [C]
    betas: tuple[float, float] = (0.9, 0.95)  # [C]
    momentum: Share = 0.9  # SGD as in the speech recipes of wespeaker and 3D-Speaker
    clip_norm: Positive | None = 3.0  # [DINO], there per parameter; [C]: none


@dataclass
class WhiteningSettings(Settings):
    """What is done to the finished encoder, anew if it is asked of a complete run.

    Args:
        shrinkage: whiten the embeddings by those of `utterances` of the training utterances, no labels needed; 0 to 1,
            see `Whitening`; None: leave them as they are.
        utterances: how many, drawn by the seed.
    """

    shrinkage: Share | None = None  # [C]: none
    utterances: Count = 2_000  # [ours]: ten times the usual dimensions


@dataclass
class PretrainingRun(RunSettings):
    """How pretraining is carried out: what `RunSettings` says, and

    Args:
        compile: compile the networks with torch.compile.
        activation_checkpointing: keep few activations of the student for the backward pass and compute the others
            again: less memory, about a third more work, the same numbers. Not with `compile`.
        sync_batchnorm: BatchNorm over the utterances of all processes; GPUs only, on CPUs each process has its own.
        shards_at_once: for shards on slow or remote storage: mix the utterances of so many shards at a time, other ones
            on each process; None: mix all utterances.
        monitor_every: length between calls of the monitor.
        stop_on_collapse: stop where the collapse doctor finds something; otherwise it only warns.
    """

    compile: bool = False
    activation_checkpointing: bool = False
    sync_batchnorm: bool = True  # [DINO], official code
    shards_at_once: Count | None = None
    monitor_every: Length = 250
    stop_on_collapse: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.compile and self.activation_checkpointing:
            raise InputError("compile and activation_checkpointing are both set; set one of them to false")


# The names of settings when they stood side by side.
OLD_NAMES = {
    **{f"{side}_temperature": f"objective.{side}_temperature" for side in ("student", "teacher")},
    "teacher_temperature_start": "objective.teacher_temperature_start",
    "teacher_temperature_warmup_steps": "objective.teacher_temperature_warmup",
    **{name: f"objective.{name}" for name in ("centering", "center_momentum", "koleo_weight")},
    "num_prototypes": "head.num_prototypes",
    **{f"head_{name}": f"head.{name}" for name in ("hidden_dim", "bottleneck_dim", "num_layers", "batch_norm")},
    **{f"teacher_{name}": f"teacher.{name}" for name in ("momentum", "momentum_end", "batchnorm")},
    "num_steps": "schedule.length={}",
    "num_epochs": "schedule.length={} epochs",
    **{name: f"schedule.{name}" for name in ("batch_size", "accumulation_steps", "lr_end", "weight_decay_end")},
    "warmup_steps": "schedule.warmup",
    "freeze_last_layer_steps": "schedule.freeze_last_layer",
    "optimizer": "optimizer.name",
    **{name: f"optimizer.{name}" for name in ("lr", "weight_decay", "betas", "momentum", "clip_norm")},
    **{f"whitening_{name}": f"whitening.{name}" for name in ("shrinkage", "utterances")},
    **OLD_RUN_NAMES,
    **{name: f"run.{name}" for name in ("compile", "activation_checkpointing", "sync_batchnorm", "shards_at_once")},
    **{name: f"run.{name}" for name in ("monitor_every", "stop_on_collapse")},
}
