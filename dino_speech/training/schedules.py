"""Lengths within a run, and values that change over it, as pure functions of the step: nothing to save or restore.

A length is said in what stays true for another batch or corpus: a whole number is steps; a number below 1, or "5 %",
a share of the run; "3 epochs" are passes over the data, "200000 utterances" what that many are in batches. A schedule
begins at step 0 with `start` and reaches `stop` at step `num_steps` (which a run, numbered from 0, just does not take);
from there on it stays. So an EMA momentum that rises to 1 still lets the teacher follow at the last step.
"""

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any

from dino_speech.argument_checks import AUTO, Range, is_whole
from dino_speech.errors import InputError

TEXT = re.compile(r"(\d[\d_]*(?:\.\d+)?)\s*(%|step|epoch|utterance)s?")


@dataclass(frozen=True)
class RunLength:
    """A run, in what lengths within it are counted in; a step is one of the optimizer."""

    num_steps: int
    steps_per_epoch: int
    batch_size: int  # utterances per step

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


AutoLength = Annotated[
    int | float | str,
    Range("steps (800), '70 epochs', '1200000 utterances' or auto", lambda value: value == AUTO or _is_run(value)),
]


def linear_warmup(step: int, warmup_steps: int, start: float, stop: float) -> float:
    """A straight ramp from `start` to `stop` over `warmup_steps`, then `stop`; without warm-up `stop` at once.

    Example:
        >>> [linear_warmup(step, 4, 0.04, 0.08) for step in (0, 2, 4, 9)]
        [0.04, 0.06, 0.08, 0.08]
    """
    return stop + (start - stop) * (1 - _progress(step, warmup_steps))


def cosine(step: int, num_steps: int, start: float, stop: float) -> float:
    """Half a cosine from `start` to `stop` over `num_steps`, slow at both ends, then `stop`.

    Example:
        >>> [round(cosine(step, 100, 0.996, 1.0), 4) for step in (0, 50, 100)]
        [0.996, 0.998, 1.0]

    Source: arXiv 1608.03983, Eq. 5, without restarts; for the teacher's momentum arXiv 2104.14294, Sec. 3.1.
    """
    return stop + (start - stop) * 0.5 * (1 + math.cos(math.pi * _progress(step, num_steps)))


def warmup_cosine(
    step: int, num_steps: int, peak: float, stop: float = 0.0, *, warmup_steps: int, start: float = 0.0
) -> float:
    """Linear from `start` to `peak` over the first `warmup_steps`, then half a cosine to `stop` at `num_steps`.

    Example:
        >>> [warmup_cosine(step, 100, 1.0, 0.5, warmup_steps=20) for step in (0, 10, 20, 60, 100)]
        [0.0, 0.5, 1.0, 0.75, 0.5]

    Raises:
        InputError: a warm-up as long as the run or longer, or below 0 steps.
    """
    if not 0 <= warmup_steps < max(num_steps, 1):
        raise InputError(
            f"a warm-up of {warmup_steps} steps, but the run has {num_steps}: it must be shorter than the run (0 for "
            "none); shorten the warm-up or train longer"
        )
    if step < warmup_steps:
        return linear_warmup(step, warmup_steps, start, peak)
    return cosine(step - warmup_steps, num_steps - warmup_steps, peak, stop)


def _progress(step: int, num_steps: int) -> float:
    """Share of the schedule that is behind, 0 to 1."""
    if step < 0 or num_steps < 0:
        raise InputError(f"a schedule was asked for step {step} of {num_steps}; expected numbers from 0 on")
    return min(step / num_steps, 1.0) if num_steps else 1.0
