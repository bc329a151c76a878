"""The hyper-parameters of pretraining in groups, each with the source of its default, checked before anything runs.

Sources: [C] the configuration of arXiv 2208.05445 as its authors published it (hyperion, Nov 2021); [DINO] arXiv
2104.14294; [DINOv2] arXiv 2304.07193; [ours] chosen here, with the reason. Paper values are for VoxCeleb2 (1.1 million
utterances) and two GPUs; where a value of ours differs, it is for one machine and tens of hours of speech.

A length is steps, a share of the run ("5 %"), "3 epochs" or "200000 utterances": see `training/schedules.py`.
"""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any, Literal

from torch import Tensor

from dino_speech.argument_checks import AUTO, AutoCount, Count, NotNegative, Positive, Share
from dino_speech.audio.crops import MultiCrop
from dino_speech.dino.mates import MateSettings
from dino_speech.dino.teacher import TeacherSettings
from dino_speech.dino.whiten import WhiteningSettings
from dino_speech.errors import InputError
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.training.run_identity import describe
from dino_speech.training.schedules import AutoLength, Length, RunLength, cosine, linear_warmup, warmup_cosine
from dino_speech.training.settings import OLD_RUN_NAMES, RunSettings, Settings, in_groups, move_old_names


@dataclass
class ObjectiveSettings(Settings):
    """What the student is to achieve: the sum of terms, each with its weight; 0 leaves a term out.

    `loss` compares the student with the teacher; the other terms look at a batch of the student's (`regularizers.py`).
    Without `loss` there are no targets: head and teacher are not asked, and the teacher is the student's mean.
    """

    loss: str = "dino"  # "cosine": of the heads' points, no prototypes (SimDINO); or your own (`register_objective`)
    loss_weight: NotNegative = 1.0
    # What the student hears. "short": the short views alone, the teacher the long ones alone, as in SDPN [C]: all
    student_views: Literal["all", "short"] = "all"
    student_temperature: Positive = 0.1  # of the student's softmax [C]
    teacher_temperature: Positive = 0.04  # of the teacher's; lower is sharper [C]
    teacher_temperature_start: Positive | None = None  # where it begins; None: constant [C]
    teacher_temperature_warmup: Length = 0  # its linear way from start to end [C]
    # "mean": moving average of the teacher's logits [C]; "sinkhorn": balanced within the batch [DINOv2], and so [ours]:
    # steadier in small batches
    centering: Literal["mean", "sinkhorn"] = "sinkhorn"
    center_momentum: Share = 0.9  # of the moving average [C]
    koleo_weight: NotNegative = 0.1  # of the regulariser that spreads the long views' embeddings [DINOv2]; [C]: none
    contrast_weight: NotNegative = 0.0  # of NT-Xent over all views [C]: none
    contrast_temperature: Positive = 0.05  # [ours]: short utterances, batches of about a hundred
    frobenius_weight: NotNegative = 0.0  # of what keeps the dimensions apart, over all views [C]: none
    mean_entropy_weight: NotNegative = 0.0  # of the student's even use of its prototypes; SDPN: 1 [C]: none
    coding_rate_weight: NotNegative = 0.0  # of what spreads the head's points; SimDINO: 1 [C]: none
    coding_rate_epsilon: Positive = 0.5  # how coarsely it tells points apart (SimDINO, official code)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.loss_weight and (self.mean_entropy_weight or self.coding_rate_weight):
            problem = "mean_entropy_weight and coding_rate_weight look at the head, which only the loss asks, and"
            raise InputError(f"{problem} loss_weight is 0; set loss_weight, or both of them to 0")
        if self.loss == "cosine" and self.mean_entropy_weight:
            raise InputError("mean_entropy_weight is of prototypes, and loss: cosine has none; set coding_rate_weight")
        if not (self.loss_weight or self.contrast_weight):
            raise InputError("loss_weight and contrast_weight are both 0: nothing would be learnt; set one of them")


@dataclass
class HeadSettings(Settings):
    """The head on the encoder, which only training needs: see `DINOHead`."""

    num_prototypes: AutoCount = 4_096  # K, its outputs; or auto [ours]; [C]: 65_536, for 1.1 million utterances
    hidden_dim: Count = 2_048  # [C]
    bottleneck_dim: Count = 256  # [C]
    num_layers: Count = 3  # before the last one [C]
    batch_norm: bool = True  # in the hidden layers [ours]: learns faster at small scale; [C]: without


@dataclass
class ScheduleSettings(Settings):
    """How long, in what batches, and what changes on the way."""

    length: AutoLength = "70 epochs"  # or auto [C]
    batch_size: Count = 64  # utterances per step, over all processes and micro-batches [ours]: fits a laptop; [C]: 128
    # Column of the manifest, for example of the source: a batch holds utterances of so many of its values [ours]; None:
    # of any. See `grouped_order`.
    batch_by: str | None = None
    groups_per_batch: Count = 1
    accumulation_steps: Count = 1  # micro-batches per step, for a batch that does not fit into memory
    warmup: Length | None = None  # in which lr rises from 0; None: a tenth of the run [ours]; [C]: 10 of 70 epochs
    lr_end: NotNegative = 1e-6  # a cosine leads there [C]
    weight_decay_end: NotNegative | None = None  # at the last step, by a cosine; None: constant [C]
    # In which the head's last layer stands still; None: one epoch [C], but at most a twentieth of the run.
    freeze_last_layer: Length | None = None


@dataclass
class OptimizerSettings(Settings):
    """How the weights move."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"  # [DINO]; [C]: Adam with amsgrad
    lr: Positive = 2e-3  # at its peak, whatever the batch size [ours]; [C]: 2.5e-3 at a batch of 128
    weight_decay: NotNegative = 1e-4  # at the first step; not for biases and others with one dimension [C]
    betas: tuple[float, float] = (0.9, 0.95)  # of Adam and AdamW [C]
    momentum: Share = 0.9  # of SGD, as in the speech recipes of wespeaker and 3D-Speaker
    clip_norm: Positive | None = 3.0  # of all gradients together; None: no limit [DINO], there per parameter; [C]: none


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
        snapshot_every: length between the teacher's encoders that are kept at `snapshots/<step>`; None: none.
        monitor_every: length between calls of the monitor.
        stop_on_collapse: stop where the collapse doctor finds something; otherwise it only warns.
    """

    compile: bool = False
    activation_checkpointing: bool = False
    sync_batchnorm: bool = True  # [DINO], official code
    shards_at_once: Count | None = None
    snapshot_every: Length | None = None
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


@dataclass(frozen=True)
class StepValues:
    """What the schedules say for one optimizer step."""

    lr: float
    weight_decay: float
    teacher_momentum: float
    teacher_temperature: float


@dataclass(frozen=True)
class RunSteps(RunLength):
    """The lengths of a run over some data, in optimizer steps; their names are those of the settings."""

    warmup: int
    teacher_temperature_warmup: int
    freeze_last_layer: int

    @classmethod
    def said_by(cls, schedule: ScheduleSettings, objective: ObjectiveSettings, num_utterances: int) -> "RunSteps":
        """The lengths over a corpus of this size."""
        run = RunLength.of(schedule.length, num_utterances=num_utterances, batch_size=schedule.batch_size)
        frozen = schedule.freeze_last_layer
        return cls(
            **vars(run),
            warmup=run.count(0.1 if schedule.warmup is None else schedule.warmup),
            teacher_temperature_warmup=run.count(objective.teacher_temperature_warmup),
            freeze_last_layer=min(run.steps_per_epoch, run.count(0.05)) if frozen is None else run.count(frozen),
        )


@in_groups(OLD_NAMES)
@dataclass
class Hyperparameters:
    """Everything that can be set about a pretraining run.

    Each group is given as a mapping of what differs from its defaults, `optimizer={"lr": 1e-3}`, or as its class.

    Args:
        encoder: the network to train; `fit` trains a copy.
        crops: how many crops of what length.
        transforms: changes to each crop's waveform in the reading processes, `transforms(wave, generator=...)`.
        augment: changes to batches of waveforms on the training device, `augment(waves, generator=...)`.
        teacher_augment: the same for the teacher's long views, drawn independently; None: it hears what the student
            hears.
        spec_augment: masks on the student's features, `spec_augment(frames, generator=...)`.
        objective, head, teacher, schedule, optimizer, mates: groups; their classes say what is in them.
        run: how it is carried out, not what it computes; may change when it is resumed.
        whitening: of the finished encoder.

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
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    mates: MateSettings = field(default_factory=MateSettings)
    run: PretrainingRun = field(default_factory=PretrainingRun)
    whitening: WhiteningSettings = field(default_factory=WhiteningSettings)

    def steps(self, num_utterances: int) -> RunSteps:
        """The lengths of the run over a corpus of this size; InputError: a setting still says `auto`."""
        said: dict[str, Any] = {
            "schedule.length": self.schedule.length,
            "head.num_prototypes": self.head.num_prototypes,
        }
        said["teacher.momentum"] = self.teacher.momentum
        if unsettled := [name for name, value in said.items() if value == AUTO]:
            problem = f"{unsettled[0]} says auto, which `dino-speech pretrain` resolves; in Python"
            raise InputError(f"{problem} take dino_speech.dino.sizes.settled(trainer, len(manifest))")
        return RunSteps.said_by(self.schedule, self.objective, num_utterances)

    def at(self, step: int, steps: RunSteps) -> StepValues:
        """The schedules' values for an optimizer step (0-based): functions of the step, so nothing has to be saved."""
        objective, teacher, peak, end = self.objective, self.teacher, self.optimizer, self.schedule
        decay_end = peak.weight_decay if end.weight_decay_end is None else end.weight_decay_end
        temperature, start = objective.teacher_temperature, objective.teacher_temperature_start
        if start is not None:
            temperature = linear_warmup(step, steps.teacher_temperature_warmup, start, temperature)
        return StepValues(
            lr=warmup_cosine(
                *(step, steps.num_steps, peak.lr, end.lr_end),
                warmup_steps=steps.warmup,
                start=peak.lr / max(1, steps.warmup),  # not from 0: the first step would be lost
            ),
            weight_decay=cosine(step, steps.num_steps, peak.weight_decay, decay_end),
            teacher_momentum=cosine(step, steps.num_steps, teacher.momentum, teacher.momentum_end),
            teacher_temperature=temperature,
        )

    def identity(self, steps: RunSteps) -> dict[str, Any]:
        """What must be the same where a run goes on, lengths in steps: all but how it is carried out.

        `mates` is None here: a run puts the pairs in, which are the same wherever their file lies.
        """
        names = [field.name for field in fields(self) if field.name not in ("_", "mates", "run", "whitening")]
        return _in_steps({"mates": None} | {name: describe(getattr(self, name)) for name in names}, steps)


def completed_identity(saved: dict[str, Any]) -> dict[str, Any]:
    """A saved run's identity as today's states it: settings in groups, lengths in steps, later ones by default."""
    if "crops" not in saved:  # another kind of training
        return saved
    moved, _ = move_old_names({name: value for name, value in saved.items() if name != "precision"}, OLD_NAMES)
    schedule = ScheduleSettings.of("schedule", moved.get("schedule"))
    objective = ObjectiveSettings.of("objective", moved.get("objective"))
    described = {"objective": describe(objective), "schedule": describe(schedule)}
    for name, group in (("head", HeadSettings), ("teacher", TeacherSettings), ("optimizer", OptimizerSettings)):
        described[name] = describe(group.of(name, moved.get(name)))
    steps = RunSteps.said_by(schedule, objective, saved["manifest"]["num_utterances"])
    return _in_steps({"mates": None, **moved, "precision": saved["precision"], **described}, steps)


def _in_steps(identity: dict[str, Any], steps: RunSteps) -> dict[str, Any]:
    lengths = {"length": steps.num_steps, "warmup": steps.warmup, "freeze_last_layer": steps.freeze_last_layer}
    warmup = {"teacher_temperature_warmup": steps.teacher_temperature_warmup}
    return identity | {"schedule": identity["schedule"] | lengths, "objective": identity["objective"] | warmup}
