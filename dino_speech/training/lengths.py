"""Lengths within a run, said in what stays true for another batch or corpus, and turned into optimizer steps.

A whole number is steps; a number below 1, or "5 %", is a share of the run; "3 epochs" are passes over the data, and
"200000 utterances" what that many are in batches.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from dino_speech.argument_checks import Range, is_whole

TEXT = re.compile(r"(\d[\d_]*(?:\.\d+)?)\s*(%|step|epoch|utterance)s?")


@dataclass(frozen=True)
class RunLength:
    """A run, in what lengths within it are counted in.

    Attributes:
        num_steps: optimizer steps of the whole run.
        steps_per_epoch: optimizer steps in one pass over the data.
        batch_size: utterances per optimizer step.
    """

    num_steps: int
    steps_per_epoch: int
    batch_size: int

    @classmethod
    def of(cls, length: float | str, *, num_utterances: int, batch_size: int) -> "RunLength":
        """A run of this length over so many utterances.

        Example:
            >>> RunLength.of("70 epochs", num_utterances=1000, batch_size=48).num_steps
            1400
        """
        epoch = max(1, num_utterances // batch_size)
        return cls(max(1, cls(0, epoch, batch_size).count(length)), epoch, batch_size)

    def count(self, length: float | str) -> int:
        """A length within the run, in optimizer steps.

        Example:
            >>> run = RunLength(num_steps=800, steps_per_epoch=100, batch_size=48)
            >>> [run.count(length) for length in (50, 0.05, "5 %", "1.5 epochs", "9_600 utterances")]
            [50, 40, 40, 150, 200]
        """
        number, unit = _parse(length)
        if unit == "%":
            return int(self.num_steps * number / 100 + 1e-9)  # a tenth of 29 steps is 2, and not less by rounding
        return round(number * {"step": 1, "epoch": self.steps_per_epoch, "utterance": 1 / self.batch_size}[unit])


def _parse(length: float | str) -> tuple[float, str]:
    """Number and unit; a `ValueError` or `TypeError` for what is no length."""
    if isinstance(length, str):
        found = TEXT.fullmatch(length.strip())
        if found is None:
            raise ValueError(length)
        return float(found[1].replace("_", "")), found[2]
    if is_whole(length):
        return length, "step"
    if isinstance(length, bool) or not 0 <= length < 1:
        raise ValueError(length)
    return 100 * length, "%"


def _is_length(value: Any) -> bool:
    try:
        number, unit = _parse(value)
    except ValueError:
        return False
    return number >= 0 and (unit != "%" or number <= 100)


def _is_run(value: Any) -> bool:
    return _is_length(value) and _parse(value)[0] > 0 and _parse(value)[1] != "%"


# Types of settings: a length within the run; the length of the run itself, which is no share, and not empty.
Length = Annotated[
    int | float | str,
    Range("steps (800), a share of the run (0.05, '5 %'), '3 epochs' or '200000 utterances'", _is_length),
]
LengthOfRun = Annotated[int | float | str, Range("steps (800), '70 epochs' or '1200000 utterances'", _is_run)]
