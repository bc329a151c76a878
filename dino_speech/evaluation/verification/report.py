"""What a verification found: every figure, with its interval and what it rests on."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.trials import Trials
from dino_speech.data.utterances import Skipped
from dino_speech.intervals import Interval
from dino_speech.plain_data import PlainData


@dataclass(frozen=True, eq=False)
class VerificationReport(PlainData):
    """What `evaluate_verification` found. `eer` and its intervals are in percent; min_dcf is normalised.

    Args:
        eer: equal error rate; `eer_threshold`: accept at or above it to work near the EER. Chosen on these trials, so
            only a starting point.
        min_dcf: at p_target = 0.01, costs 1 and 1; `min_dcf_05`: at p_target = 0.05; `min_cllr`: bits; 1 is useless.
        num_trials: scored, `num_targets` of them targets; of `num_dropped_trials` the audio of a side was skipped.
        eer_interval: 95 %, like `min_dcf_interval`.
        resampled: "speakers", of whom there are `num_speakers`; or "trials" where the manifest does not name all of
            them (then None).
        num_utterances: embedded.
        skipped: that audio, and why; also audio of the training, cohort and calibration material.
        backend: what made the scores: `name`, and what it was fitted on.
        score_norm: None, or `kind`, `num_cohort` (utterances), `num_compared` (their speakers, and utterances
            whose speaker is not known) and `top` of these.
        calibration: None, or `p_target`, `weights` (of the score and the quality inputs), `offset`, `quality`, and
            `cllr`, `act_dcf` beside the least that the order of the scores allows, `min_cllr`, `min_dcf` (all at
            `p_target`), with `intervals`; `cllr_before`, `act_dcf_before` where the scores were likelihood ratios
            before, else None. The scores are then natural-log likelihood ratios.
        groups: EER of the trials with both sides in each group (NaN: one kind of trial only), of which there are
            `group_trials`.
        scores: (num_trials,) in the order of the list, dropped ones left out.
        labels: (num_trials,) 1 target, 0 non-target.
        trials: the trials that were scored, in this order.
    """

    eer: float
    min_dcf: float
    num_trials: int
    min_dcf_05: float
    min_cllr: float
    eer_threshold: float
    eer_interval: Interval
    min_dcf_interval: Interval
    resampled: str
    num_speakers: int | None
    warnings: list[str]
    num_targets: int
    num_utterances: int
    num_dropped_trials: int
    skipped: list[Skipped]
    backend: dict[str, Any]
    score_norm: dict[str, Any] | None
    calibration: dict[str, Any] | None
    groups: dict[str, float]
    group_trials: dict[str, int]
    scores: NDArray[np.float32] = field(repr=False)
    labels: NDArray[np.int8] = field(repr=False)
    provenance: dict[str, Any] = field(repr=False)
    trials: Trials = field(repr=False)

    @property
    def gives_ratios(self) -> bool:
        """Whether the scores are natural-log likelihood ratios: calibrated, or PLDA's own."""
        return self.calibration is not None or (self.backend["name"] == "plda" and self.score_norm is None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without what each trial was and got."""
        return {name: value for name, value in PlainData.to_dict(self).items() if name != "trials"}

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Heading -> rows, for a report."""
        row = {
            "EER in %": self.eer,
            "EER, 95 %": self.eer_interval,
            "minDCF(0.01)": self.min_dcf,
            "minDCF(0.05)": self.min_dcf_05,
            "min Cllr": self.min_cllr,
            "trials": self.num_trials,
            "speakers": self.num_speakers,
            "back-end": self.backend["name"],
            "score norm": self.score_norm["kind"] if self.score_norm else None,
        }
        calibration = self.calibration or {"intervals": {}}
        row |= {
            f"{name}{end}": value
            for name, interval in calibration["intervals"].items()
            for end, value in (("", calibration[name]), (", 95 %", interval))
        }
        groups = [{"group": k, "EER in %": eer, "trials": self.group_trials[k]} for k, eer in self.groups.items()]
        return {"Results": [row], "By group": groups}
