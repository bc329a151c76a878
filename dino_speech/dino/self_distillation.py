"""DINO as a training: its views, its targets, its loss, and what moves after a step: the teacher, then the center.

Letters: `B` utterances of a micro-batch, `V` views, `L` long ones, `S` samples, `T` frames, `F` bands, `D` embedding,
`K` prototypes.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dino_speech.data.loading.datasets import CropDataset
from dino_speech.data.loading.loaders import StepSampler
from dino_speech.data.loading.skipped import SkippedFiles
from dino_speech.data.seeds import seeded_generator
from dino_speech.dino.centering import Center, sinkhorn_targets, softmax_targets
from dino_speech.dino.collapse_doctor import CollapseDoctor
from dino_speech.dino.head import Depth, Network, Outputs
from dino_speech.dino.hyperparameters import Hyperparameters, RunSteps
from dino_speech.dino.objectives import OBJECTIVES, CosineLoss
from dino_speech.dino.regularizers import coding_rate, contrast, frobenius, koleo, mean_entropy
from dino_speech.dino.teacher import Teacher
from dino_speech.distributed import is_main_process, rank, world_size
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.recompute import recompute_activations
from dino_speech.training.history import Logbook
from dino_speech.training.optimizer import build_optimizer, set_step_values
from dino_speech.training.processes import Processes, whole_batch
from dino_speech.training.state import preserved_rng
from dino_speech.training.training import Stage, Training, Verdict, read_batches

# Figures of the doctor that say nothing over time.
NOT_LOGGED = ("loss", "ln_k", "num_rows", "max_rank", "num_shared")


class Monitor(Protocol):
    """Judges an encoder during training, for example by the EER on a list of trials."""

    def __call__(self, encoder: SpeechEncoder) -> dict[str, float]:
        """Figures of the encoder."""
        ...

    def better(self, new: dict[str, float], old: dict[str, float] | None) -> bool:
        """Whether the new figures beat the old ones."""
        ...


Export = Callable[[SpeechEncoder, str, int], None]  # an encoder, where below the output folder, the step


@dataclass(frozen=True)
class Views:
    """What the networks hear of a micro-batch."""

    student: list[Tensor]  # frames (V*B, T, F), one entry per length of crop
    teacher: Tensor  # frames (L*B, T, F)
    last: bool  # of its step


@dataclass(frozen=True)
class Seen:
    """What the collapse doctor looks at; without targets the embeddings are the student's."""

    loss: Tensor
    targets: Tensor | None  # (L, B, K)
    embeddings: Tensor  # (L, B, D)
    points: Tensor | None  # (L, B, P) of the teacher, where the loss compares points


class SelfDistillation(Training):
    """Trains a student network against its own moving average; a monitor, where there is one, judges the teacher."""

    def __init__(
        self,
        hyper: Hyperparameters,
        network: Network,
        steps: RunSteps,
        sampler: StepSampler,
        dataset: CropDataset,
        *,
        device: torch.device,
        monitor: Monitor | None = None,
        export: Export = lambda encoder, name, step: None,
    ) -> None:
        self.hyper, self.steps, self.sampler, self.dataset = hyper, steps, sampler, dataset
        self.device, self.monitor, self.export = device, monitor, export
        self.manifest, self.num_steps, self.batch_size = dataset.manifest, steps.num_steps, steps.batch_size
        self.accumulation_steps, self.clip_norm = hyper.schedule.accumulation_steps, hyper.optimizer.clip_norm
        recompute_activations(network.encoder, hyper.run.activation_checkpointing)
        network = network.to(device)
        self.network = cast(Network, synchronized(network, device)) if hyper.run.sync_batchnorm else network
        self.teacher = Teacher(self.network, batchnorm=hyper.teacher.batchnorm)
        # How many of the student's views, the first ones, are the teacher's too.
        self.num_long = 0 if hyper.objective.student_views == "short" else hyper.crops.num_long
        self.center = Center(hyper.head.num_prototypes, momentum=hyper.objective.center_momentum).to(device)
        self.criterion = OBJECTIVES[hyper.objective.loss](
            num_long=self.num_long,
            student_temperature=hyper.objective.student_temperature,
            teacher_temperature=hyper.objective.teacher_temperature,
        )
        of_points = isinstance(self.criterion, CosineLoss)
        self.depth: Depth = "embedding" if not hyper.objective.loss_weight else "points" if of_points else "logits"
        self.centered = self.depth == "logits" and hyper.objective.centering == "mean"
        chosen = {key: value for key, value in vars(hyper.optimizer).items() if key not in ("name", "clip_norm")}
        self.optimizer = build_optimizer(hyper.optimizer.name, self.network, **chosen)
        self.doctor = CollapseDoctor(grace_steps=steps.warmup)
        self.monitor_every = max(1, steps.count(hyper.run.monitor_every))
        kept = hyper.run.snapshot_every
        self.snapshot_every = None if kept is None else max(1, steps.count(kept))
        self.best: dict[str, Any] | None = None
        self.seen: Seen | None = None

    def parts(self) -> dict[str, nn.Module]:
        """Student, teacher and center."""
        return {"student": self.network, "teacher": self.teacher, "center": self.center}

    def begin(self, step: int, skipped: SkippedFiles) -> Stage:
        """The one stage, with compiled networks where that is asked for."""
        self.network.train()
        if self.hyper.run.compile:  # in place: the names in the state stay what they are
            self.network.compile()
            self.teacher.compile()
        self.sampler.start_step = step
        loader = read_batches(self.dataset, self.sampler, self.hyper.run, self.device, skipped)
        return Stage(self.optimizer, loader, 0, self.num_steps)

    def schedule(self, optimizer: Optimizer, step: int) -> None:
        """Learning rate and weight decay."""
        values = self.hyper.at(step, self.steps)
        set_step_values(optimizer, lr=values.lr, weight_decay=values.weight_decay)

    def hear(self, batch: Mapping[str, Tensor], step: int, micro_batch: int) -> Views:
        """Augment the crops, `long` and `short` (B, V, S), and compute their features, all of one length together."""
        self.seen, hyper, extract = None, self.hyper, self.network.encoder.extract_features
        draw = seeded_generator(self.sampler.seed, "augment", step, rank(), micro_batch)
        lengths = [batch[name].to(self.device, non_blocking=True) for name in ("long", "short")]
        # (B, V, S) -> (V*B, S): first all first views, then all second views, ...
        waves = [crops.transpose(0, 1).flatten(0, 1) for crops in lengths if crops.shape[1]]
        heard = [augmented(hyper.augment, wave, batch["index"], draw) for wave in waves]
        frames = [extract(wave, None)[0] for wave in heard]
        teacher_frames, frames = frames[0], frames if self.num_long else frames[1:]
        if hyper.teacher_augment is not None:
            teacher_frames = extract(augmented(hyper.teacher_augment, waves[0], batch["index"], draw), None)[0]
        if hyper.spec_augment is not None:
            frames = [hyper.spec_augment(view, generator=draw) for view in frames]
        return Views(frames, teacher_frames, last=micro_batch == self.accumulation_steps - 1)

    def losses(self, heard: Views, step: int) -> dict[str, Tensor]:
        """The terms of the objective that have a weight, by name, and their sum `loss`."""
        student = self.in_views(self.network(heard.student, depth=self.depth), heard)
        terms: dict[str, tuple[float, Tensor]] = {}
        examined, targets, points = student.embedding[: self.num_long or None], None, None
        if weight := self.hyper.objective.loss_weight:
            with torch.no_grad():
                teacher = self.in_views(self.teacher([heard.teacher], depth=self.depth), heard)
                examined = teacher.embedding
                if teacher.logits is None:
                    points = teacher.points
                else:
                    targets = self.targets(teacher.logits, step)
            compared = (student.points, points) if targets is None else (student.logits, targets)
            terms["dino"] = weight, self.criterion(*compared)
            if self.centered and teacher.logits is not None:
                self.center.accumulate(teacher.logits)
                if heard.last:
                    self.center.begin_step()  # over the ranks, beside the backward pass
        terms |= self.terms_of_embeddings(student.embedding) | self.terms_of_head(student)
        loss = torch.stack([weight * term for weight, term in terms.values()]).sum()
        self.seen = Seen(next(iter(terms.values()))[1].detach(), targets, examined.detach(), points)
        return {"loss": loss, **{name: term for name, (_, term) in terms.items()}}

    def in_views(self, outputs: Outputs, heard: Views) -> Outputs:
        """(V*B, ...) -> (V, B, ...)."""
        num_utterances = len(heard.teacher) // self.hyper.crops.num_long
        given = {name: rows for name, rows in outputs._asdict().items() if rows is not None}
        return Outputs(**{name: rows.unflatten(0, (-1, num_utterances)) for name, rows in given.items()})

    def terms_of_embeddings(self, views: Tensor) -> dict[str, tuple[float, Tensor]]:
        """What is said of the student's embeddings (V, B, D): weight and value by name, where there is a weight."""
        objective = self.hyper.objective
        if objective.contrast_weight or objective.koleo_weight or objective.frobenius_weight:
            views = whole_batch(views.transpose(0, 1)).transpose(0, 1)  # the utterances of all processes
        found: dict[str, tuple[float, Tensor]] = {}
        if weight := objective.contrast_weight:
            found["contrast"] = weight, contrast(views, objective.contrast_temperature)
        if weight := objective.koleo_weight:
            found["koleo"] = weight, koleo(views[: self.num_long or None])
        if weight := objective.frobenius_weight:
            found["frobenius"] = weight, frobenius(views)
        return found

    def terms_of_head(self, student: Outputs) -> dict[str, tuple[float, Tensor]]:
        """The same of what the student's head makes of them."""
        objective, found = self.hyper.objective, dict[str, tuple[float, Tensor]]()
        if (weight := objective.mean_entropy_weight) and student.logits is not None:
            used = torch.softmax(student.logits / objective.student_temperature, dim=-1).mean((0, 1))  # (K,)
            found["mean_entropy"] = weight, mean_entropy(whole_batch(used[None]))
        if (weight := objective.coding_rate_weight) and student.points is not None:
            points = whole_batch(student.points[: self.num_long or None].transpose(0, 1)).transpose(0, 1)
            found["coding_rate"] = weight, coding_rate(points, objective.coding_rate_epsilon)
        return found

    def targets(self, teacher_logits: Tensor, step: int) -> Tensor:
        """(L, B, K) logits -> (L, B, K) distributions over prototypes."""
        temperature = self.hyper.at(step, self.steps).teacher_temperature
        if self.hyper.objective.centering == "sinkhorn":
            return sinkhorn_targets(teacher_logits, temperature)
        return softmax_targets(teacher_logits, self.center.value, temperature)

    def before_update(self, step: int) -> None:
        """At first the head's last layer stands still."""
        if step < self.steps.freeze_last_layer:
            for parameter in self.network.head.last_layer.parameters():
                parameter.grad = None  # and not zero, which weight decay and momentum would still move

    def after_update(self, step: int, *, taken: bool) -> None:
        """The teacher, then the center."""
        if taken:
            self.teacher.step(self.network, self.hyper.at(step, self.steps).teacher_momentum)
            if self.hyper.teacher.shared_prototypes:
                own = cast(Network, self.teacher.module).head.last_layer
                own.load_state_dict(self.network.head.last_layer.state_dict())
        if self.centered:
            self.center.step() if taken else self.center.discard()

    def row(self, step: int, means: Mapping[str, Tensor], grad_norm: float) -> dict[str, Any]:
        """Losses, the doctor's figures, and the values of the schedules."""
        assert self.seen is not None
        center = self.center.value if self.centered else None
        networks: dict[str, Any] = {"teacher": self.teacher, "student": self.network}
        findings = self.doctor.examine(step, **vars(self.seen), center=center, **networks)
        row: dict[str, Any] = {"epoch": round(step / self.steps.steps_per_epoch, 3)}
        terms = {name: float(mean.float()) for name, mean in means.items() if name not in ("loss", "grad_norm")}
        row |= {"loss": terms.pop("dino", terms.get("contrast")), **terms, "grad_norm": grad_norm}
        row |= {name: value for name, value in self.doctor.figures.items() if name not in NOT_LOGGED}
        row |= vars(self.hyper.at(step - 1, self.steps))
        return row | ({"findings": [finding.name for finding in findings]} if findings else {})

    def between_steps(self, step: int, log: Logbook, processes: Processes, *, last: bool) -> Verdict:
        """Let the monitor judge the teacher; the best so far is written to `best/encoder`."""
        if step == 1 and self.dataset.mates is not None:
            log.history.add({"step": step, "mates": self.dataset.mates.figures(self.manifest)})
        if self.snapshot_every and (last or step % self.snapshot_every == 0) and is_main_process():
            self.export(self.teacher_encoder(), f"snapshots/{step:07d}", step)
        collapsed, monitor = self.hyper.run.stop_on_collapse and bool(self.doctor.findings), self.monitor
        if monitor is None or not (last or step % self.monitor_every == 0):
            return Verdict(collapsed=collapsed)
        encoder = self.teacher_encoder()
        with preserved_rng():
            figures = processes.from_main(lambda: monitor(encoder))
        is_best = monitor.better(figures, self.best)
        if is_best:
            self.best = {**figures, "step": step}
            if is_main_process():
                self.export(encoder, "best/encoder", step)
        log.history.add({"step": step, "monitor": figures})
        shown = "  ".join(f"{name} {value:.3g}" for name, value in figures.items())
        log.progress.note(f"step {step}/{self.num_steps}  monitor: {shown}{'  (best so far)' if is_best else ''}")
        return Verdict(best=is_best, collapsed=collapsed)

    def before_saving(self, step: int) -> None:
        """The teacher's encoder is what a person takes."""
        self.export(self.teacher_encoder(), "encoder", step)

    def notes(self) -> dict[str, Any]:
        """What the monitor has found so far."""
        return {"best": self.best}

    def load_notes(self, notes: Mapping[str, Any]) -> None:
        """The reverse."""
        self.best = notes["best"]

    def teacher_encoder(self) -> SpeechEncoder:
        """A copy of the teacher's encoder for embedding."""
        encoder = copy.deepcopy(cast(Network, self.teacher.module).encoder).eval()
        recompute_activations(encoder, False)
        return encoder


def augmented(
    augment: Callable[..., Tensor] | None, waves: Tensor, index: Tensor, generator: torch.Generator
) -> Tensor:
    """Waves (V*B, S), the views of an utterance augmented alike where the augmentation says so."""
    if augment is None:
        return waves
    return augment(waves, generator=generator, groups=index.repeat(len(waves) // len(index)))


def synchronized(network: nn.Module, device: torch.device | str) -> nn.Module:
    """BatchNorm over the utterances of all processes, where there are several and the device can."""
    if world_size() > 1 and torch.device(device).type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return network
