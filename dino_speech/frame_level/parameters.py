"""Hyper-parameters of steps on random chunks (`chunk_training.py`), checked before anything runs."""

from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any, Literal

from dino_speech.argument_checks import require_choice, require_ranges
from dino_speech.data.manifest import Manifest
from dino_speech.errors import InputError
from dino_speech.training.optimizer import OPTIMIZERS
from dino_speech.training.run_identity import describe, describe_manifest
from dino_speech.training.settings import RunSettings


@dataclass
class StepParameters:
    """Hyper-parameters of the steps.

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

    Raises:
        InputError: a value outside its range; the message names it.

    Source: steps, rate, warm-up, flat part and batch: the authors' code of arXiv 2110.06309 (FT-w2v2-ser).
    """

    _: KW_ONLY
    steps: int | None = None
    epochs: int | None = None
    lr: float = 1e-4
    warmup_steps: int = 100
    flat_fraction: float = 0.05
    batch_size: int = 64
    chunk_s: float = 5.0  # ours: without padding. In the source whole utterances of up to 10 s
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"  # ours
    weight_decay: float = 0.01  # arXiv 2006.11477, official code
    clip_norm: float | None = 3.0  # as in DINO pretraining
    run: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        require_choice(self, "optimizer", OPTIMIZERS)
        if self.epochs is not None and self.steps is not None:
            raise InputError("epochs and steps are both given; give one of them")
        require_ranges(
            self,
            counts=("steps", "epochs", "batch_size"),
            counts_from_zero=("warmup_steps",),
            positive=("lr", "chunk_s", "clip_norm"),
            not_negative=("weight_decay",),
            shares=("flat_fraction",),
        )

    def num_steps(self, num_utterances: int) -> int:
        """Optimizer steps of the whole run."""
        per_epoch = num_utterances // min(self.batch_size, num_utterances)
        return self.epochs * per_epoch if self.epochs is not None else self.steps or 20_000

    def lr_factor(self, step: int, num_steps: int) -> float:
        """What `lr` is multiplied by at a step, numbered from 0.

        Example:
            >>> loop = StepParameters(warmup_steps=2, flat_fraction=0.2)
            >>> [round(loop.lr_factor(step, 10), 2) for step in (0, 1, 2, 4, 7, 9)]
            [0.5, 1.0, 1.0, 1.0, 0.5, 0.17]
        """
        warmup = min(self.warmup_steps, num_steps // 2)
        if step < warmup:
            return (step + 1) / warmup  # not from 0: the first step would be lost
        fall_from = warmup + round(self.flat_fraction * num_steps)
        return 1.0 if step < fall_from else (num_steps - step) / (num_steps - fall_from)

    def identity(self, manifest: Manifest, seed: int, precision: str) -> dict[str, Any]:
        """What must be the same where a run goes on, as plain data; without the weights that it begins with."""
        names = [item.name for item in fields(self) if item.name not in ("_", "run")]
        settings = {name: describe(getattr(self, name)) for name in names}
        return settings | {"precision": precision, "seed": seed, "train": describe_manifest(manifest)}
