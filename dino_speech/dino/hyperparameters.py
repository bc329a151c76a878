"""The hyper-parameters of pretraining as a whole: the parts, the groups of settings, and what they say at each step."""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any

from torch import Tensor

from dino_speech.audio.crops import MultiCrop
from dino_speech.dino.settings import (
    OLD_NAMES,
    HeadSettings,
    ObjectiveSettings,
    OptimizerSettings,
    PretrainingRun,
    ScheduleSettings,
    TeacherSettings,
    WhiteningSettings,
)
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.training.lengths import RunLength
from dino_speech.training.run_identity import describe
from dino_speech.training.schedules import cosine, linear_warmup, warmup_cosine
from dino_speech.training.settings import in_groups, move_old_names


@dataclass(frozen=True)
class StepValues:
    """What the schedules say for one optimizer step."""

    lr: float
    weight_decay: float
    teacher_momentum: float
    teacher_temperature: float


@dataclass(frozen=True)
class RunSteps(RunLength):
    """The lengths of a run over some data, in optimizer steps.

    Attributes:
        warmup: in which the learning rate rises.
        teacher_temperature_warmup: in which the teacher's temperature changes.
        freeze_last_layer: in which the head's last layer stands still.
    """

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
        objective: what is learnt: `ObjectiveSettings`.
        head: `HeadSettings`.
        teacher: `TeacherSettings`.
        schedule: how long, in what batches: `ScheduleSettings`.
        optimizer: `OptimizerSettings`.
        run: how it is carried out, not what it computes; may change when it is resumed: `PretrainingRun`.
        whitening: of the finished encoder: `WhiteningSettings`.

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
    run: PretrainingRun = field(default_factory=PretrainingRun)
    whitening: WhiteningSettings = field(default_factory=WhiteningSettings)

    def steps(self, num_utterances: int) -> RunSteps:
        """The lengths of the run over a corpus of this size."""
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
        """What must be the same where a run goes on, lengths in steps: all but how it is carried out."""
        names = [field.name for field in fields(self) if field.name not in ("_", "run", "whitening")]
        return _in_steps({name: describe(getattr(self, name)) for name in names}, steps)


def completed_identity(saved: dict[str, Any]) -> dict[str, Any]:
    """A saved run's identity as a run of today states it.

    Settings that stood side by side go into their groups, lengths become steps, and a setting that came later has its
    default.
    """
    if "crops" not in saved:  # another kind of training
        return saved
    moved, _ = move_old_names({name: value for name, value in saved.items() if name != "precision"}, OLD_NAMES)
    schedule = ScheduleSettings.of("schedule", moved.get("schedule"))
    objective = ObjectiveSettings.of("objective", moved.get("objective"))
    described = {"objective": describe(objective), "schedule": describe(schedule)}
    for name, group in (("head", HeadSettings), ("teacher", TeacherSettings), ("optimizer", OptimizerSettings)):
        described[name] = describe(group.of(name, moved.get(name)))
    steps = RunSteps.said_by(schedule, objective, saved["manifest"]["num_utterances"])
    return _in_steps({**moved, "precision": saved["precision"], **described}, steps)


def _in_steps(identity: dict[str, Any], steps: RunSteps) -> dict[str, Any]:
    lengths = {"length": steps.num_steps, "warmup": steps.warmup, "freeze_last_layer": steps.freeze_last_layer}
    warmup = {"teacher_temperature_warmup": steps.teacher_temperature_warmup}
    return identity | {"schedule": identity["schedule"] | lengths, "objective": identity["objective"] | warmup}
