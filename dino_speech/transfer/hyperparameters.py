"""The hyper-parameters of fine-tuning as a whole; those of each stage are in `stages.py`. Checked before anything runs.

Sources: [C] the second stage of the authors' speaker recipes (hyperion, egs/voxceleb/ssl.v1); [ours] chosen here.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any, Literal

from dino_speech.argument_checks import Count, NotNegative, Positive, Share, require, require_declared
from dino_speech.audio.io import SILENT_DBFS
from dino_speech.data.folds import SPEAKER
from dino_speech.errors import InputError
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.training.schedules import linear_warmup
from dino_speech.training.settings import RunSettings
from dino_speech.training.training import batch_of
from dino_speech.transfer.heads import MARGIN_OBJECTIVES
from dino_speech.transfer.stages import FineTuneStage

# Came after the first states were saved: left out of a run's identity at these values, so that older runs go on.
LATER = {"silent_dbfs": SILENT_DBFS}


@dataclass
class TuningParameters:
    """Everything that can be set about a fine-tuning.

    Args:
        encoder: where to begin; `fit` trains a copy. One that whitens goes on to, by the same fixed map.
        label: the column to learn; with "ccc" a list of columns that hold numbers.
        stages: one after the other; each begins with the best encoder and head so far.
        objective: "cross_entropy"; "aam_softmax" or "subcenter_arcface" (classes with an angular margin, for
            speakers); "ccc" (dimensions).
        class_weights: "balanced": each class counts the same in the loss, however often it occurs; None: each
            utterance does; "auto": None under a margin, else "balanced".
        label_smoothing: share of the target that is spread over all classes.
        dropout: share of the embedding dropped before a linear head, in training.
        margin: of the margin objectives, in radians.
        margin_warmup_fraction: share of all steps in which the margin rises from 0.
        scale: of the margin objectives' cosines.
        num_subcenters: of each class, with "subcenter_arcface".
        batch_size: utterances per step; a smaller training set is one batch.
        optimizer: "adamw", "adam" or "sgd".
        betas: of Adam and AdamW.
        momentum: of SGD.
        clip_norm: limit of the global norm of all gradients; None: no limit.
        patience: end a stage after so many epochs without a better validation; None: never.
        segment_s: long recordings are judged by segments of this length (see `FineTunedSystem`); None: whole.
        silent_dbfs: chunks of a lower level are not trained on.
        speaker: the column that training, validation and test may not share a value of.
        run: how it is carried out: precision, workers, saving; see `RunSettings`.

    Raises:
        InputError: a value outside its range; the message names it.
    """

    encoder: SpeechEncoder
    _: KW_ONLY
    label: str | Sequence[str]
    stages: Sequence[FineTuneStage]
    objective: Literal["cross_entropy", "aam_softmax", "subcenter_arcface", "ccc"] = "cross_entropy"
    # [ours]: UAR is what classes are judged by; speakers are by the EER, and none of the speaker recipes weighs them.
    class_weights: Literal["auto", "balanced"] | None = "auto"
    label_smoothing: Share = 0.0
    dropout: Share = 0.0
    margin: NotNegative = 0.2  # arXiv 2005.07143, Sec. 4; [C]: 0.3
    margin_warmup_fraction: Share = 0.2  # [ours]
    scale: Positive = 30.0  # arXiv 2005.07143, Sec. 4
    num_subcenters: Count = 3  # Deng et al., ECCV 2020, Sec. 4.2
    batch_size: Count = 48  # [ours]
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: Share = 0.9
    clip_norm: Positive | None = 3.0  # as in pretraining
    patience: Count | None = None
    segment_s: Positive | None = None
    silent_dbfs: float = SILENT_DBFS
    speaker: str = SPEAKER
    run: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        if self.class_weights == "auto":
            self.class_weights = None if self.objective in MARGIN_OBJECTIVES else "balanced"
        if self.class_weights not in ("balanced", None):
            raise InputError(f"class_weights = {self.class_weights!r}: expected 'balanced' or None")
        require_declared(self)
        require("batch_size", self.batch_size, "at least 2", lambda value: value >= 2)
        if not self.stages or not all(isinstance(stage, FineTuneStage) for stage in self.stages):
            raise InputError(f"stages = {self.stages!r}: expected a list with at least one FineTuneStage")
        if self.objective == "ccc" and not self.labels:
            raise InputError("label is empty: expected at least one column that holds numbers")
        if self.objective != "ccc" and not isinstance(self.label, str):
            expected = "expected its name, or objective='ccc' for columns that hold numbers"
            raise InputError(f"label = {self.label!r}: {self.objective} learns the classes of one column; {expected}")

    @property
    def labels(self) -> list[str]:
        """The columns that are learnt."""
        return [self.label] if isinstance(self.label, str) else list(self.label)

    def batch_of(self, num_utterances: int) -> int:
        """Utterances per step, of a training set of this size."""
        return batch_of(self.batch_size, num_utterances)

    def head_options(self) -> dict[str, Any]:
        """What the objective's head is built with."""
        if self.objective not in MARGIN_OBJECTIVES:
            return {"dropout": self.dropout}
        num_subcenters = self.num_subcenters if self.objective == "subcenter_arcface" else 1
        return {"num_subcenters": num_subcenters, "margin": self.margin, "scale": self.scale}

    def margin_at(self, step: int, num_steps: int) -> float:
        """The margin at a step of the whole run: a function of the step, so nothing has to be saved."""
        return linear_warmup(step, round(self.margin_warmup_fraction * num_steps), 0.0, self.margin)

    def settings(self) -> dict[str, Any]:
        """What the result depends on, by name."""
        others = ("_", "run", "speaker")  # of the speakers only what is refused
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name not in others}
