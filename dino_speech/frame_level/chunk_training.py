"""What TAPT, P-TAPT, distillation and audio-text tuning share: settings, `fit`, and steps on random chunks.

What is minimised is an `Objective`; the steps are taken by `training/loop.py`. Letters: `B` utterances, `S` samples of
a chunk.
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dino_speech.argument_checks import Count, CountFromZero, NotNegative, Positive, Share, require_declared
from dino_speech.audio.io import SAMPLE_RATE
from dino_speech.audio.random_chunk import RandomChunk
from dino_speech.data.loading.datasets import CropDataset
from dino_speech.data.loading.skipped import SkippedFiles
from dino_speech.data.manifest import Manifest, read_manifest
from dino_speech.data.sole_use import alone
from dino_speech.distributed import join_processes
from dino_speech.errors import InputError
from dino_speech.models.precision import choose_precision
from dino_speech.provenance import provenance
from dino_speech.training.loop import train
from dino_speech.training.optimizer import optimizer_of, split_by_decay
from dino_speech.training.processes import Processes
from dino_speech.training.run_identity import describe, describe_manifest
from dino_speech.training.settings import RunSettings
from dino_speech.training.state import seed_everything
from dino_speech.training.training import Outcome, Stage, Training, batch_of, deal, read_batches

Trainer = TypeVar("Trainer", bound="ChunkTrainer")


class Objective(nn.Module):
    """What the steps minimise; its parameters that need a gradient are trained."""

    min_samples: int  # shorter utterances are skipped and listed

    def losses(self, waves: Tensor, index: Tensor, step: int) -> dict[str, Tensor]:
        """Chunks (B, S) of the utterances `index` (B,) -> 0-d figures by name; `loss` is minimised, all are logged.

        Of several processes each has its part of the batch: see `training.processes` for what is no plain mean.
        """
        raise NotImplementedError


@dataclass
class ChunkTrainer:
    """Trains on random chunks of utterances: the options that all such trainings have, and their `fit`.

    Args:
        steps: optimizer steps; or else
        epochs: passes over the training set (neither: 20,000 steps).
        lr: peak learning rate.
        warmup_steps: steps in which it rises, at most half of all.
        flat_fraction: share of the steps for which it then stays; after that it falls in a straight line to 0.
        batch_size: chunks per step; a smaller training set is one batch.
        chunk_s: seconds of the random chunk of an utterance; a shorter utterance is repeated end to end.
        optimizer: "adamw", "adam" or "sgd".
        weight_decay: not for biases and other one-dimensional parameters.
        clip_norm: limit of the global norm of all gradients; None: no limit.
        run: how it is carried out: precision, workers, saving; see `RunSettings`.

    Learnt by `fit`:

    Attributes:
        history_: the rows of `history.jsonl`: `loss`, and the figures that the training names.
        skipped_: reason by file, of the files that could not be used.
        stop_reason_: "max_minutes" where the run was ended before its last step, else None.

    Raises:
        InputError: a value outside its range; the message names it.

    Source: steps, rate, warm-up, flat part and batch: the authors' code of arXiv 2110.06309 (FT-w2v2-ser).
    """

    _: KW_ONLY
    steps: Count | None = None
    epochs: Count | None = None
    lr: Positive = 1e-4
    warmup_steps: CountFromZero = 100
    flat_fraction: Share = 0.05
    batch_size: Count = 64
    chunk_s: Positive = 5.0  # ours: without padding. In the source whole utterances of up to 10 s
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"  # ours
    weight_decay: NotNegative = 0.01  # arXiv 2006.11477, official code
    clip_norm: Positive | None = 3.0  # as in DINO pretraining
    run: RunSettings = field(default_factory=RunSettings)

    purpose: ClassVar[str]  # under which provenance tells the identity of a run

    def __post_init__(self) -> None:
        require_declared(self)
        if self.epochs is not None and self.steps is not None:
            raise InputError("epochs and steps are both given; give one of them")

    @alone()
    def fit(
        self: Trainer,
        manifest: Manifest | str | PathLike[str],
        *,
        output_folder: str | PathLike[str],
        seed: int = 1986,
        device: str | torch.device | None = None,
        resume: bool = True,
    ) -> Trainer:
        """Train, and leave the encoder at `<output_folder>/encoder`, for `load_encoder`, or what the class names.

        A run that was stopped goes on from its last saved state, to the same numbers. Beside the result the folder gets
        `history.jsonl`, `hyperparameters.json`, `state/`, and `skipped.csv` if files were skipped. Only the files of
        this manifest are opened. Global random generators are seeded.

        Args:
            manifest: the training audio; no label is read but those that the class names.
            output_folder: made with its parents.
            seed: of everything random.
            device: "cpu", "cuda", "cuda:N"; None: a GPU where there is one.
            resume: False starts anew.

        Raises:
            InputError: an encoder of another kind than the training needs, a label that is blank or no number, chunks
                too short, a state of another run is in `output_folder`, or most files are unusable.
            NonFiniteLoss: the loss was NaN or infinite.
            Interrupted: SIGINT or SIGTERM arrived; the state is saved.
        """
        manifest = manifest if isinstance(manifest, Manifest) else read_manifest(manifest)
        chosen = join_processes(device)
        identity = self.identity(manifest, seed, choose_precision(self.run.precision, chosen))
        run = ChunkRun(manifest, Path(output_folder), identity, seed, chosen, resume)
        found = self._train(run)
        self.history_, self.skipped_, self.stop_reason_ = found.history, found.skipped, found.stop_reason
        origin = run.origin | {self.purpose: identity}
        Processes().from_main(lambda: self._save(run.folder, origin))
        return self

    def identity(self, manifest: Manifest, seed: int, precision: str) -> dict[str, Any]:
        """What must be the same where a run goes on, as plain data; each training adds the weights it begins with."""
        names = [item.name for item in fields(self) if item.name not in ("_", "run")]
        settings = {name: describe(getattr(self, name)) for name in names}
        return settings | {"precision": precision, "seed": seed, "train": describe_manifest(manifest)}

    def num_steps(self, num_utterances: int) -> int:
        """Optimizer steps of the whole run."""
        per_epoch = num_utterances // min(self.batch_size, num_utterances)
        return self.epochs * per_epoch if self.epochs is not None else self.steps or 20_000

    def lr_factor(self, step: int, num_steps: int) -> float:
        """What `lr` is multiplied by at a step, numbered from 0.

        Example:
            >>> trainer = ChunkTrainer(warmup_steps=2, flat_fraction=0.2)
            >>> [round(trainer.lr_factor(step, 10), 2) for step in (0, 1, 2, 4, 7, 9)]
            [0.5, 1.0, 1.0, 1.0, 0.5, 0.17]
        """
        warmup = min(self.warmup_steps, num_steps // 2)
        if step < warmup:
            return (step + 1) / warmup  # not from 0: the first step would be lost
        fall_from = warmup + round(self.flat_fraction * num_steps)
        return 1.0 if step < fall_from else (num_steps - step) / (num_steps - fall_from)

    def chunks_of(self, manifest: Manifest, *, min_samples: int, seed: int) -> CropDataset:
        """Random chunks `long` (1, S) of utterances that are no shorter than `min_samples`."""
        chunks = RandomChunk(self.chunk_s, min_s=min_samples / SAMPLE_RATE)
        return CropDataset(manifest, chunks, seed=seed, cache_gib=self.run.cache_gib)

    def _train(self, run: "ChunkRun") -> Outcome:
        """Train the one objective; a training in several parts has its own."""
        seed_everything(run.seed)
        objective = self._objective(run).to(run.device)
        found = run.minimise(objective, self)
        self._keep(objective, run)
        return found

    def _objective(self, run: "ChunkRun") -> Any:
        """What is minimised, as it begins."""
        raise NotImplementedError

    def _keep(self, objective: Any, run: "ChunkRun") -> None:
        """Make the learnt attributes of a trained objective."""
        raise NotImplementedError

    def _save(self, folder: Path, origin: dict[str, Any]) -> None:
        """Write the result, with where it comes from."""
        raise NotImplementedError


@dataclass(frozen=True)
class ChunkRun:
    """One call of `fit`; `identity` is what must be the same where it goes on, with the precision."""

    manifest: Manifest
    folder: Path
    identity: dict[str, Any]
    seed: int
    device: torch.device
    resume: bool

    @property
    def origin(self) -> dict[str, Any]:
        """The provenance of what the run gives."""
        return provenance(seed=self.seed, manifest=list(self.manifest.paths))

    def minimise(self, objective: Objective, hyper: ChunkTrainer) -> Outcome:
        """Train an objective in place, as `training.loop.train` does."""
        run = replace(hyper.run, precision=self.identity["precision"])
        options: dict[str, Any] = {"origin": self.origin, "seed": self.seed, "resume": self.resume}
        return train(ChunkTraining(objective, hyper, self), run, self.folder, self.identity, **options)


class ChunkTraining(Training):
    """Trains an objective, which is on its device, by the steps of `hyper` on the chunks of a run."""

    def __init__(self, objective: Objective, hyper: ChunkTrainer, run: ChunkRun) -> None:
        self.objective, self.hyper, self.manifest = objective, hyper, run.manifest
        self.seed, self.device, self.clip_norm = run.seed, run.device, hyper.clip_norm
        self.num_steps = hyper.num_steps(len(run.manifest))
        self.batch_size = batch_of(hyper.batch_size, len(run.manifest))
        self.dataset = hyper.chunks_of(run.manifest, min_samples=objective.min_samples, seed=run.seed)
        groups = split_by_decay(objective.parameters(), weight_decay=hyper.weight_decay)
        self.optimizer = optimizer_of(hyper.optimizer, [group for group in groups if group["params"]], lr=hyper.lr)

    def parts(self) -> dict[str, nn.Module]:
        """What is kept in a state."""
        return {"objective": self.objective}

    def begin(self, step: int, skipped: SkippedFiles) -> Stage:
        """The one stage."""
        self.objective.train()
        sampler = deal(len(self.manifest), self.batch_size, seed=self.seed, num_steps=self.num_steps, start_step=step)
        loader = read_batches(self.dataset, sampler, self.hyper.run, self.device, skipped)
        return Stage(self.optimizer, loader, 0, self.num_steps)

    def schedule(self, optimizer: Optimizer, step: int) -> None:
        """The learning rate."""
        for group in optimizer.param_groups:
            group["lr"] = self.hyper.lr_factor(step, self.num_steps) * self.hyper.lr

    def hear(self, batch: Mapping[str, Tensor], step: int, micro_batch: int) -> tuple[Tensor, Tensor]:
        """Chunks (B, S) and utterances (B,)."""
        return batch["long"].squeeze(1).to(self.device, non_blocking=True), batch["index"].to(self.device)

    def losses(self, heard: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        """Those of the objective."""
        return self.objective.losses(*heard, step)

    def row(self, step: int, means: Mapping[str, Tensor], grad_norm: float) -> dict[str, Any]:
        """Means of all figures."""
        figures = {name: round(float(mean), 6) for name, mean in means.items()}
        return {**figures, "lr": self.optimizer.param_groups[0]["lr"]}
