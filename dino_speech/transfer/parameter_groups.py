"""Learning rates of a stage: the head's, the encoder's last depth's, and less for each depth below."""

from typing import Any

from torch import nn

from dino_speech.models.encoder import SpeechEncoder
from dino_speech.training.optimizer import split_by_decay
from dino_speech.transfer.stages import FineTuneStage, is_within


def parameter_groups(head: nn.Module, encoder: SpeechEncoder, stage: FineTuneStage) -> list[dict[str, Any]]:
    """Groups for the optimizer, of what `freeze_for` left free; each states its peak rate as `peak_lr` and `lr`.

    The head has `lr`; the encoder's last depth `encoder_lr`, and each depth below `layer_decay` times that above it.
    """
    groups = [("head", stage.lr, list(head.parameters()))]
    peak = stage.lr if stage.encoder_lr is None else stage.encoder_lr
    levels = encoder.depth_modules
    members: dict[int, list[nn.Parameter]] = {}
    for name, parameter in encoder.named_parameters():
        depths = [depth for depth, level in enumerate(levels) if any(is_within(name, part) for part in level)]
        below_top = len(levels) - 1 - depths[0] if depths else 0
        members.setdefault(below_top, []).append(parameter)
    groups += [
        (f"encoder depth -{below_top}", peak * stage.layer_decay**below_top, members[below_top])
        for below_top in sorted(members)
    ]
    return [
        {**group, "lr": lr, "peak_lr": lr, "name": name}
        for name, lr, parameters in groups
        for group in split_by_decay(parameters, weight_decay=stage.weight_decay)
        if group["params"]
    ]
