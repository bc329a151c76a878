"""What trains when: a stage of fine-tuning, and freezing that holds.

A frozen part has no gradient and stands in evaluation mode, whatever mode its surroundings are put into: without the
second, BatchNorm statistics would go on moving and dropout go on drawing. What takes the steps is `staged_training.py`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from fnmatch import fnmatchcase
from types import MethodType

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dino_speech.argument_checks import Count, NotNegative, Positive, PositiveShare, Share, require_declared
from dino_speech.errors import InputError
from dino_speech.models.encoder import SpeechEncoder

EPOCHS = 10
WORDS = ("head", "affine", "all")
NUM_NAMED = 12


@dataclass(frozen=True)
class FineTuneStage:
    """One stage: which parts train, for how long, how fast, and on what they are trained.

    Args:
        train: "head"; "affine": head and the encoder's last affine layers; "all"; or patterns of names as
            `encoder.named_modules()` gives them (`backbone.model.blocks.3`, `backbone.*.norm`): head and what matches,
            with all that is below it.
        epochs: passes over the training set; or else
        steps: optimizer steps (neither: 10 epochs).
        lr: peak learning rate of the head.
        encoder_lr: the same of the encoder's last layers; None: `lr`.
        layer_decay: factor, 0 to 1, on the learning rate for each further step from the encoder's last layer down.
        chunk_s: seconds of the random chunk that is cut from an utterance each time; a shorter one is repeated.
        augment: changes to batches of waveforms on the training device, `augment(waves, generator=...)`.
        spec_augment: masks on the features, `spec_augment(frames, generator=...)`.
        warmup_fraction: share of the stage in which the learning rates rise; then they fall by a cosine to 0.
        weight_decay: not for biases and other one-dimensional parameters.
        freeze_batchnorm: BatchNorm layers of the encoder stay as they are, also in parts that train.

    Raises:
        InputError: a value outside its range.

    Source: last affine layers first, then all: arXiv 2208.05445, abstract. `layer_decay`: arXiv 2106.08254, Sec. 3.2.
    """

    train: str | Sequence[str] = "all"
    _: KW_ONLY
    epochs: Count | None = None
    steps: Count | None = None
    lr: Positive = 1e-3
    encoder_lr: Positive | None = None
    layer_decay: PositiveShare = 1.0
    chunk_s: Positive = 3.0
    augment: Callable[..., Tensor] | None = None
    spec_augment: Callable[..., Tensor] | None = None
    warmup_fraction: Share = 0.1
    weight_decay: NotNegative = 1e-4
    freeze_batchnorm: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.train, str) and self.train not in WORDS:
            expected = f"one of {', '.join(WORDS)}, or a list of patterns of module names"
            raise InputError(f"train = {self.train!r}: expected {expected}")
        if not isinstance(self.train, str) and not (self.train and all(isinstance(name, str) for name in self.train)):
            raise InputError(f"train = {self.train!r}: expected a list with at least one pattern of module names")
        if self.epochs is not None and self.steps is not None:
            raise InputError("epochs and steps are both given; give one of them")
        require_declared(self)
        if self.warmup_fraction == 1:
            raise InputError("warmup_fraction = 1: expected less, or the stage would never reach its learning rate")

    def num_steps(self, steps_per_epoch: int) -> int:
        """Optimizer steps of the stage."""
        return self.steps or (self.epochs or EPOCHS) * steps_per_epoch


def trained_modules(encoder: SpeechEncoder, stage: FineTuneStage) -> list[str]:
    """Names of the encoder's modules that a stage trains, with all below them; "" is the whole encoder.

    A pattern that matches nothing, or nothing that has parameters: an `InputError`.
    """
    if stage.train == "head":
        return []
    if stage.train == "all":
        return [""]
    if stage.train == "affine":
        if not encoder.affine_modules:
            raise InputError(f"the encoder {encoder.config.name!r} has no affine layers to train; take train='head'")
        return list(encoder.affine_modules)
    modules = {name: module for name, module in encoder.named_modules() if name}
    found: list[str] = []
    for pattern in stage.train:
        matching = [name for name in modules if fnmatchcase(name, pattern)]
        if not any(True for name in matching for _ in modules[name].parameters()):
            none = f"the pattern {pattern!r} matches no part of the encoder that has parameters"
            raise InputError(f"train: {none}; its parts are {_some_names(encoder)}")
        found += matching
    return list(dict.fromkeys(found))


def freeze_for(encoder: SpeechEncoder, stage: FineTuneStage) -> None:
    """Freeze all that the stage does not train, and free the rest; what an earlier stage froze is free again.

    Frozen parts are in evaluation mode from here on, also after `.train()` on the encoder or on any part of it.
    """
    names = trained_modules(encoder, stage)
    unfreeze(encoder)
    for name, module in encoder.named_modules():
        if not any(is_within(name, trained) for trained in names):
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
            if not any(is_within(trained, name) for trained in names):  # else some part below it trains
                _hold_in_eval(module)
        elif stage.freeze_batchnorm and isinstance(module, _BatchNorm):
            module.requires_grad_(False)
            _hold_in_eval(module)
    encoder.train()


def unfreeze(encoder: nn.Module) -> None:
    """Undo `freeze_for`: every parameter has a gradient, and `.train()` works everywhere."""
    for module in encoder.modules():
        module.__dict__.pop("train", None)
    encoder.requires_grad_(True)


def _hold_in_eval(module: nn.Module) -> None:
    # A bound method, so that a deep copy of the module holds itself and not its original.
    module.train = MethodType(_stay_in_eval, module)  # type: ignore[method-assign]
    module.training = False


def _stay_in_eval(module: nn.Module, mode: bool = True) -> nn.Module:
    """In place of a frozen module's `train`: it and all below it evaluate."""
    for part in module.modules():
        part.training = False
    return module


def is_within(name: str, container: str) -> bool:
    """Whether a module or parameter is this one, or below it."""
    return not container or name == container or name.startswith(f"{container}.")


def _some_names(encoder: SpeechEncoder) -> str:
    names: Iterable[str] = [name for level in encoder.depth_modules for name in level]
    shown = [*names, *(name for name in encoder.affine_modules if name not in names)]
    return ", ".join(shown[:NUM_NAMED]) + (", ..." if len(shown) > NUM_NAMED else "")
