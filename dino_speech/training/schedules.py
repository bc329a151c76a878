"""Values that change over training, as pure functions of the step: nothing to save, nothing to restore.

Each begins at step 0 with `start` and reaches `stop` at step `num_steps` (which a run of `num_steps` steps, numbered
from 0, just does not take); from there on it stays. So an EMA momentum that rises to 1 still lets the teacher
follow at the last step.
"""

import math

from dino_speech.errors import InputError


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
